"""A quick look into a media file: what its header says, its middle frame, a hash of some of its bytes.

Imports no torch, so that worker processes start soon.

Letters: H height, W width.
"""

import base64
import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from lingen_kit.data.decode import probe
from lingen_kit.data.decoding.container import Timed, VideoFile, open_video
from lingen_kit.data.decoding.frame import Fitter, upright_size
from lingen_kit.data.decoding.still import is_still, read_still
from lingen_kit.data.media import FilePart, Source, UnreadableVideo, open_bytes, require_file
from lingen_kit.data.survey.diagnosis import diagnosed
from lingen_kit.data.survey.measuring import describe_still
from lingen_kit.page import jpeg

Pixels = NDArray[np.uint8]

_PIECE = 1 << 16


class Moment(NamedTuple):
    """A place in a file.

    Attributes:
        source: The file.
        seconds: From its first frame on.
        side: Pixels of the longer side of its picture.
    """

    source: Source
    seconds: float
    side: int


def look(source: Source) -> dict[str, Any]:
    """What a file says about itself.

    Returns:
        `info`: the fields of its `VideoInfo`; `container`, `codec`, `pixels`: FFmpeg's names; `sound`: whether there is
        any; `bytes`; `digest`: a hash of its length and of its first, middle and last bytes, the same for equal files
        and hardly ever for others.

    Raises:
        UnreadableVideo: If its first frame cannot be decoded.
    """
    with diagnosed(source):
        found: dict[str, Any] = {"info": asdict(probe(source))}
        if is_still(source):
            found |= describe_still(source) | {"sound": False}
        else:
            with open_video(source) as video:
                found["container"] = video.container.format.name
                found["codec"] = video.stream.codec_context.name
                found["pixels"] = video.stream.codec_context.pix_fmt
                found["sound"] = bool(video.container.streams.audio)
    size = source.size if isinstance(source, FilePart) else os.stat(source).st_size
    return found | {"bytes": size, "digest": _digest(source, size)}


def picture(moment: Moment) -> str:
    """The frame that a file shows at a moment, as a small JPEG in base64.

    Raises:
        UnreadableVideo: If it cannot be decoded.
    """
    source = moment.source
    require_file(source)
    if is_still(source):
        pixels = _small(read_still(source, shortest=moment.side), 1.0, moment.side)
    else:
        with open_video(source) as video:
            frames = video.frames_from(moment.seconds)
            found = None if frames is None else _shown_at(moment, video, frames)
        if found is None:
            with open_video(source) as video:  # anew: only decoding from the beginning finds the frame
                found = _shown_at(moment, video, video.frames())
        pixels = found
    return base64.b64encode(jpeg(pixels, quality=72)).decode()


def _shown_at(moment: Moment, video: VideoFile, frames: Iterator[Timed]) -> Pixels:
    shown: Timed | None = None
    for shown in frames:
        if shown.end > moment.seconds:
            break
    if shown is None:
        raise UnreadableVideo(moment.source, "it contains no frame")
    return _small(shown.frame, video.pixel_aspect, moment.side)


def _small(frame: VideoFrame, pixel_aspect: float, side: int) -> Pixels:
    """`(H, W, 3)` RGB, upright, the longer side as wanted."""
    height, width = upright_size(frame, pixel_aspect)
    scale = side / max(height, width)
    pixels = np.empty((max(1, round(height * scale)), max(1, round(width * scale)), 3), np.uint8)
    Fitter(*pixels.shape[:2], pixel_aspect=pixel_aspect).write(frame, np.moveaxis(pixels, 2, 0))
    return pixels


def _digest(source: Source, size: int) -> str:
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with open_bytes(source) as file:
        for place in dict.fromkeys([0, max(0, size // 2 - _PIECE // 2), max(0, size - _PIECE)]):
            file.seek(place)
            digest.update(file.read(_PIECE))
    return digest.hexdigest()
