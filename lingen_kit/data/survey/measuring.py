"""What a media file says about itself, beside what it holds: all of it is decoded, in memory that stays the same.

Imports no torch, so that worker processes start soon.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import av
from av.video.frame import VideoFrame
from PIL import Image

from lingen_kit.data.decoding.container import VideoFile, open_video
from lingen_kit.data.decoding.still import is_still, read_still
from lingen_kit.data.media import Kind, Source, UnreadableVideo, open_bytes, require_file
from lingen_kit.data.survey.diagnosis import diagnosed, explained, first_complaint

_STILL_SECONDS = 1 / 25  # an image counts as a video of this length

_Lines = list[tuple[int, str, str]]


class Job(NamedTuple):
    """What a worker needs to know about a file."""

    source: Source
    kind: Kind
    quick: bool


def measure(job: Job) -> dict[str, Any]:
    """Decode a file and report what it says about itself beside what it holds.

    Args:
        job: The file; with `quick` only its first frame and those from its last key frame on are decoded.

    Returns:
        `container`, `codec`, `pixels`; `width`, `height` as stored; `declared` with `fps`, `frames` and `seconds`, each
        null if the file does not say; `frames` decoded (null if quick), `seconds` up to the end of the last frame;
        `damaged` frames and the time of the first, `backwards`: frames whose time stamp is not after the one before,
        `untimed`: frames without one; `error`: what ended the decoding before the end, `complaint`: the first of
        FFmpeg's errors that did not, each null if there was none.

    Raises:
        UnreadableVideo: If not one frame can be decoded.
    """
    require_file(job.source)
    if is_still(job.source):
        return _measure_still(job.source)
    with diagnosed(job.source) as lines:
        with open_video(job.source) as video:
            found = _describe(video) | _decode(video, job.quick, lines)
        if not found.pop("seen"):
            why = f"not one frame can be decoded: {found['error']}" if found["error"] else "it contains no frame"
            raise UnreadableVideo(job.source, why)
        return found | {"complaint": first_complaint(lines)}


def describe_still(source: Source) -> dict[str, Any]:
    """The container, codec and pixel format of an image, in Pillow's words."""
    with open_bytes(source) as file, Image.open(file) as image:
        name = str(image.format).lower()
        return {"container": name, "codec": name, "pixels": image.mode}


def _measure_still(source: Source) -> dict[str, Any]:
    frame = read_still(source)
    found = describe_still(source) | {"width": frame.width, "height": frame.height}
    found["declared"] = {"fps": None, "frames": None, "seconds": None}
    found |= {"frames": 1, "seconds": _STILL_SECONDS, "damaged": 0, "damaged_at": None, "backwards": 0, "untimed": 0}
    return found | {"error": None, "complaint": None}


def _describe(video: VideoFile) -> dict[str, Any]:
    stream, container = video.stream, video.container
    rate = stream.average_rate or stream.guessed_rate
    seconds = None
    if stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration:
        seconds = container.duration / av.time_base
    return {
        "container": container.format.name,
        "codec": stream.codec_context.name,
        "pixels": stream.codec_context.pix_fmt,
        "width": stream.codec_context.width,
        "height": stream.codec_context.height,
        "declared": {
            "fps": float(rate) if rate else None,
            "frames": stream.frames or None,
            "seconds": seconds if seconds and math.isfinite(seconds) else None,
        },
    }


def _decode(video: VideoFile, quick: bool, lines: _Lines) -> dict[str, Any]:
    found: dict[str, Any] = {"error": None, "damaged": 0, "damaged_at": None, "backwards": 0, "untimed": 0}
    seen, latest, end = 0, -math.inf, 0.0
    try:
        for frame in _ends(video) if quick else video.container.decode(video.stream):
            stamped = frame.pts is not None and not video.counted
            time = video.seconds(frame.pts) if stamped and frame.pts is not None else seen / video.fps
            found["untimed"] += frame.pts is None
            found["backwards"] += time <= latest
            if frame.is_corrupt:
                found["damaged"] += 1
                found["damaged_at"] = time if found["damaged_at"] is None else found["damaged_at"]
            seen, latest = seen + 1, max(latest, time)
            end = max(end, time + (frame.duration * video.time_base if frame.duration else 1 / video.fps))
    except av.FFmpegError as error:
        found["error"] = explained(error, lines)
    return found | {"seen": seen, "frames": None if quick else seen, "seconds": end}


def _ends(video: VideoFile) -> Iterator[VideoFrame]:
    """The first frame, and those from the last key frame on."""
    first = next(video.container.decode(video.stream), None)
    if first is None:
        return
    yield first
    length = video.container.duration
    if length is None or first.pts is None or video.counted:
        return
    # Near the end, but never behind the last frame: some containers would seek to nowhere.
    video.seek(0.95 * length / av.time_base)
    video.stream.codec_context.flush_buffers()
    for frame in video.container.decode(video.stream):
        if frame.pts is not None and frame.pts > first.pts:
            yield frame
