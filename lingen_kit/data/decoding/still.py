"""Photographs and drawings, read with Pillow.

Pillow rather than FFmpeg, as it sets photos upright by their EXIF orientation, mirrored ones included, knows the CMYK
of print JPEGs, and shrinks a large JPEG while decoding it. The first bytes tell a still image, not the name.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from av.video.frame import VideoFrame
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from lingen_kit.data.media import Source, UnreadableVideo, open_bytes

_SIDEWAYS = (5, 6, 7, 8)  # orientations of EXIF that exchange rows and columns
_SPARE = 2  # a JPEG is shrunk while decoding to no less than this many times the wanted size


def is_still(source: Source) -> bool:
    """Whether a file begins as JPEG, PNG, WebP or BMP do (an animated PNG or WebP counts as its first picture).

    Raises:
        UnreadableVideo: It cannot be read, or is no longer there.
    """
    try:
        with open_bytes(source) as file:
            head = file.read(16)
    except OSError as error:
        raise UnreadableVideo(source, (error.strerror or str(error)).lower()) from error
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and head[6:10] == bytes(4))
    )


def read_still(source: Source, shortest: int | None = None) -> VideoFrame:
    """Read an image as an upright RGB frame; transparency is dropped.

    Args:
        source: The image.
        shortest: The least that its shorter side will be resized to; may make reading a JPEG faster.

    Raises:
        UnreadableVideo: It is damaged or too large to be an image.
    """
    with _opened(source) as image:
        if shortest is not None and min(image.size) > _SPARE * shortest:
            factor = _SPARE * shortest / min(image.size)
            image.draft("RGB", (round(image.width * factor), round(image.height * factor)))
        return VideoFrame.from_ndarray(np.array(_to_rgb(ImageOps.exif_transpose(image))), format="rgb24")


def still_size(source: Source) -> tuple[int, int]:
    """Height and width of an image set upright, from its header alone.

    Raises:
        UnreadableVideo: It is damaged or too large to be an image.
    """
    with _opened(source) as image:
        sideways = image.getexif().get(ExifTags.Base.Orientation, 1) in _SIDEWAYS
        return (image.width, image.height) if sideways else (image.height, image.width)


@contextmanager
def _opened(source: Source) -> Iterator[Image.Image]:
    """An image file; any error inside becomes `UnreadableVideo`."""
    try:
        with open_bytes(source) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # phones make such photos
            with Image.open(file) as image:
                yield image
    except UnidentifiedImageError as error:
        raise UnreadableVideo(source, "it begins like an image, but is none (Pillow)") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableVideo(source, f"{error} (Pillow)") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; Pillow itself would clip 16-bit gray at 255 instead of scaling it."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info or image.mode in ("LA", "PA", "La"):
        image = image.convert("RGBA")
    return image.convert("RGB")
