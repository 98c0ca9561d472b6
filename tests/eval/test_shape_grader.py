import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from eval.shape_grader import agreement, frames_of, grade
from lingen_kit.data.shapes import MovingShapesDataset
from lingen_kit.data.shapes_grammar import COLORS, DIRECTIONS, SHAPES, Scene

CLIPS = 320


def blur(video: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of each frame, in slices: threads of a convolution cost more than so small a map."""
    weights = torch.exp(-0.5 * (torch.arange(-2, 3) / sigma) ** 2)
    for axis in (2, 3):
        size = video.shape[axis]
        places = [(torch.arange(size) + step).clamp(0, size - 1) for step in range(-2, 3)]
        parts = [w * video.index_select(axis, at) for w, at in zip(weights, places, strict=True)]
        video = sum(parts) / weights.sum()
    return video


def noise(video: Tensor, sigma: float) -> Tensor:
    """Gaussian noise; sigma is a share of the range, which is 2."""
    return video + 2 * sigma * torch.randn(video.shape, generator=torch.Generator().manual_seed(0))


def tint(video: Tensor) -> Tensor:
    """Colors shifted by 19 of 255 in each channel."""
    return video + torch.tensor([0.15, -0.15, 0.15]).view(3, 1, 1, 1)


FAULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "blur of 0.8 pixels": lambda video: blur(video, 0.8),
    "noise of 0.1": lambda video: noise(video, 0.1),
    "shifted colors": tint,
    "all of them, milder": lambda video: noise(blur(tint(video), 0.6), 0.06),
}


@pytest.fixture(scope="module")
def dataset() -> MovingShapesDataset:
    return MovingShapesDataset(split="validation", seed=5)


@pytest.fixture(scope="module")
def videos(dataset) -> list[Tensor]:
    return [dataset[index]["video"] for index in range(CLIPS)]


@pytest.fixture(scope="module")
def scenes(dataset) -> list[Scene]:
    return [dataset.scene(index) for index in range(CLIPS)]


@pytest.fixture(scope="module")
def observed(videos):
    return [grade(frames_of(video)) for video in videos]


class TestTruth:
    def test_ground_truth_is_graded_right(self, observed, scenes):
        shares = agreement(observed, scenes)
        assert shares["clips"] == CLIPS == 320
        assert shares["clips_with_direction"] > 100
        assert shares["color"] >= 0.99
        assert shares["direction"] >= 0.99
        assert shares["shape"] >= 0.98
        assert shares["action"] >= 0.98
        assert shares["all"] >= 0.97

    @pytest.mark.parametrize("fault", FAULTS)
    def test_it_stands_faults(self, fault, videos, scenes):
        observed = [grade(frames_of(FAULTS[fault](video))) for video in videos[:160]]
        shares = agreement(observed, scenes[:160])
        for name in ("color", "direction", "shape", "action"):
            assert shares[name] >= 0.95, name

    def test_positions_areas_and_background(self, observed, dataset):
        for index, observation in enumerate(observed[:60]):
            truth = dataset[index]["attributes"]
            known = truth["objects"][0]
            assert observation.background == truth["background"]
            assert np.abs(observation.positions - known["positions"]).max() < 0.7
            # Coverage counts partly covered pixels, the mask only those covered by half.
            assert observation.areas == pytest.approx(truth["masks"][0].sum((1, 2)), rel=0.35)

    @pytest.mark.parametrize(
        "arguments",
        [dict(height=64, width=64, frames=16), dict(height=24, width=48, frames=5), dict(frames=1)],
        ids=["64x64, 16 frames", "24x48, 5 frames", "images"],
    )
    def test_other_sizes(self, arguments):
        dataset = MovingShapesDataset(split="validation", **arguments)
        observed = [grade(frames_of(dataset[index]["video"])) for index in range(40)]
        shares = agreement(observed, [dataset.scene(index) for index in range(40)])
        assert shares["all"] >= 0.97
        assert math.isnan(shares["direction"]) == (dataset.frames == 1)


class TestItSaysNo:
    """A grader that always agrees is worth nothing."""

    def test_another_color_of_the_object(self, dataset, scenes):
        repainted = []
        for index in range(60):
            thing = scenes[index].objects[0]
            other = list(COLORS)[(list(COLORS).index(thing.combination.color) + 1 + index % 10) % 11]
            repainted.append(replace(scenes[index], objects=(replace(thing, color=other),)))
        shares = agreement([grade(frames_of(dataset.paint(s)["video"])) for s in repainted], scenes[:60])
        assert shares["color"] == 0
        assert shares["all"] == 0
        assert shares["shape"] >= 0.98
        assert shares["action"] >= 0.98

    def test_another_shape(self, dataset, scenes):
        reshaped, kept = [], []
        for index, scene in enumerate(scenes[:80]):
            thing = scene.objects[0]
            other = SHAPES[(SHAPES.index(thing.shape) + 1 + index % 4) % 5]
            if thing.action != "rotates":
                kept.append(scene)
                reshaped.append(replace(scene, objects=(replace(thing, shape=other),)))
        shares = agreement([grade(frames_of(dataset.paint(s)["video"])) for s in reshaped], kept)
        assert shares["shape"] == 0
        assert shares["color"] >= 0.98

    def test_reversed_clips(self, videos, scenes):
        ways = [*DIRECTIONS, "grows", "shrinks"]
        chosen = [index for index, scene in enumerate(scenes) if scene.objects[0].action in ways]
        observed = [grade(frames_of(videos[index].flip(1))) for index in chosen]
        shares = agreement(observed, [scenes[index] for index in chosen])
        assert shares["direction"] == 0
        assert shares["action"] == 0
        assert shares["color"] >= 0.98

    def test_frozen_clips(self, videos, scenes):
        chosen = [index for index, scene in enumerate(scenes) if scene.objects[0].action != "stays"]
        observed = [grade(frames_of(videos[index][:, :1].repeat(1, 8, 1, 1))) for index in chosen]
        shares = agreement(observed, [scenes[index] for index in chosen])
        assert shares["direction"] == 0
        assert shares["action"] == 0

    def test_a_little_travel_is_no_direction(self, dataset, scenes):
        still = next(scene for scene in scenes if scene.objects[0].action == "stays")
        video = dataset.paint(still)["video"]
        drift = torch.stack([video[:, t].roll(t // 4, dims=-1) for t in range(8)], dim=1)
        assert grade(frames_of(drift)).direction is None

    def test_prompts_of_other_clips(self, observed, scenes):
        shares = agreement(observed, scenes[1:] + scenes[:1])
        assert shares["color"] < 0.25
        assert shares["shape"] < 0.4
        assert shares["all"] < 0.05

    def test_a_second_object(self):
        pairs = MovingShapesDataset(split="validation", objects=(2, 2), sizes=["large"], actions=["stays"])
        shapes = [grade(frames_of(pairs[index]["video"])).shape for index in range(30)]
        assert shapes.count(None) >= 24


def garbage(name: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    frames = np.full((8, 32, 32, 3), 90, np.uint8)
    if name == "noise":
        frames = rng.integers(0, 256, frames.shape, dtype=np.uint8)
    elif name == "faint noise":
        frames = np.clip(rng.normal(120, 25, frames.shape), 0, 255).astype(np.uint8)
    elif name == "stripes":
        frames[:, ::2] = 255
    elif name == "ramp":
        frames[:] = np.linspace(0, 255, 32).astype(np.uint8)[:, None]
    elif name == "flash":
        frames[3:5, 10:20, 10:20] = 250
    elif name == "blocks":
        frames = np.kron(rng.integers(0, 256, (8, 4, 4, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
    elif name == "one pixel":
        frames = frames[:1, :1, :1]
    return frames


class TestGarbage:
    @pytest.mark.parametrize(
        "name", ["blank", "noise", "faint noise", "stripes", "ramp", "flash", "blocks", "one pixel"]
    )
    def test_it_is_nothing(self, name):
        observation = grade(garbage(name))
        assert observation.color is None
        assert observation.shape is None
        assert observation.action is None
        assert observation.direction is None

    def test_tensors_that_are_not_finite(self):
        assert grade(frames_of(torch.full((3, 4, 32, 32), math.nan))).shape is None
        assert grade(frames_of(torch.randn(3, 4, 32, 32) * math.inf)).shape is None

    def test_a_flash_of_noise_hides_nothing(self, dataset, scenes):
        video = frames_of(dataset[0]["video"]).copy()
        video[3] = np.random.default_rng(0).integers(0, 256, video[3].shape)
        assert grade(video).color in (scenes[0].objects[0].combination.color, None)

    def test_wrong_arrays(self):
        with pytest.raises(ValueError, match="float64"):
            grade(np.zeros((8, 32, 32, 3)))
        with pytest.raises(ValueError, match="uint8 frames"):
            grade(np.zeros((3, 8, 32, 32), np.uint8))
        with pytest.raises(ValueError, match="a video is"):
            frames_of(torch.zeros(8, 3, 32, 32))

    def test_lists_of_different_lengths(self, observed, scenes):
        with pytest.raises(ValueError, match="320 observations for 3 scenes"):
            agreement(observed, scenes[:3])

    def test_scenes_of_several_objects(self, observed):
        pair = MovingShapesDataset(objects=(2, 2)).scene(0)
        with pytest.raises(ValueError, match="one object"):
            agreement(observed[:1], [pair])


def test_64_clips_take_under_2_seconds_of_a_processor(videos):
    frames = [frames_of(video) for video in videos[:64]]
    start = time.process_time()
    for clip in frames:
        grade(clip)
    assert time.process_time() - start < 2.0
