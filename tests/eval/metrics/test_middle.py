"""Which frames are looked at: against the published formula with numpy, and however the video comes in."""

from itertools import pairwise

import numpy as np
import pytest

from eval.metrics.middle import MiddleFrames, middle_indices


@pytest.mark.parametrize("count", [1, 8, 16])
def test_the_middles_are_those_of_the_published_formula(count: int) -> None:
    for frames in [*range(1, 130), 240, 1001, 4096]:
        bounds = np.linspace(0, frames, min(count, frames) + 1).astype(int)
        expected = [int(low + (high - 1)) // 2 for low, high in pairwise(bounds)]
        expected += [expected[-1]] * (count - len(expected))
        assert middle_indices(count, frames) == expected, frames


def test_some_middles_worked_out_by_hand() -> None:
    assert middle_indices(4, 12) == [1, 4, 7, 10]
    assert middle_indices(4, 10) == [0, 3, 5, 8]  # stretches of 2, 3, 2 and 3
    assert middle_indices(5, 3) == [0, 1, 2, 2, 2]


@pytest.mark.parametrize("chunk", [1, 3, 7, 64])
@pytest.mark.parametrize("total", [1, 5, 16, 49])
def test_the_chosen_frames_are_the_same_in_chunks_of_any_size(chunk: int, total: int) -> None:
    video = np.arange(total, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, 3)
    middles = MiddleFrames(16, total)
    picked = [middles.pick(video[start : start + chunk]) for start in range(0, total, chunk)]
    middles.check()
    assert np.concatenate(picked)[:, 0, 0, 0].tolist() == middle_indices(16, total)


def test_a_chosen_frame_is_a_copy_that_does_not_keep_its_chunk() -> None:
    video = np.zeros((4, 2, 2, 3), np.uint8)
    assert not np.shares_memory(MiddleFrames(2, 4).pick(video), video)


def test_other_numbers_of_frames_than_announced_are_refused() -> None:
    middles = MiddleFrames(8, 10)
    middles.pick(np.zeros((9, 2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="9 frames went by where 10 were announced"):
        middles.check()
    with pytest.raises(ValueError, match="one frame at least, got 0"):
        middle_indices(8, 0)
