"""Videos as files and pictures: mp4, animated GIF, PNG contact sheets, grids.

Everything here takes the kit's video, float in [-1, 1], and writes through PyAV (which bundles FFmpeg and
libx264) and Pillow. Files appear whole or not at all: each is written beside its target and moved over it.

Letters: N videos, C channels (1 or 3), T frames, H height, W width.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lingen_kit.files import replacing

__all__ = ["contact_sheet", "enlarged_by", "gif_bytes", "grid", "to_uint8", "write_gif", "write_mp4", "write_png"]

Pixels = NDArray[np.uint8]

_GAP = 4
_PAGE = 228  # light gray: white clips keep their edges
_FONT_SIZE = 14
_LINE_HEIGHT = 18
_ENLARGED = "each pixel is a square of side {}"


def to_uint8(video: Tensor) -> Pixels:
    """Turn a video into 8-bit RGB frames.

    Args:
        video: `(C, T, H, W)`, floating point, nominally in [-1, 1]; what lies outside is clipped.

    Returns:
        `(T, H, W, 3)` uint8; one channel is repeated three times.

    Raises:
        TypeError: The video is not a floating-point tensor.
        ValueError: The shape is not that of a video, or a value is NaN or infinite.
    """
    if not isinstance(video, Tensor) or not video.is_floating_point():
        found = video.dtype if isinstance(video, Tensor) else type(video).__name__
        raise TypeError(f"a video is a floating-point tensor in [-1, 1], got {found}")
    if video.ndim != 4 or video.shape[0] not in (1, 3) or video.numel() == 0:
        raise ValueError(f"a video is (C, T, H, W), C = 1 or 3, no axis empty, got {tuple(video.shape)}")
    if not torch.isfinite(video).all():
        raise ValueError("the video has NaN or infinite values: the model that made it has diverged")
    pixels = video.detach().float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    pixels = pixels.permute(1, 2, 3, 0).expand(-1, -1, -1, 3)  # (T, H, W, 3)
    return np.ascontiguousarray(pixels.cpu().numpy())


def write_mp4(path: str | Path, video: Tensor, fps: float, *, min_side: int = 256, crf: int = 18) -> Path:
    """Write a video as H.264, 4:2:0, BT.709: what browsers, QuickTime and players all show.

    A clip whose short side is under `min_side` is enlarged by a whole factor without smoothing, so that a
    person can see 32x32 pixels and each stays a sharp square; the file's comment says so, see `enlarged_by`.
    4:2:0 needs even sizes: an odd height or width that remains after enlarging gets its last row or column once
    more.

    Args:
        path: The file to write; its folder is made.
        video: `(C, T, H, W)` in [-1, 1].
        fps: Frames per second.
        min_side: Short side to reach by enlarging; 1 keeps the size.
        crf: x264's constant quality, 0 (lossless) to 51.

    Returns:
        The path.

    Raises:
        ValueError: A bad video (see `to_uint8`) or a rate that is not positive.
    """
    _check_rate(fps)
    frames = to_uint8(video)
    factor = _factor(min(frames.shape[1:3]), min_side)
    frames = _enlarge(frames, min_side)
    odd_rows, odd_columns = frames.shape[1] % 2, frames.shape[2] % 2
    frames = np.pad(frames, ((0, 0), (0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
    with (
        replacing(path) as temporary,
        av.open(str(temporary), "w", format="mp4", container_options={"movflags": "+faststart"}) as container,
    ):
        if factor > 1:
            container.metadata["comment"] = _ENLARGED.format(factor)
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": str(crf)})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # Untagged files are shown with BT.601 or BT.709 depending on the player; say which it is.
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_primaries = ColorPrimaries.BT709
        stream.codec_context.color_trc = ColorTrc.BT709
        stream.codec_context.color_range = ColorRange.MPEG
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return Path(path)


def enlarged_by(comment: str) -> int:
    """The factor by which `write_mp4` enlarged a video, from the comment of its file; 1 if that says nothing."""
    before, _, after = _ENLARGED.partition("{}")
    factor = comment.removeprefix(before).removesuffix(after)
    return int(factor) if comment == _ENLARGED.format(factor) and factor.isdecimal() else 1


def write_gif(path: str | Path, video: Tensor, fps: float, *, min_side: int = 256) -> Path:
    """Write a video as an endlessly repeating GIF; see `gif_bytes`."""
    data = gif_bytes(video, fps, min_side=min_side)
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def gif_bytes(video: Tensor, fps: float, *, min_side: int = 1) -> bytes:
    """Encode a video as an animated GIF, for pages and for TensorBoard.

    A GIF counts time in hundredths of a second: each frame ends at the nearest one, so that the clip as a
    whole keeps its length.

    Args:
        video: `(C, T, H, W)` in [-1, 1].
        fps: Frames per second, at most 100.
        min_side: Short side to reach by enlarging with a whole factor; 1 keeps the size.

    Raises:
        ValueError: A bad video (see `to_uint8`) or rate.
    """
    _check_rate(fps)
    if fps > 100:
        raise ValueError(f"a GIF shows at most 100 frames a second, got fps={fps}; write an mp4 instead")
    frames = _enlarge(to_uint8(video), min_side)
    ends = [round(100 * (t + 1) / fps) for t in range(len(frames))]
    durations = [10 * (end - start) for start, end in zip([0, *ends], ends, strict=False)]
    images = [Image.fromarray(pixels).quantize(256, dither=Image.Dither.NONE) for pixels in frames]
    buffer = BytesIO()
    images[0].save(buffer, format="GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
    return buffer.getvalue()


def write_png(path: str | Path, image: Pixels) -> Path:
    """Write one picture.

    Args:
        path: The file to write; its folder is made.
        image: `(H, W, 3)` uint8, as `contact_sheet` returns it.

    Raises:
        ValueError: Another shape or type.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"a picture is (H, W, 3) uint8, got {image.shape} {image.dtype}")
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")
    return Path(path)


def contact_sheet(
    videos: Tensor, captions: Sequence[str] | None = None, *, columns: int = 8, scale: int | None = None
) -> Pixels:
    """Lay videos out as one picture: a row a video, its caption above, its frames from left to right.

    Args:
        videos: `(N, C, T, H, W)` in [-1, 1].
        captions: One text a video, wrapped to the row's width.
        columns: Frames shown at most; of a longer video that many, evenly spaced, first and last included.
        scale: Whole factor by which frames are enlarged; by default the smallest that makes their short side
            at least 96 pixels.

    Returns:
        `(H', W', 3)` uint8.

    Raises:
        ValueError: A bad shape, or another number of captions than of videos.
    """
    _check_batch(videos)
    if captions is not None and len(captions) != len(videos):
        raise ValueError(f"{len(videos)} videos but {len(captions)} captions; give one for each")
    if columns < 1 or (scale is not None and scale < 1):
        raise ValueError(f"columns and scale are at least 1, got columns={columns}, scale={scale}")
    frames = videos.shape[2]
    shown = np.linspace(0, frames - 1, min(columns, frames)).round().astype(int)
    scale = scale or _factor(min(videos.shape[-2:]), 96)
    font = ImageFont.load_default(_FONT_SIZE)
    rows = []
    for number, video in enumerate(videos):
        pixels = _enlarge(to_uint8(video[:, shown]), scale * min(videos.shape[-2:]))  # (T', H, W, 3)
        strip = np.full((pixels.shape[1], _GAP + len(pixels) * (pixels.shape[2] + _GAP), 3), _PAGE, np.uint8)
        for place, frame in enumerate(pixels):
            left = _GAP + place * (frame.shape[1] + _GAP)
            strip[:, left : left + frame.shape[1]] = frame
        if captions is not None:
            rows.append(_text_strip(captions[number], strip.shape[1], font))
        rows.append(strip)
        rows.append(np.full((_GAP, strip.shape[1], 3), _PAGE, np.uint8))
    return np.concatenate([np.full((_GAP, rows[0].shape[1], 3), _PAGE, np.uint8), *rows])


def grid(videos: Tensor, *, columns: int | None = None, gap: int = 2) -> Tensor:
    """Tile videos into one video, row by row, white between them.

    Args:
        videos: `(N, C, T, H, W)` in [-1, 1].
        columns: Videos a row; by default the squarest layout.
        gap: Pixels between neighbors.

    Returns:
        `(C, T, H', W')` in [-1, 1].

    Raises:
        ValueError: A bad shape or a layout that is not positive.
    """
    _check_batch(videos)
    count, channels, frames, height, width = videos.shape
    columns = columns if columns is not None else math.ceil(math.sqrt(count))
    if columns < 1 or gap < 0:
        raise ValueError(f"columns is at least 1 and gap at least 0, got columns={columns}, gap={gap}")
    rows = math.ceil(count / columns)
    columns = min(columns, count)
    canvas = videos.new_ones(channels, frames, rows * (height + gap) - gap, columns * (width + gap) - gap)
    for number, video in enumerate(videos):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        canvas[:, :, top : top + height, left : left + width] = video
    return canvas


def _check_rate(fps: float) -> None:
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps is a positive number of frames per second, got {fps}")


def _check_batch(videos: Tensor) -> None:
    if videos.ndim != 5 or videos.numel() == 0:
        raise ValueError(f"videos are (N, C, T, H, W) with no empty axis, got {tuple(videos.shape)}")


def _factor(side: int, min_side: int) -> int:
    return max(1, math.ceil(min_side / side))


def _enlarge(frames: Pixels, min_side: int) -> Pixels:
    """Repeat rows and columns until the short side of `(T, H, W, 3)` reaches `min_side`."""
    factor = _factor(min(frames.shape[1:3]), min_side)
    return frames.repeat(factor, axis=1).repeat(factor, axis=2) if factor > 1 else frames


def _text_strip(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Pixels:
    """Draw black text, wrapped to the width: `(lines * height, width, 3)`."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width - 2 * _GAP:
            lines[-1] = joined
            continue
        lines.append("")
        for letter in word:  # a word longer than a whole line is cut where the line ends
            if font.getlength(lines[-1] + letter) > width - 2 * _GAP:
                lines.append("")
            lines[-1] += letter
    lines = [line for line in lines if line]
    image = Image.new("RGB", (width, _LINE_HEIGHT * max(1, len(lines)) + _GAP), (_PAGE, _PAGE, _PAGE))
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((_GAP, number * _LINE_HEIGHT), line, fill="black", font=font)
    return np.asarray(image)
