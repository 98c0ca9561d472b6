import math

import numpy as np
import pytest

from eval.shapes.faults import Clip
from eval.shapes.geometry import Geometry, Window, coverage_at, fit_geometry, grid
from eval.shapes.observe import observe
from eval.shapes.segment import blobs
from eval.shapes.validation import clean_accuracy, clips_of
from lingen_kit.data.shapes import MovingShapesDataset
from lingen_kit.data.shapes_renderer import Track, coverage, render


def noisy(frames: np.ndarray, sigma: float) -> np.ndarray:
    return np.clip(frames + np.random.default_rng(0).normal(0, sigma, frames.shape), 0, 255).astype(np.uint8)


def blurred(frames: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian, pixel by pixel, edges repeated."""
    result = frames.astype(float)
    weights = {step: math.exp(-0.5 * (step / sigma) ** 2) for step in range(-3, 4)}
    for axis in (1, 2):
        size = result.shape[axis]
        parts = [w * result.take(np.clip(np.arange(size) + k, 0, size - 1), axis) for k, w in weights.items()]
        result = sum(parts) / sum(weights.values())
    return np.rint(result).astype(np.uint8)


def tinted(frames: np.ndarray) -> np.ndarray:
    return np.clip(frames + np.array([19, -19, 19]), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [clip for objects in (1, 2, 3) for clip in clips_of(20, objects=objects, seed=21)]


class TestTruth:
    def test_words_of_clean_clips_are_right(self, clips):
        assert {len(clip.tracks) for clip in clips} == {1, 2, 3}
        shares = clean_accuracy(observe, clips)
        assert set(shares) == {"objects", "background", "color", "shape", "size", "action", "all"}
        for name, share in shares.items():
            assert share >= 0.98, name

    @pytest.mark.parametrize(
        "fault",
        [lambda f: blurred(f, 0.8), lambda f: noisy(f, 18), tinted, lambda f: noisy(blurred(tinted(f), 0.6), 10)],
        ids=["blur", "noise", "tint", "all, milder"],
    )
    def test_words_stand_what_generated_clips_have(self, fault, clips):
        shares = clean_accuracy(lambda frames: observe(fault(frames)), clips[20::4])
        for name in ("objects", "background", "color", "shape", "size", "action"):
            assert share_of(shares, name) >= 0.95, name

    @pytest.mark.parametrize("options", [dict(frames=16, side=64), dict(frames=1), dict(frames=2), dict(frames=5)])
    def test_other_sizes(self, options):
        shares = clean_accuracy(observe, clips_of(4, objects=3, seed=4, **options))
        for name in ("objects", "background", "color", "shape", "size"):
            assert share_of(shares, name) >= 0.97, name
        if options["frames"] > 1:
            assert shares["action"] >= 0.97

    def test_geometry_is_that_of_the_renderer(self, clips):
        for clip in clips[20::5]:
            observation = observe(clip.paint())
            centers = np.array([track.positions.mean(0) for track in clip.tracks])
            for seen in observation.objects:
                truth = clip.tracks[int(np.linalg.norm(centers - seen.positions.mean(0), axis=1).argmin())]
                assert np.abs(seen.positions - truth.positions).max() < 0.15
                assert seen.radii == pytest.approx(truth.radii, abs=0.15)
                assert np.abs(seen.colors - truth.rgb).max() < 12
                assert seen.blur < 0.35
                turned, asked = (abs(angles[-1] - angles[0]) for angles in (seen.angles, truth.angles))
                assert turned == pytest.approx(asked, abs=0.12)

    def test_a_changing_light_hides_nothing(self, clips):
        light = np.array([0, 25, -10, 30, 0, -25, 15, 5])[:, None, None, None]
        shares = clean_accuracy(
            lambda frames: observe(np.clip(frames.astype(int) + light, 0, 255).astype(np.uint8)), clips[20:40:2]
        )
        assert shares["objects"] >= 0.95
        assert shares["shape"] >= 0.95


def share_of(shares: dict[str, float], name: str) -> float:
    assert math.isfinite(shares[name])
    return shares[name]


class TestItSaysNo:
    def test_two_objects_of_one_color_are_two(self):
        tracks = [
            Track("circle", (225, 15, 15), np.full((8, 2), (8.0, 9.0)), np.full(8, 4.0), np.zeros(8)),
            Track("circle", (225, 15, 15), np.full((8, 2), (23.0, 22.0)), np.full(8, 4.0), np.zeros(8)),
        ]
        video, _ = render(tracks, (0, 0, 95), 32, 32)
        seen = observe(video.transpose(1, 2, 3, 0).astype(np.uint8)).objects
        assert [(thing.color, thing.shape, thing.action) for thing in seen] == [("red", "circle", "stays")] * 2

    def test_a_second_object_in_half_of_the_frames_is_seen_in_those(self):
        clip = clips_of(1, objects=2, seed=3)[0]
        frames = clip.paint()
        frames[4:] = clip.with_tracks(clip.tracks[:1]).paint()[4:]
        seen = sorted(observe(frames).objects, key=lambda thing: thing.present.sum())
        assert seen[0].present.tolist() == [True] * 4 + [False] * 4
        assert np.isnan(seen[0].positions[4:]).all()
        assert seen[1].present.all()

    @pytest.mark.parametrize("name", ["black", "noise", "stripes", "ramp", "one pixel", "flash"])
    def test_garbage_shows_no_object(self, name):
        rng = np.random.default_rng(0)
        frames = np.zeros((8, 32, 32, 3), np.uint8)
        if name == "noise":
            frames = rng.integers(0, 256, frames.shape, dtype=np.uint8)
        elif name == "stripes":
            frames[:, ::2] = 255
        elif name == "ramp":
            frames[:] = np.linspace(0, 255, 32).astype(np.uint8)[:, None]
        elif name == "one pixel":
            frames = frames[:1, :1, :1]
        elif name == "flash":
            frames[3, 10:20, 10:20] = 250
        assert observe(frames).objects == ()

    def test_wrong_arrays(self):
        with pytest.raises(ValueError, match="float64"):
            observe(np.zeros((8, 32, 32, 3)))
        with pytest.raises(ValueError, match=r"\(3, 8, 32, 32\)"):
            observe(np.zeros((3, 8, 32, 32), np.uint8))
        with pytest.raises(ValueError, match="uint8 frames"):
            observe(np.zeros((0, 32, 32, 3), np.uint8))


class TestParts:
    @pytest.mark.parametrize("shape", ["circle", "square", "triangle", "cross", "ring"])
    def test_coverage_without_blur_is_the_renderers(self, shape):
        radii, angles = np.array([3.1, 5.0]), np.array([0.3, 1.1])
        positions = np.array([[12.3, 14.1], [15.7, 16.2]])
        y, x = grid(32, 32)
        painted = coverage_at(Geometry(shape, positions, radii, angles), x, y)
        assert painted == pytest.approx(coverage(Track(shape, (0, 0, 0), positions, radii, angles), 32, 32), abs=1e-6)

    @pytest.mark.parametrize("shape", ["circle", "square", "triangle", "cross", "ring"])
    def test_a_fit_finds_what_was_painted_from_afar(self, shape):
        time = np.linspace(-0.5, 0.5, 6)
        positions = np.stack([14 + 6 * time, 15 - 3 * time], -1)
        truth = Geometry(shape, positions, 4.0 + time, 0.2 + 1.2 * time, blur=0.6)
        y, x = grid(32, 32)
        alpha = 0.8 * coverage_at(truth, x, y)
        start = Geometry(shape, positions + np.array([0.7, -0.6]), np.full(6, 3.6), 0.05 + 1.0 * time)
        round_shape = shape in ("circle", "ring")
        found = fit_geometry(
            Window(alpha, start.positions, start.radii * 1.8), start, turning=not round_shape, steps=15
        )
        assert found.positions == pytest.approx(truth.positions, abs=0.02)
        assert found.radii == pytest.approx(truth.radii, abs=0.02)
        assert found.blur == pytest.approx(0.6, abs=0.05)
        assert found.amplitude == pytest.approx(0.8, abs=0.01)
        if not round_shape:
            assert found.angles == pytest.approx(truth.angles, abs=0.02)

    def test_blobs_are_the_connected_parts_of_a_clean_clip(self):
        for clip in clips_of(8, objects=3, seed=9):
            frames = clip.paint()
            _, masks = render(clip.tracks, clip.background, 32, 32)
            found, labels = blobs(frames.astype(float), np.array(clip.background, float), 0.0)
            for frame, blob_list in enumerate(found):
                assert len(blob_list) == 3
                owners = {int(labels[frame][mask[frame]][0]) for mask in masks}
                assert owners == {blob.label for blob in blob_list}
                for mask in masks:  # every pixel that an object owns is in one blob
                    assert len(set(labels[frame][mask[frame]].tolist())) == 1


def test_a_clip_of_one_object_is_drawn_from_the_data_set():
    dataset = MovingShapesDataset(split="validation", seed=2)
    clip = Clip.of(dataset, 3)
    video = ((dataset[3]["video"].permute(1, 2, 3, 0) + 1) * 127.5).round().numpy().astype(np.uint8)
    assert np.array_equal(clip.paint(), video)
