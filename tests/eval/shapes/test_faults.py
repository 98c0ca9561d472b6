import numpy as np
import pytest

from eval.shapes.faults import FAULTS, Clip
from eval.shapes.observe import observe
from eval.shapes.validation import clean_accuracy, clips_of, falls, fault_table

STRENGTHS = (0.0, 0.35, 0.7, 1.0)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    """Two objects each: every dimension applies."""
    return clips_of(20, objects=2, seed=31)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_lowers_its_dimensions_as_it_grows(fault, clips):
    table = fault_table(observe, clips, STRENGTHS, [fault], seed=1)
    assert table.broken() == []
    for name in FAULTS[fault].lowers:
        assert table.course(fault, name)[0] > 0.97


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_at_half_and_full_strength(fault, clips):
    table = fault_table(observe, clips[4:7], (0.0, 0.5, 1.0), [fault], seed=1)
    assert table.broken() == []


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_seeded_and_vanish_at_zero(fault, clips):
    clip = clips[3]
    assert np.array_equal(FAULTS[fault](clip, 0.0, 5), clip.paint())
    assert np.array_equal(FAULTS[fault](clip, 1.0, 5), FAULTS[fault](clip, 1.0, 5))
    spoiled = FAULTS[fault](clip, 1.0, 5)
    assert spoiled.dtype == np.uint8
    assert spoiled.shape == (8, 32, 32, 3)
    assert any(not np.array_equal(FAULTS[fault](other, 1.0, 5), other.paint()) for other in clips)


@pytest.mark.parametrize("strength", [-0.1, 1.5])
def test_a_strength_outside_its_range_is_refused(strength, clips):
    with pytest.raises(ValueError, match=f"strength={strength} is outside 0 to 1"):
        FAULTS["blur"](clips[0], strength, 0)


def test_wrong_words_hit_the_share_of_clips_that_strength_says(clips):
    hit = [not np.array_equal(FAULTS["wrong background"](clips[0], 0.3, s), clips[0].paint()) for s in range(400)]
    assert np.mean(hit) == pytest.approx(0.3, abs=0.07)


def test_reversed_is_the_clip_played_backwards(clips):
    assert np.array_equal(FAULTS["reversed"](clips[0], 1.0, 0), clips[0].paint()[::-1])


def test_falling_is_told_from_rising():
    assert falls([1.0, 0.9, 0.9, 0.3])
    assert not falls([1.0, 0.9, 0.95, 0.3])
    assert not falls([1.0, 1.0, 1.0, 0.99])


def test_a_judge_that_says_the_same_of_all_clips_is_found_out(clips):
    always = observe(clips[0].paint())
    assert clean_accuracy(lambda frames: always, clips)["all"] < 0.1
    assert fault_table(lambda frames: always, clips, (0.0, 1.0), ["wrong shape"]).broken()


def test_what_cannot_be_validated_is_refused(clips):
    with pytest.raises(ValueError, match="no clips"):
        fault_table(observe, [])
    with pytest.raises(ValueError, match="no clips"):
        clean_accuracy(observe, [])
    with pytest.raises(ValueError, match="unknown faults rust; choose out of color swap"):
        fault_table(observe, clips, faults=["rust"])
    single = clips_of(1, objects=1)
    with pytest.raises(ValueError, match="no clip has spatial_relationship under 'wrong side'"):
        fault_table(observe, single, (0.0, 1.0), ["wrong side"]).broken()
