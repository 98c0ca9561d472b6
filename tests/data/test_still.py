"""Images: upright, in 8-bit RGB, whatever they are stored as."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from lingen_kit.data.decode import probe, read_clip, stream
from lingen_kit.data.media import UnreadableVideo

PHOTO = skimage.data.coffee()[:240, :360]


def shown(path: Path) -> np.ndarray:
    """The image at its own size, `(H, W, 3)`."""
    return next(stream(path))[1]


def difference(path: Path, expected: np.ndarray = PHOTO) -> float:
    """Mean difference to what the image shows, of 255."""
    return float(np.abs(shown(path).astype(float) - expected).mean())


@pytest.mark.parametrize("suffix,limit", [(".png", 0), (".bmp", 0), (".webp", 4), (".jpg", 4)])
def test_formats(tmp_path: Path, suffix: str, limit: float) -> None:
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(PHOTO).save(path, quality=95)
    assert difference(path) <= limit
    info = probe(path)
    assert (info.frames, info.height, info.width) == (1, 240, 360)


# What a viewer does to the stored picture, by number of the orientation.
ORIENTATIONS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", list(ORIENTATIONS))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_orientation_of_photos_is_undone(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(PHOTO).save(path, exif=exif, quality=95)
    expected = ORIENTATIONS[orientation](PHOTO)
    assert difference(path, expected) < 4
    info = probe(path)
    assert (info.height, info.width) == expected.shape[:2]


def test_deep_gray_palette_and_print_colors(tmp_path: Path) -> None:
    gray = skimage.data.camera()[:200, :300]
    threefold = np.dstack([gray] * 3)
    deep = gray.astype(np.uint16) * 256 + 255
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(gray).save(tmp_path / "gray.png")
    Image.fromarray(gray > 127).save(tmp_path / "bits.png")
    Image.fromarray(PHOTO).quantize(256).save(tmp_path / "palette.png")
    Image.fromarray(PHOTO).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert difference(tmp_path / "deep.png", threefold) == 0
    assert difference(tmp_path / "gray.png", threefold) == 0
    assert difference(tmp_path / "bits.png", np.where(threefold > 127, 255, 0)) == 0
    assert difference(tmp_path / "palette.png") < 6
    assert difference(tmp_path / "print.jpg") < 6


def test_transparency_is_dropped(tmp_path: Path) -> None:
    clear = np.dstack([PHOTO, np.zeros(PHOTO.shape[:2], np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert difference(tmp_path / "clear.png") == 0
    Image.fromarray(PHOTO).quantize(16).save(tmp_path / "palette.png", transparency=0)
    assert difference(tmp_path / "palette.png", np.asarray(Image.fromarray(PHOTO).quantize(16).convert("RGB"))) == 0


@pytest.mark.parametrize("shape", [(600, 400), (1600, 2400)])
def test_a_large_jpeg_is_shrunk_on_the_way(tmp_path: Path, shape: tuple[int, int]) -> None:
    image = Image.fromarray(skimage.data.astronaut()).resize(shape[::-1], Image.Resampling.BICUBIC)
    image.save(tmp_path / "large.jpg", quality=95)
    clip = read_clip(tmp_path / "large.jpg", frames=1, fps=8, height=64, width=64)
    side = min(shape)
    left, top = (shape[1] - side) // 2, (shape[0] - side) // 2
    small = image.crop((left, top, left + side, top + side)).resize((64, 64), Image.Resampling.BICUBIC)
    difference = (clip[:, 0].permute(1, 2, 0).numpy() + 1) * 127.5 - np.asarray(small)
    assert 10 * np.log10(255**2 / (difference**2).mean()) > 33


def test_image_held_as_a_clip(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(PHOTO).save(path)
    clip = read_clip(path, frames=4, fps=8, height=48, width=64, short="hold")
    assert clip.shape == (3, 4, 48, 64)
    assert (clip == clip[:, :1]).all()
    with pytest.raises(UnreadableVideo, match=r"ends after 0\.04 s"):
        read_clip(path, frames=4, fps=8, height=48, width=64)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_damaged_images_are_named(tmp_path: Path, suffix: str) -> None:
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    Image.fromarray(PHOTO).save(whole)
    content = whole.read_bytes()
    for kept in (20, len(content) // 2):
        cut.write_bytes(content[:kept])
        with pytest.raises(UnreadableVideo, match="Pillow"):
            read_clip(cut, frames=1, fps=8, height=8, width=8)
    text = tmp_path / f"text{suffix}"
    text.write_text("no image at all\n" * 50)
    with pytest.raises(UnreadableVideo, match=f"text{suffix}"):
        probe(text)
