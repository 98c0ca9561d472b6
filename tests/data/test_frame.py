"""Pictures out of frames: the right colors, sharp and without a shift, the right part, whatever the frame's format."""

from collections.abc import Sequence

import av
import numpy as np
import pytest
import skimage.data
import torch
from av.video.reformatter import ColorRange, Interpolation
from PIL import Image

from lingen_kit.data.decoding.frame import Fitter, upright_size
from lingen_kit.data.sample import to_float

PHOTOS = {name: getattr(skimage.data, name)() for name in ("astronaut", "coffee", "chelsea")}
FULL_CHROMA = Interpolation.BICUBIC.value | 0x40000 | 0x2000  # FFmpeg's SWS_ACCURATE_RND and SWS_FULL_CHR_H_INT


def fit(frame: av.VideoFrame, height: int, width: int, **options: object) -> np.ndarray:
    """The picture as `(H, W, 3)`."""
    out = np.full((3, height, width), 77, np.uint8)
    Fitter(height, width, **options).write(frame, out)  # type: ignore[arg-type]
    return np.moveaxis(out, 0, 2)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Decibels; infinite for equal pictures."""
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


@pytest.mark.parametrize("pixels", ["rgb24", "yuv444p", "yuv420p", "yuvj420p", "yuv420p10le"])
@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize("scale", [0.13, 0.3, 0.5, 0.77, 1.0, 2.0])
def test_photographs_are_resized_as_pillow_does(photo: str, pixels: str, scale: float) -> None:
    """At 101 columns less than the whole, so that no size is a round number; 40 dB is a hundredth of the range."""
    image = np.ascontiguousarray(PHOTOS[photo][:, :-101])
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels, interpolation=FULL_CHROMA)
    height, width = round(image.shape[0] * scale), round(image.shape[1] * scale)
    expected = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    picture = fit(frame, height, width)
    assert psnr(picture, expected) > (40 if "420" in pixels else 46)
    for shift in (-1, 1):  # a shift of half a pixel would bring one of these nearer
        assert psnr(picture[:, 1:-1], np.roll(expected, shift, 1)[:, 1:-1]) < 38
        assert psnr(picture[1:-1], np.roll(expected, shift, 0)[1:-1]) < 38


def test_gray_and_transparent_frames(height: int = 60, width: int = 90) -> None:
    camera = skimage.data.camera()
    gray = fit(av.VideoFrame.from_ndarray(camera, format="gray"), height, width)
    assert (gray == gray[:, :, :1]).all()
    expected = np.asarray(Image.fromarray(camera[86:427]).resize((width, height), Image.Resampling.BICUBIC))
    assert psnr(gray[:, :, 0], expected) > 30  # the crop is cut at a fraction of a pixel
    clear = np.dstack([PHOTOS["coffee"], np.zeros((400, 600), np.uint8)])
    shown = fit(av.VideoFrame.from_ndarray(clear, format="rgba"), 400, 600)
    assert psnr(shown, PHOTOS["coffee"]) > 45


COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (180, 90, 30), (128, 128, 128)]
LUMA = {"ITU709": (0.2126, 0.0722), "ITU601": (0.299, 0.114), "BT2020": (0.2627, 0.0593)}


def coded(color: Sequence[int], space: str, full: bool) -> tuple[int, int, int]:
    """Y, U and V of a color by the definition of the standard."""
    red, green, blue = (value / 255 for value in color)
    kr, kb = LUMA[space]
    y = kr * red + (1 - kr - kb) * green + kb * blue
    u, v = (blue - y) / (2 - 2 * kb), (red - y) / (2 - 2 * kr)
    if full:
        return round(255 * y), min(255, round(128 + 255 * u)), min(255, round(128 + 255 * v))
    return round(16 + 219 * y), round(128 + 224 * u), round(128 + 224 * v)


@pytest.mark.parametrize("space", [*LUMA, None])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("size", [(32, 48), (20, 30)])
def test_colors_follow_the_tags_of_the_file(space: str | None, full: bool, size: tuple[int, int]) -> None:
    """Untagged is BT.601, whatever the size."""
    for color in COLORS:
        planes = [
            np.full(s, c, np.uint8)
            for s, c in zip(((32, 48), (16, 24), (16, 24)), coded(color, space or "ITU601", full), strict=True)
        ]
        frame = av.VideoFrame.from_ndarray(
            np.concatenate([plane.ravel() for plane in planes]).reshape(48, 48), "yuv420p"
        )
        frame.color_range = ColorRange.JPEG if full else ColorRange.MPEG
        if space:
            frame.colorspace = {"ITU709": 1, "ITU601": 6, "BT2020": 9}[space]  # FFmpeg's AVCOL_SPC numbers
        picture = fit(frame, *size)
        assert np.abs(picture.astype(int) - color).max() <= 3, (color, picture[0, 0])


def ramp(height: int, width: int) -> av.VideoFrame:
    """Red tells the column, green the row."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([columns, rows, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    return av.VideoFrame.from_ndarray(image, format="rgb24")


@pytest.mark.parametrize("share,first", [(0.0, 0), (0.5, 50), (1.0, 100), (0.25, 25)])
def test_crop_lies_where_it_is_wanted(share: float, first: int) -> None:
    wide = fit(ramp(100, 200), 100, 100, crop=(0.9, share))
    assert np.array_equal(wide[0, :, 0], np.arange(first, first + 100))
    assert np.array_equal(wide[:, 0, 1], np.arange(100))
    tall = fit(ramp(200, 100), 100, 100, crop=(share, 0.9))
    assert np.array_equal(tall[:, 0, 1], np.arange(first, first + 100))
    mirrored = fit(ramp(100, 200), 100, 100, crop=(0.5, share), flip=True)
    assert np.array_equal(mirrored[:, ::-1], wide)


@pytest.mark.parametrize("shape", [(2, 240), (240, 2), (1, 250), (30, 250)])
def test_elongated_frames_need_no_more_memory_than_others(shape: tuple[int, int]) -> None:
    frame = ramp(*shape)
    for share in (0.0, 0.5, 1.0):
        picture = fit(frame, 24, 24, crop=(share, share))
        axis, spread = (0, shape[1] - shape[0]) if shape[1] > shape[0] else (1, shape[0] - shape[1])
        middle = spread * share + min(shape) / 2 - 0.5
        assert abs(picture[12, 12, axis].astype(float) - middle) <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 3), (67, 101), (4000, 3000)])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (32, 32)])
@pytest.mark.parametrize("pixels", ["rgb24", "yuv420p"])
def test_any_size_to_any_size(shape: tuple[int, int], size: tuple[int, int], pixels: str) -> None:
    image = np.broadcast_to(np.array([200, 100, 50], np.uint8), (*shape, 3))
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(format=pixels)
    assert np.abs(fit(frame, *size).astype(int) - (200, 100, 50)).max() <= 3


def test_pixels_that_are_not_square() -> None:
    frame = ramp(100, 100)
    assert upright_size(frame, 2.0) == (100, 200)
    assert upright_size(frame, 2.0, 50) == (50, 100)
    assert upright_size(frame, 0.5, 50) == (100, 50)
    picture = fit(frame, 100, 100, pixel_aspect=2.0)
    assert 24 <= picture[0, 0, 0] <= 26 and 73 <= picture[0, -1, 0] <= 75


def test_float_has_both_ends() -> None:
    values = to_float(np.array([0, 51, 255], np.uint8))
    assert values.dtype == torch.float32
    assert values.tolist() == pytest.approx([-1, -0.6, 1])
    assert (values[0], values[2]) == (-1, 1)
