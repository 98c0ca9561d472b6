from importlib.resources import files

import numpy as np
import pytest
import torch

from eval.metric import VideoFacts
from eval.run import score_frames
from eval.shapes.judge import agreement_of, made_by, network_observe
from eval.shapes.observe import observe
from eval.suites import ShapeBench
from lingen_kit.data.shapes import MovingShapesDataset
from lingen_kit.data.shapes_grammar import canonical_color
from lingen_kit.tasks.shape_judge import worsened
from lingen_kit.video import to_uint8


def clips(objects: int, count: int, damage: float = 0.0, **options: int) -> list[tuple[np.ndarray, dict]]:
    dataset = MovingShapesDataset(objects=(objects, objects), held_out=0, seed=4321, **options)
    found = []
    for index in range(count):
        sample = dataset[index]
        found.append((to_uint8(worsened(sample["video"], index, damage)), sample["attributes"]))
    return found


def shares(found: list[tuple[np.ndarray, dict]]) -> dict[str, float]:
    hits: dict[str, list[bool]] = {name: [] for name in ("objects", "background", "shape", "action", "size")}
    for frames, truth in found:
        seen = network_observe(frames)
        words = {canonical_color(thing["color"]): thing for thing in truth["objects"]}
        hits["objects"].append({thing.color for thing in seen.objects} == set(words))
        hits["background"].append(seen.background == truth["background"])
        for thing in seen.objects:
            for word in ("shape", "action", "size"):
                hits[word].append(thing.color in words and getattr(thing, word) == words[thing.color][word])
    return {name: float(np.mean(values)) for name, values in hits.items()}


@pytest.mark.parametrize("objects", [1, 2, 3])
def test_words_of_clean_clips_are_right(objects: int) -> None:
    found = shares(clips(objects, 24))
    assert min(found.values()) >= 0.95, found


def test_words_of_clips_that_were_made_worse_are_mostly_right() -> None:
    found = shares(clips(2, 24, damage=1.0))
    assert min(found.values()) >= 0.9, found


def test_other_sizes_and_lengths_are_looked_at_too() -> None:
    found = shares(clips(1, 12, height=64, width=64, frames=20))
    assert min(found.values()) >= 0.9, found


def test_both_judges_agree_on_clean_clips_and_not_on_noise() -> None:
    alike = [agreement_of(observe(frames), network_observe(frames)) for frames, _ in clips(2, 12)]
    assert np.mean([value for found in alike for value in found.values()]) > 0.97
    noise = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    assert observe(noise).objects == ()


def test_confidence_is_high_on_clean_clips_and_lower_on_bad_ones() -> None:
    def sure(damage: float) -> float:
        seen = [network_observe(frames) for frames, _ in clips(1, 12, damage)]
        return float(np.mean([thing.confidence["shape"] for observation in seen for thing in observation.objects]))

    assert sure(0.0) > 0.95
    assert sure(3.0) < sure(0.0)


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
