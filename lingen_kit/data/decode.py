"""Read videos and images: probe a file, read a clip at a given time, run through a whole file.

Letters: C channels (3), T frames, H height, W width.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
from av.video.frame import VideoFrame

from lingen_kit.data.decoding.container import TIE, Timed, open_video
from lingen_kit.data.decoding.frame import Fitter, Pixels, upright_size
from lingen_kit.data.decoding.skipping import CannotPlan, plannable, planned
from lingen_kit.data.decoding.still import is_still, read_still, still_size
from lingen_kit.data.media import Source, UnreadableVideo, VideoInfo, require_file

if TYPE_CHECKING:  # importing it takes seconds, and processes that look into files do without it
    from torch import Tensor

Short = Literal["hold", "skip"]
Decoder = Literal["pyav", "torchcodec"]

STILL_FPS = 25.0  # an image counts as a video of one frame at this rate


class _Chosen(NamedTuple):
    """The frame for a moment, and where the file ends; infinity if that is later."""

    frame: VideoFrame
    end: float


def probe(source: Source) -> VideoInfo:
    """Read a file's header, decode a video's first frame and look where its last one ends.

    Raises:
        UnreadableVideo: If the file is missing, empty, no video, or without a frame that decodes.
    """
    require_file(source)
    if is_still(source):
        height, width = still_size(source)
        return VideoInfo(frames=1, duration=1 / STILL_FPS, fps=STILL_FPS, width=width, height=height)
    with open_video(source) as video, _naming(source):
        first = next(video.frames(), None)
        if first is None:
            raise UnreadableVideo(source, "it contains no frame")
        height, width = upright_size(first.frame, video.pixel_aspect)
        duration, fps, stored = video.end(), video.fps, video.stream.frames
    if duration is None:  # a stream of bare frames, with no time stamps
        with open_video(source) as video:
            stored = video.count()
        duration = max(1, stored) / fps
    frames = stored or max(1, round(duration * fps))
    return VideoInfo(frames=frames, duration=duration, fps=fps, width=width, height=height)


def read_clip(
    source: Source,
    *,
    frames: int,
    fps: float,
    height: int,
    width: int,
    start: float = 0.0,
    short: Short = "skip",
    crop: tuple[float, float] = (0.5, 0.5),
    flip: bool = False,
    decoder: Decoder = "pyav",
) -> "Tensor":
    """Read a clip of a given length, rate and size.

    The clip's frame `i` is the frame of the file nearest to `start + i / fps`, whatever the file's own rate, and
    the same one as decoding from the beginning would give; the file is decoded from the key frame before. The
    picture is resized, bicubic and with antialiasing, until it covers the wanted size, and cropped. Gray, 10-bit
    and transparent videos become 8-bit RGB (transparency is dropped); the rotation of phone videos, the
    orientation of photos and pixels that are not square are taken into account.

    Args:
        source: A video or an image.
        frames: T.
        fps: Frames per second of the clip.
        height: H.
        width: W.
        start: Seconds from the first frame of the file.
        short: If the file ends before the clip does: `skip` raises, `hold` repeats the last frame.
        crop: Where the crop lies, from top to bottom and from left to right, in [0, 1]; 0.5 is the middle.
        flip: Mirror left and right.
        decoder: `torchcodec` decodes with that package, which must be installed, and gives the same frames.

    Returns:
        `(C, T, H, W)` float32 in [-1, 1].

    Raises:
        UnreadableVideo: If the file is missing, empty, damaged, no video, or too short (see `short`).
        ValueError: An argument that cannot be.
        MissingPackage: torchcodec or its FFmpeg is not installed.
    """
    from lingen_kit.data.sample import to_float

    for name, value in (("frames", frames), ("height", height), ("width", width)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    out = np.empty((3, frames, height, width), np.uint8)
    read_pixels(source, out, fps=fps, start=start, short=short, crop=crop, flip=flip, decoder=decoder)
    return to_float(out)  # once for the clip: frame by frame it would take longer


def read_pixels(
    source: Source,
    out: Pixels,
    *,
    fps: float,
    start: float = 0.0,
    short: Short = "skip",
    crop: tuple[float, float] = (0.5, 0.5),
    flip: bool = False,
    decoder: Decoder = "pyav",
) -> None:
    """Read a clip into the 8-bit RGB levels `(C, T, H, W)` of `out`, which says how long and large it is.

    See `read_clip` for the rest.
    """
    _check(fps, start, short, crop, decoder)
    require_file(source)
    frames, height, width = out.shape[1:]
    moments = [start + index / fps for index in range(frames)]
    if is_still(source):
        fitter = Fitter(height, width, crop=crop, flip=flip)
        still = Timed(0.0, 1 / STILL_FPS, read_still(source, shortest=max(height, width)))
        _fill(source, out, fitter, _nearest(iter([still]), moments), moments, short)
    elif decoder == "torchcodec":
        from lingen_kit.data.decoding.torchcodec import chosen_frames

        chosen, pixel_aspect = chosen_frames(source, moments)
        fitter = Fitter(height, width, pixel_aspect=pixel_aspect, crop=crop, flip=flip)
        _fill(source, out, fitter, (_Chosen(*each) for each in chosen), moments, short)
    elif not _read_video(source, out, moments, short, crop, flip):
        with open_video(source) as video:  # anew: only decoding from the beginning finds the frames
            fitter = Fitter(height, width, pixel_aspect=video.pixel_aspect, crop=crop, flip=flip)
            _fill(source, out, fitter, _nearest(video.frames(), moments), moments, short)


def stream(
    source: Source, *, fps: float | None = None, shorter_side: int | None = None
) -> Iterator[tuple[float, Pixels]]:
    """Run through a video or an image from its first frame to its last, in memory that does not grow with its length.

    Args:
        source: A video or an image.
        fps: Frames per second; those nearest to 0, 1 / fps, 2 / fps, ... seconds. None gives each frame of the file.
        shorter_side: Resize to this many pixels on the shorter side; None keeps the size, with pixels made square.

    Yields:
        Seconds from the first frame (with `fps`, the moments above; else the time of the frame), and the upright
        picture, `(H, W, 3)` uint8 RGB.

    Raises:
        UnreadableVideo: If the file is missing, empty, damaged, or no video; perhaps after some frames.
        ValueError: An argument that cannot be.
    """
    if fps is not None and not 0 < fps < math.inf:
        raise ValueError(f"fps is {fps}; it is a number of frames per second above 0, or None for every frame")
    if shorter_side is not None and shorter_side < 1:
        raise ValueError(f"shorter_side is {shorter_side}; it is a number of pixels from 1 on, or None")
    return _stream(source, fps, shorter_side)


def _stream(source: Source, fps: float | None, shorter_side: int | None) -> Iterator[tuple[float, Pixels]]:
    require_file(source)
    if is_still(source):
        yield from _pictures(source, iter([Timed(0.0, 1 / STILL_FPS, read_still(source))]), 1.0, fps, shorter_side)
        return
    with open_video(source) as video:
        yield from _pictures(source, video.frames(), video.pixel_aspect, fps, shorter_side)


def _pictures(
    source: Source, frames: Iterator[Timed], pixel_aspect: float, fps: float | None, shorter_side: int | None
) -> Iterator[tuple[float, Pixels]]:
    first = next(frames, None)
    if first is None:
        raise UnreadableVideo(source, "it contains no frame")
    with _naming(source):
        height, width = upright_size(first.frame, pixel_aspect, shorter_side)
    fitter = Fitter(height, width, pixel_aspect=pixel_aspect)

    def picture(frame: VideoFrame) -> Pixels:
        pixels = np.empty((height, width, 3), np.uint8)
        with _naming(source):
            fitter.write(frame, np.moveaxis(pixels, 2, 0))
        return pixels

    def all_frames() -> Iterator[Timed]:
        yield first
        yield from frames

    if fps is None:
        for timed in all_frames():
            yield timed.time, picture(timed.frame)
        return
    moments = (index / fps for index in count())
    for index, (frame, end) in enumerate(_nearest(all_frames(), moments)):
        if index and index / fps >= end - TIE:
            return
        yield index / fps, picture(frame)


def _read_video(
    source: Source,
    out: Pixels,
    moments: Sequence[float],
    short: Short,
    crop: tuple[float, float],
    flip: bool,
) -> bool:
    """Fill `out` without decoding from the beginning; whether that was possible."""
    with open_video(source) as video:
        fitter = Fitter(out.shape[2], out.shape[3], pixel_aspect=video.pixel_aspect, crop=crop, flip=flip)
        untouched = True
        if plannable(video):
            try:
                _fill(source, out, fitter, (_Chosen(*each) for each in planned(video, moments)), moments, short)
                return True
            except CannotPlan:
                untouched = False
        frames = video.frames() if untouched and moments[0] == 0 else video.frames_from(moments[0])
        if frames is not None:
            _fill(source, out, fitter, _nearest(frames, moments), moments, short)
    return frames is not None


def _nearest(frames: Iterator[Timed], moments: Iterable[float]) -> Iterator[_Chosen]:
    """For each moment, in rising order, the frame nearest to it."""
    before = after = next(frames, None)
    if before is None or after is None:
        return
    last = False
    for moment in moments:
        while after.time < moment and not last:
            following = next(frames, None)
            if following is None:
                last = True
            else:
                before, after = after, following
        nearest = after if after.time - moment + TIE < moment - before.time else before
        yield _Chosen(nearest.frame, after.end if last else math.inf)


def _fill(
    source: Source, out: Pixels, fitter: Fitter, chosen: Iterator[_Chosen], moments: Sequence[float], short: Short
) -> None:
    """Write the frames for the moments into `(C, T, H, W)`."""
    shown: VideoFrame | None = None
    for index, moment in enumerate(moments):
        choice = next(chosen, None)
        if choice is None:
            raise UnreadableVideo(source, "it contains no frame")
        if moment >= choice.end - TIE and short == "skip":
            raise UnreadableVideo(
                source,
                f"it ends after {choice.end:.2f} s; {len(moments)} frames at {_rate(moments)} from {moments[0]:.2f} s"
                " on need more (short=hold would repeat the last frame)",
            )
        if choice.frame is shown:
            out[:, index] = out[:, index - 1]
        else:
            with _naming(source):
                fitter.write(choice.frame, out[:, index])
        shown = choice.frame


def _rate(moments: Sequence[float]) -> str:
    return f"{1 / (moments[1] - moments[0]):g} per second" if len(moments) > 1 else "any rate"


@contextmanager
def _naming(source: Source) -> Iterator[None]:
    """Say of which file it is that a frame cannot be used."""
    try:
        yield
    except UnreadableVideo:
        raise
    except ValueError as error:
        raise UnreadableVideo(source, str(error)) from error


def _check(fps: float, start: float, short: str, crop: tuple[float, float], decoder: str) -> None:
    if not 0 < fps < math.inf:
        raise ValueError(f"fps is {fps}; it is a number of frames per second above 0")
    if not 0 <= start < math.inf:
        raise ValueError(f"start is {start}; it is a number of seconds from 0 on")
    if not all(0 <= share <= 1 for share in crop):
        raise ValueError(f"crop is {crop}; both numbers are shares from 0 (top, left) to 1 (bottom, right)")
    for name, choice, choices in (("short", short, get_args(Short)), ("decoder", decoder, get_args(Decoder))):
        if choice not in choices:
            raise ValueError(f"{name} is {choice!r}; choose one of {', '.join(choices)}")
