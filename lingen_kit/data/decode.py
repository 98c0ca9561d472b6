"""Decode clips and images with PyAV (which brings its own FFmpeg): probe a file, read a clip at a given time.

Letters: C channels (3), T frames, H height, W width.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import av
import torch
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch import Tensor
from torch.nn import functional as F

from lingen_kit.data.media import FilePart, Source, UnreadableVideo, VideoInfo, open_bytes

_FALLBACK_FPS = 25.0
_TIE = 1e-6  # seconds; a moment half-way between two frames is the earlier one's, whatever the rounding


def probe(path: Source) -> VideoInfo:
    """Read a file's header and decode its first frame.

    Raises:
        UnreadableVideo: If the file is missing, empty, no video, or without a frame that decodes.
    """
    with _opened(path) as (container, stream):
        frame = next(container.decode(stream), None)
        if frame is None:
            raise UnreadableVideo(path, "it contains no frame")
        fps = _fps(stream)
        duration = _duration(container, stream)
        if duration is None:
            duration = stream.frames / fps if stream.frames else _scanned_duration(container, stream, fps)
        height, width = float(frame.height), frame.width * _pixel_aspect(stream)
        if frame.rotation % 180:
            height, width = width, height
        return VideoInfo(
            frames=stream.frames or max(1, round(duration * fps)),
            duration=duration,
            fps=fps,
            width=round(width),
            height=round(height),
        )


def read_clip(
    path: Source,
    *,
    frames: int,
    fps: float,
    height: int,
    width: int,
    start: float = 0.0,
    short: Literal["hold", "skip"] = "skip",
) -> Tensor:
    """Read a clip of a given length, rate and size.

    The clip's frame `i` is the frame of the file nearest to `start + i / fps`, whatever the file's own rate.
    It is cropped in the middle to the wanted aspect ratio and resized with antialiasing. Gray, 10-bit and
    transparent videos become 8-bit RGB (transparency is dropped); the rotation of phone videos and pixels
    that are not square are taken into account.

    Args:
        path: A video or an image.
        frames: T.
        fps: Frames per second of the clip.
        height: H.
        width: W.
        start: Seconds from the first frame of the file.
        short: If the file ends before the clip does: `skip` raises, `hold` repeats the last frame.

    Returns:
        `(C, T, H, W)` float32 in [-1, 1].

    Raises:
        UnreadableVideo: If the file is missing, empty, damaged, no video, or too short (see `short`).
    """
    if start:
        with _opened(path) as (container, stream):
            timed = _timed(path, container, stream, start)
            first = next(timed, None)
            # Some containers seek past the place: those are opened again and decoded from the beginning.
            if first is not None and first[0] <= start:
                return _pick(path, stream, first, timed, frames, fps, height, width, start, short)
    with _opened(path) as (container, stream):
        timed = _timed(path, container, stream, None)
        first = next(timed, None)
        if first is None:
            raise UnreadableVideo(path, "it contains no frame")
        return _pick(path, stream, first, timed, frames, fps, height, width, start, short)


def _pick(
    path: Source,
    stream: VideoStream,
    first: tuple[float, VideoFrame],
    timed: Iterator[tuple[float, VideoFrame]],
    frames: int,
    fps: float,
    height: int,
    width: int,
    start: float,
    short: Literal["hold", "skip"],
) -> Tensor:
    """The frames nearest to the wanted moments, as `(C, T, H, W)`; `first` and `timed` are read in order of time."""
    images: list[Tensor] = []
    before = after = first
    shown: VideoFrame | None = None
    for moment in (start + index / fps for index in range(frames)):
        while after[0] < moment and (following := next(timed, None)) is not None:
            before, after = after, following
        end = after[0] + 1 / _fps(stream)
        if moment >= end and short == "skip":
            raise UnreadableVideo(
                path,
                f"it ends after {end:.2f} s; {frames} frames at {fps:g} per second from {start:.2f} s on need more"
                " (short=hold would repeat the last frame)",
            )
        nearest = (after if after[0] - moment + _TIE < moment - before[0] else before)[1]
        images.append(images[-1] if nearest is shown else _prepare(path, nearest, stream, height, width))
        shown = nearest
    return torch.stack(images, dim=1)  # C T H W


@contextmanager
def _opened(path: Source) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its first video stream; any error of FFmpeg inside becomes `UnreadableVideo`."""
    file = path.path if isinstance(path, FilePart) else Path(path)
    if not file.is_file():
        raise UnreadableVideo(path, "there is no such file")
    if file.stat().st_size == 0:
        raise UnreadableVideo(path, "the file is empty (0 bytes)")
    try:
        with av.open(
            open_bytes(path) if isinstance(path, FilePart) else str(file), metadata_errors="ignore"
        ) as container:
            if not container.streams.video:
                raise UnreadableVideo(path, "it contains no video stream")
            stream = container.streams.video[0]
            # The loader's workers are the parallelism; FFmpeg's own threads would compete with them.
            stream.codec_context.thread_count = 1
            yield container, stream
    except (av.FFmpegError, OSError) as error:
        raise UnreadableVideo(path, f"{error.strerror or error} (FFmpeg)") from error


def _fps(stream: VideoStream) -> float:
    return float(stream.average_rate or stream.guessed_rate or _FALLBACK_FPS)


def _pixel_aspect(stream: VideoStream) -> float:
    """Width of a pixel over its height."""
    return float(stream.sample_aspect_ratio or 1) or 1.0


def _duration(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return container.duration / av.time_base
    return None


def _scanned_duration(container: InputContainer, stream: VideoStream, fps: float) -> float:
    """Duration of a file that does not store it: read through its packets, without decoding them."""
    container.seek(0)
    times = [packet.pts * packet.time_base for packet in container.demux(stream) if packet.pts is not None]
    return float(max(times) - min(times)) + 1 / fps if times else 1 / fps


def _timed(
    path: Source, container: InputContainer, stream: VideoStream, start: float | None
) -> Iterator[tuple[float, VideoFrame]]:
    """Yield (seconds from the first frame of the file, frame), in order of time.

    From the last key frame before `start` on, or from the beginning if `start` is None. Files without usable
    time stamps have their frames counted, for which they must be read from the beginning.
    """
    interval = 1 / _fps(stream)
    # AVI stores frames in the order of decoding with no time stamps; where that is not the order of display, the
    # time stamps that FFmpeg makes up go back and forth.
    counted = stream.time_base is None or (container.format.name == "avi" and stream.codec_context.has_b_frames)
    origin = float(stream.start_time * stream.time_base) if stream.start_time and stream.time_base else 0.0
    if start is not None:
        if counted or stream.time_base is None:
            return
        container.seek(math.floor((start + origin) / stream.time_base), stream=stream, backward=True)
    time = -interval
    for position, frame in enumerate(container.decode(stream)):
        if frame.is_corrupt:
            raise UnreadableVideo(path, f"the frame after {max(time, 0):.2f} s is damaged")
        if frame.time is not None and not counted:
            time = frame.time - origin
        elif position or start is None:
            time += interval
        else:
            return
        yield time, frame


def _prepare(path: Source, frame: VideoFrame, stream: VideoStream, height: int, width: int) -> Tensor:
    """A frame as `(C, H, W)` float32 in [-1, 1], upright, cropped in the middle and resized."""
    image = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)  # C H W
    aspect = _pixel_aspect(stream)
    if frame.rotation % 90:
        raise UnreadableVideo(path, f"its rotation of {frame.rotation} degrees is not a multiple of 90")
    if frame.rotation:
        image = torch.rot90(image, k=frame.rotation // 90, dims=(1, 2))
        aspect = 1 / aspect if frame.rotation % 180 else aspect
    image = _center_crop(image, width / height / aspect)
    pixels = image.float()
    if image.shape[1:] != (height, width):
        pixels = F.interpolate(
            pixels[None], size=(height, width), mode="bilinear", antialias=True, align_corners=False
        )[0]
    return pixels.div_(127.5).sub_(1).clamp_(-1, 1)


def _center_crop(image: Tensor, aspect: float) -> Tensor:
    """The largest part of `(C, H, W)` in the middle whose width over height is `aspect`."""
    rows, columns = image.shape[1:]
    kept_rows = max(1, min(rows, round(columns / aspect)))
    kept_columns = max(1, min(columns, round(rows * aspect)))
    top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
    return image[:, top : top + kept_rows, left : left + kept_columns]
