"""Decode clips and images with PyAV (which brings its own FFmpeg): probe a file, read a clip at a given time.

Letters: C channels (3), T frames, H height, W width.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import torch
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch import Tensor
from torch.nn import functional as F

VIDEO_SUFFIXES = frozenset(".avi .gif .m4v .mkv .mov .mp4 .mpeg .mpg .ogv .ts .webm .wmv".split())
IMAGE_SUFFIXES = frozenset(".bmp .jpeg .jpg .png .webp".split())

_FALLBACK_FPS = 25.0


class UnreadableVideo(ValueError):
    """A file that gives no clip.

    Args:
        path: The file.
        reason: Why, in a few words.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"cannot read {path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type["UnreadableVideo"], tuple[str, str]]:
        """Let the error travel between processes."""
        return type(self), (self.path, self.reason)


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about its video.

    Attributes:
        frames: Number of frames; from the duration where the file does not store it.
        duration: Seconds.
        fps: Frames per second.
        width: Pixels from left to right, as displayed: turned upright, pixels made square.
        height: Pixels from top to bottom, as displayed.
    """

    frames: int
    duration: float
    fps: float
    width: int
    height: int


def probe(path: str | Path) -> VideoInfo:
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
    path: str | Path,
    *,
    frames: int,
    fps: float,
    height: int,
    width: int,
    start: float = 0.0,
    short: Literal["hold", "skip"] = "skip",
) -> Tensor:
    """Read a clip of a given length, rate and size.

    The clip's frame `i` is the frame of the file nearest to `start + i / fps`, whatever the file's own rate. It is
    cropped in the middle to the wanted aspect ratio and resized with antialiasing. Gray, 10-bit and transparent
    videos become 8-bit RGB (transparency is dropped); the rotation of phone videos and pixels that are not square
    are taken into account.

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
    with _opened(path) as (container, stream):
        origin = float((stream.start_time or 0) * (stream.time_base or 0))
        interval = 1 / _fps(stream)
        timed = _frames_from(path, container, stream, origin, interval, start)
        before = after = next(timed, None)
        if before is None or after is None:
            raise UnreadableVideo(path, f"it contains no frame from {start:.2f} s on" if start else "it contains no frame")
        images: list[Tensor] = []
        shown: VideoFrame | None = None
        for moment in (start + index / fps for index in range(frames)):
            while after[0] < moment and (following := next(timed, None)) is not None:
                before, after = after, following
            if moment >= after[0] + interval and short == "skip":
                raise UnreadableVideo(
                    path,
                    f"it ends after {after[0] + interval:.2f} s; {frames} frames at {fps:g} per second from"
                    f" {start:.2f} s on need more (short=hold would repeat the last frame)",
                )
            nearest = (after if after[0] - moment < moment - before[0] else before)[1]
            images.append(images[-1] if nearest is shown else _prepare(path, nearest, stream, height, width))
            shown = nearest
    return torch.stack(images, dim=1)  # C T H W


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its first video stream; any error of FFmpeg inside becomes `UnreadableVideo`."""
    file = Path(path)
    if not file.is_file():
        raise UnreadableVideo(path, "there is no such file")
    if file.stat().st_size == 0:
        raise UnreadableVideo(path, "the file is empty (0 bytes)")
    try:
        with av.open(str(file), metadata_errors="ignore") as container:
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


def _frames_from(
    path: str | Path,
    container: InputContainer,
    stream: VideoStream,
    origin: float,
    interval: float,
    start: float,
) -> Iterator[tuple[float, VideoFrame]]:
    """Yield (time, frame) in order of time, from the last key frame before `start` on; times count from `origin`."""
    if start > interval and stream.time_base:
        container.seek(math.floor((start + origin) / stream.time_base), stream=stream, backward=True)
        timed = _timed(path, container, stream, origin, interval, from_start=False)
        first = next(timed, None)
        if first is not None and first[0] <= start:
            yield first
            yield from timed
            return
        # Some containers seek past the place, or keep no index at all: decode from the beginning.
        container.seek(int(stream.start_time or 0), stream=stream, backward=True)
    yield from _timed(path, container, stream, origin, interval, from_start=True)


def _timed(
    path: str | Path,
    container: InputContainer,
    stream: VideoStream,
    origin: float,
    interval: float,
    from_start: bool,
) -> Iterator[tuple[float, VideoFrame]]:
    """Yield (time, frame); a frame without a time stamp follows its predecessor after `interval`.

    Away from the start there is nothing to count from, so a first frame without a time stamp ends the sequence.
    """
    time = -interval
    for position, frame in enumerate(container.decode(stream)):
        if frame.is_corrupt:
            raise UnreadableVideo(path, f"the frame after {max(time, 0):.2f} s is damaged")
        if frame.time is not None:
            time = frame.time - origin
        elif position or from_start:
            time += interval
        else:
            return
        yield time, frame


def _prepare(path: str | Path, frame: VideoFrame, stream: VideoStream, height: int, width: int) -> Tensor:
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
