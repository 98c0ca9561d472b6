import math
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from eval.metric import VideoFacts
from eval.run import score_frames
from eval.shapes.judge import agreement_of, made_by, network_observe, reworded
from eval.shapes.judge_network import _fitted
from eval.shapes.observation import SceneObservation
from eval.shapes.observe import observe
from eval.suites import ShapeBench
from lingen_kit.data.shapes import MovingShapesDataset
from lingen_kit.data.shapes_grammar import canonical_color
from lingen_kit.video import to_uint8

Clips = list[tuple[np.ndarray, dict]]

BLIND = SceneObservation(None, math.inf, None, ())  # what formulas that see nothing say: all words are the network's


def clips(objects: int, count: int, seed: int = 4321, **options: int) -> Clips:
    dataset = MovingShapesDataset(objects=(objects, objects), held_out=0, seed=seed, **options)
    samples = [dataset[index] for index in range(count)]
    return [(to_uint8(sample["video"]), sample["attributes"]) for sample in samples]


def damaged(frames: np.ndarray, seed: int, strength: float = 1.0) -> np.ndarray:
    """Blurred, noised and with its colors off: other damage than that of training."""
    random = np.random.default_rng(seed)
    blurred = gaussian_filter(frames.astype(float), (0, 0.5 * strength, 0.5 * strength, 0))
    off = random.uniform(-12, 12, 3) + random.normal(0, 8, frames.shape)
    return (blurred + strength * off).round().clip(0, 255).astype(np.uint8)


def shares(found: Clips) -> dict[str, float]:
    """Share of right words of the network alone, over clips, and over the objects that are there."""
    hits: dict[str, list[bool]] = {name: [] for name in ("objects", "background", "shape", "action", "size")}
    for frames, truth in found:
        scene = reworded(BLIND, frames)
        seen = {thing.color: thing for thing in scene.objects}
        words = {canonical_color(thing["color"]): thing for thing in truth["objects"]}
        hits["objects"].append(set(seen) == set(words))
        hits["background"].append(scene.background == truth["background"])
        for color, thing in words.items():
            for word in ("shape", "action", "size"):
                hits[word].append(color in seen and getattr(seen[color], word) == thing[word])
    return {name: float(np.mean(values)) for name, values in hits.items()}


@pytest.mark.parametrize("objects", [1, 2, 3])
def test_words_of_clean_clips_are_right(objects: int) -> None:
    found = shares(clips(objects, 40))
    assert min(found.values()) >= 0.95, found


@pytest.mark.parametrize("objects", [1, 2])
def test_words_of_blurred_and_noisy_clips_are_right(objects: int) -> None:
    found = shares([(damaged(frames, index), truth) for index, (frames, truth) in enumerate(clips(objects, 40))])
    assert min(found.values()) >= 0.95, found


@pytest.mark.parametrize(("height", "width", "frames"), [(64, 64, 20), (32, 48, 8), (64, 32, 8), (45, 60, 16)], ids=str)
def test_other_sizes_proportions_and_lengths_are_read_as_well(height: int, width: int, frames: int) -> None:
    found = shares(clips(2, 20, height=height, width=width, frames=frames))
    assert min(found.values()) >= 0.95, found


def test_places_are_those_of_the_objects() -> None:
    for frames, truth in clips(2, 10, height=48, width=64, frames=12):
        words = {canonical_color(thing["color"]): thing for thing in truth["objects"]}
        for thing in reworded(BLIND, frames).objects:
            error = np.abs(thing.positions - words[thing.color]["positions"])
            assert error.shape == (12, 2) and np.median(error) < 2, thing.color  # pixels; places are 6 apart


def test_frames_keep_their_proportions_and_those_of_the_trained_size_their_pixels() -> None:
    video = torch.rand(1, 3, 8, 32, 32)
    assert torch.equal(_fitted(video), video.transpose(1, 2))
    for given, read in (((64, 64), (32, 32)), ((64, 96), (32, 48)), ((90, 45), (64, 32)), ((16, 16), (32, 32))):
        ramp = torch.linspace(-1, 1, given[1]).expand(1, 3, 1, *given)
        fitted = _fitted(ramp)
        assert fitted.shape == (1, 8, 3, *read)
        middle = ((torch.arange(read[1]) + 0.5) * given[1] / read[1] - 0.5) / (given[1] - 1) * 2 - 1
        inner = slice(2, -2)  # at the border there is less to average
        pixel = 2 / (given[1] - 1)  # by which the ramp rises
        assert torch.allclose(fitted[0, 0, 0, 0, inner], middle[inner], atol=0.05 * pixel), given


def test_frames_are_evenly_spaced_with_the_first_and_the_last() -> None:
    for frames, chosen in ((8, [0, 1, 2, 3, 4, 5, 6, 7]), (15, [0, 2, 4, 6, 8, 10, 12, 14]), (1, [0] * 8)):
        times = torch.arange(float(frames))[None, None, :, None, None].expand(1, 3, frames, 32, 32)
        assert _fitted(times)[0, :, 0, 0, 0].tolist() == chosen


def test_both_judges_agree_on_clean_clips() -> None:
    alike = [agreement_of(observe(frames), network_observe(frames)) for frames, _ in clips(2, 12)]
    assert np.mean([value for found in alike for value in found.values()]) > 0.97


def test_where_only_the_network_sees_something_the_judges_do_not_agree() -> None:
    random = np.random.default_rng(0)
    noise = (128 + 20 * random.standard_normal((8, 32, 32, 3))).clip(0, 255).astype(np.uint8)
    formulas, network = observe(noise), network_observe(noise)
    assert formulas.objects == () and network.objects != ()
    assert agreement_of(formulas, network) == {"objects": 0.0, "background": 0.0}


def test_agreement_counts_words() -> None:
    frames, _ = clips(2, 1)[0]
    scene = network_observe(frames)
    first, second = scene.objects
    assert agreement_of(scene, scene) == {"objects": 1, "background": 1, "shape": 1, "action": 1, "size": 1}
    other = replace(scene, background="none", objects=(replace(first, shape="none"), second))
    assert agreement_of(scene, other) == {"objects": 1, "background": 0, "shape": 0.5, "action": 1, "size": 1}
    fewer = replace(scene, objects=(replace(first, action="none"),))
    assert agreement_of(scene, fewer) == {"objects": 0, "background": 1, "shape": 1, "action": 0, "size": 1}
    nothing = replace(scene, objects=())
    assert agreement_of(scene, nothing) == {"objects": 0, "background": 1}


def test_confidence_is_high_on_clean_clips_and_lower_on_bad_ones() -> None:
    def sure(strength: float) -> float:
        seen = [reworded(BLIND, damaged(frames, index, strength)) for index, (frames, _) in enumerate(clips(1, 20))]
        return float(np.mean([thing.confidence["shape"] for observation in seen for thing in observation.objects]))

    assert sure(0.0) > 0.95
    assert sure(4.0) < sure(0.0) - 0.05


def test_geometry_comes_from_the_formulas() -> None:
    frames, truth = clips(1, 1)[0]
    [thing] = network_observe(frames).objects
    assert np.abs(thing.positions - truth["objects"][0]["positions"]).max() < 0.5


def test_the_suite_takes_the_networks_words_and_says_how_often_both_agree() -> None:
    dataset = MovingShapesDataset(objects=(2, 2), held_out=0, seed=3)
    sample = dataset[0]
    suite = ShapeBench(judge="network")
    facts = VideoFacts("x", 8, 8.0, 32, 32, sample["caption"])
    row = score_frames(suite, suite.prompt_of(sample["caption"]), facts, [to_uint8(sample["video"])])
    assert row["scores"]["shapebench/judges_agree"]["value"] == 1
    assert row["scores"]["shapebench/overall_consistency"]["value"] == 1
    assert suite.settings()["judge"] == "network"


def test_the_weights_are_small_and_named_by_their_hash() -> None:
    assert len((files("eval.shapes") / "judge.safetensors").read_bytes()) < 2 * 2**20
    assert len(made_by()["sha256"]) == 64


def test_what_is_no_clip_is_refused() -> None:
    with pytest.raises(ValueError, match=r"give \(T, H, W, 3\) uint8 frames, got float32"):
        network_observe(torch.zeros(8, 32, 32, 3).numpy())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got uint8 \(0, 32, 32, 3\)"):
        network_observe(np.zeros((0, 32, 32, 3), np.uint8))
