"""Weight-free metrics: values one can work out by hand, and the right order under injected faults."""

import math
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from eval.video_metrics import (
    BlockMotion,
    ColorConsistency,
    FrameInterpolationSmoothness,
    Metric,
    Sharpness,
    TemporalFlickering,
    score_video,
)

FLICKER = "temporal_flickering_unfiltered"
SMOOTH = "frame_interpolation_smoothness"
MOTION = "motion_short_sides_per_second"
COLORS = "color_consistency"
SHARP = "sharpness"


def flat(*levels: int) -> list[np.ndarray]:
    return [np.full((16, 24, 3), level, np.uint8) for level in levels]


def square_at(places: list[int], side: int = 32) -> list[np.ndarray]:
    """An orange square at columns `places`, on dark gray."""
    frames = []
    for place in places:
        frame = np.full((side, side, 3), 40, np.uint8)
        frame[10:20, place : place + 10] = (220, 120, 20)
        frames.append(frame)
    return frames


def texture(frames: int = 9, step: int = 0, side: int = 64) -> list[np.ndarray]:
    """A smooth pattern panning by `step` pixels a frame; equally fine, in shares of the side, at any side."""
    y, x = np.mgrid[:side, : side + 100] * (64 / side)
    rng = np.random.default_rng(0)
    waves = [np.sin(across * x + down * y + phase) for across, down, phase in rng.normal(0, [0.3, 0.3, 9], (30, 3))]
    pattern = np.sum(waves, axis=0)
    pattern = (pattern - pattern.min()) / (pattern.max() - pattern.min())
    image = np.repeat((pattern * 255)[..., None], 3, 2).astype(np.uint8)
    return [image[:, t * step : t * step + side] for t in range(frames)]


def value(metric: Metric, frames: list[np.ndarray]) -> float:
    for frame in frames:
        metric.update(frame)
    [(_, found)] = metric.compute()
    return found


class TestByHand:
    def test_flickering(self) -> None:
        # Differences 10, 0, 20: mean 10, so (255 - 10) / 255.
        assert value(TemporalFlickering(), flat(100, 110, 110, 90)) == pytest.approx(245 / 255)
        assert value(TemporalFlickering(), flat(0, 255, 0)) == 0

    def test_smoothness_of_a_fade(self) -> None:
        assert value(FrameInterpolationSmoothness(), flat(0, 10, 20, 30, 40)) == pytest.approx(1)
        # The frames at 1 and 3 are predicted as 10 and 30; they are 16 and 30: mean error 3.
        assert value(FrameInterpolationSmoothness(), flat(0, 16, 20, 30, 40)) == pytest.approx(252 / 255)

    @pytest.mark.parametrize("step", [1, 2, 3])
    def test_smoothness_follows_whole_pixel_motion(self, step: int) -> None:
        frames = square_at([2 + step * t for t in range(6)])
        assert value(FrameInterpolationSmoothness(), frames) > 0.996

    @pytest.mark.parametrize("step", [0, 1, 2, 3, 4])
    def test_motion_of_a_square(self, step: int) -> None:
        frames = square_at([2 + step * t for t in range(5)])
        assert value(BlockMotion(8), frames) == pytest.approx(step / 32 * 8, abs=1e-6)

    def test_motion_is_per_second_at_any_rate(self) -> None:
        frames = square_at([2 + t for t in range(13)])
        assert value(BlockMotion(24), frames) == pytest.approx(24 / 32, rel=0.1)

    def test_motion_of_a_pan_of_larger_frames(self) -> None:
        # 256 pixels are searched at 64, so a step of 4 is one pixel there, of 0.125 short sides a second.
        steps = [0, 1, 2, 4, 8, 16]
        found = [value(BlockMotion(8), texture(3, step, side=256)) for step in steps]
        assert found == pytest.approx([step / 256 * 8 for step in steps], abs=0.125)
        assert found[3:] == pytest.approx([0.125, 0.25, 0.5], rel=1e-5)  # whole pixels are exact

    def test_noise_and_flicker_are_hardly_motion(self) -> None:
        rng = np.random.default_rng(0)
        noise = [rng.integers(0, 256, (64, 64, 3)).astype(np.uint8) for _ in range(4)]
        assert value(BlockMotion(8), noise) < 0.1
        assert value(BlockMotion(8), flat(10, 200, 10, 200)) == 0

    def test_color_consistency(self) -> None:
        assert value(ColorConsistency(), flat(50, 50)) == pytest.approx(1)
        assert value(ColorConsistency(), flat(0, 255, 255)) == 0
        half = np.concatenate([flat(0)[0][:, :12], flat(255)[0][:, :12]], 1)
        # Histograms (1, 0) and (1/2, 1/2): sqrt(1 * 1/2).
        assert value(ColorConsistency(), [flat(0)[0], half]) == pytest.approx(math.sqrt(0.5))

    def test_color_consistency_is_continuous(self) -> None:
        frames = flat(*range(100, 140))
        jumps = [value(ColorConsistency(), list(pair)) for pair in pairwise(frames)]
        assert min(jumps) > 0.95

    def test_sharpness(self) -> None:
        assert value(Sharpness(), flat(80)) == pytest.approx(0, abs=1e-6)
        dot = np.zeros((5, 5, 3), np.uint8)
        dot[2, 2] = 255
        # The Laplacian is -4 at the dot and 1 at its four neighbors: 8 of 25.
        assert value(Sharpness(), [dot]) == pytest.approx(8 / 25, rel=1e-5)


class TestFaults:
    @pytest.fixture()
    def clean(self) -> list[np.ndarray]:
        return texture(9, 2)

    def test_flicker_lowers_flickering_and_smoothness(self, clean: list[np.ndarray]) -> None:
        scores = []
        for strength in (0, 10, 30, 60):
            faulty = [
                np.clip(frame.astype(int) + (-1) ** t * strength, 0, 255).astype(np.uint8)
                for t, frame in enumerate(clean)
            ]
            scores.append(score_video(faulty, 8))
        for name in (FLICKER, SMOOTH):
            assert sorted({s[name] for s in scores}, reverse=True) == [s[name] for s in scores]

    def test_jitter_lowers_smoothness(self) -> None:
        scores = []
        for strength in (0, 1, 2, 4):
            faulty = square_at([6 + t + strength * (t % 2) for t in range(9)])
            scores.append(score_video(faulty, 8)[SMOOTH])
        assert sorted(set(scores), reverse=True) == scores

    def test_blur_lowers_sharpness_alone(self, clean: list[np.ndarray]) -> None:
        scores, frames = [], clean
        for _ in range(4):
            scores.append(score_video(frames, 8))
            padded = [np.pad(f.astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge") for f in frames]
            frames = [
                sum(p[y : y + 64, x : x + 64] for y in range(3) for x in range(3)) / 9
                for p in padded  # type: ignore[misc]
            ]
            frames = [f.astype(np.uint8) for f in frames]
        sharp = [s[SHARP] for s in scores]
        assert sorted(set(sharp), reverse=True) == sharp
        assert all(abs(s[MOTION] - scores[0][MOTION]) < 0.1 * scores[0][MOTION] for s in scores)

    def test_faster_is_more_motion(self) -> None:
        found = [score_video(texture(6, step), 8)[MOTION] for step in (0, 1, 2, 4, 6)]
        assert sorted(set(found)) == found
        assert found[0] == 0

    def test_drifting_colors_lower_consistency(self) -> None:
        found = []
        for drift in (0, 2, 5, 10):
            frames = square_at([10] * 6)
            for t, frame in enumerate(frames):
                frame[..., 2] = np.clip(frame[..., 2].astype(int) + drift * t, 0, 255)
            found.append(score_video(frames, 8)[COLORS])
        assert sorted(set(found), reverse=True) == found

    def test_motion_does_not_lower_color_consistency(self) -> None:
        assert score_video(square_at([2, 8, 14, 20]), 8)[COLORS] == pytest.approx(1)


class TestScoreVideo:
    @pytest.mark.parametrize(
        ("count", "names"),
        [
            (1, {SHARP}),
            (2, {FLICKER, MOTION, COLORS, SHARP}),
            (3, {FLICKER, MOTION, COLORS, SHARP, SMOOTH}),
        ],
    )
    def test_figures_that_need_more_frames_are_absent(self, count: int, names: set[str]) -> None:
        scores = score_video(flat(*range(count)), 8)
        assert set(scores) == names
        assert all(math.isfinite(score) for score in scores.values())

    def test_memory_does_not_grow_with_length(self) -> None:
        def peak(count: int) -> int:
            def frames() -> Iterator[np.ndarray]:
                for t in range(count):
                    yield np.full((32, 32, 3), t, np.uint8)

            tracemalloc.start()
            score_video(frames(), 8)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return peak

        peak(3)
        assert peak(24) < 1.1 * peak(6)

    @pytest.mark.parametrize("shape", [(4, 4), (3, 3), (16, 16), (17, 33), (65, 130), (129, 70)])
    def test_any_size_is_scored(self, shape: tuple[int, int]) -> None:
        rng = np.random.default_rng(0)
        scores = score_video([rng.integers(0, 256, (*shape, 3)).astype(np.uint8) for _ in range(3)], 8)
        assert all(math.isfinite(score) for score in scores.values())

    def test_floating_point_frames_are_refused_nan_included(self) -> None:
        frame = np.zeros((8, 8, 3))
        frame[0, 0] = np.nan
        with pytest.raises(TypeError, match=r"float64.*NaN"):
            score_video([frame], 8)  # type: ignore[list-item]

    @pytest.mark.parametrize(
        ("frames", "message"),
        [
            ([], "no frames"),
            ([np.zeros((8, 8), np.uint8)], r"shape \(8, 8\)"),
            ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)], "one size"),
        ],
        ids=["empty", "gray", "changing size"],
    )
    def test_bad_frames_are_named(self, frames: list[np.ndarray], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            score_video(frames, 8)

    def test_a_bad_rate_is_named(self) -> None:
        with pytest.raises(ValueError, match="fps"):
            score_video(flat(1, 2), 0)
