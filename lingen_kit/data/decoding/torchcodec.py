"""Decoding with torchcodec, as an option: the same frames as PyAV gives.

The time stamps of the packets, read once a file with PyAV, say which frames are wanted; torchcodec decodes those. It
rotates them itself.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from av.video.frame import VideoFrame

from lingen_kit.data.decoding.container import TIE, open_video
from lingen_kit.data.decoding.frame import Pixels, Turn, turn_of
from lingen_kit.data.media import FilePart, Source, UnreadableVideo, open_bytes
from lingen_kit.errors import MissingPackage


@dataclass(frozen=True)
class _Table:
    """The frames of a file in order of time.

    Attributes:
        moments: `(frames,)` seconds from where the stream begins, float64.
        origin: Seconds on the file's own clock at which the stream begins.
        end: The moment at which the last frame ends.
        stream: Number of the stream in the file.
        mapping: The same as torchcodec wants it, so that it need not read the whole file again.
        pixel_aspect: Width of a stored pixel over its height.
        turn: How to set the stored picture upright.
        rotation: The part of it that torchcodec does: degrees counterclockwise.
    """

    moments: torch.Tensor
    origin: float
    end: float
    stream: int
    mapping: str
    pixel_aspect: float
    turn: Turn
    rotation: int


def chosen_frames(source: Source, moments: Sequence[float]) -> tuple[Iterator[tuple[VideoFrame, float]], float]:
    """For each moment, in rising order, the frame nearest to it and where the file ends; and the pixels' aspect.

    Args:
        source: A video.
        moments: Seconds from the first frame.

    Returns:
        Upright RGB frames, one object where a frame is wanted again, each with the moment at which the file ends;
        the width of a pixel over its height.

    Raises:
        MissingPackage: torchcodec or its FFmpeg is not installed.
        UnreadableVideo: The file is damaged or holds no video.
    """
    decoder_class = _decoder_class()
    path = source.path if isinstance(source, FilePart) else Path(source)
    status = path.stat()
    table = _table(source, status.st_mtime_ns, status.st_size)
    after = torch.searchsorted(table.moments, torch.tensor(moments, dtype=torch.float64)).clamp(
        max=len(table.moments) - 1
    )
    before = (after - 1).clamp(min=0)
    wanted = torch.tensor(moments, dtype=torch.float64)
    nearest = torch.where(table.moments[after] - wanted + TIE < wanted - table.moments[before], after, before)
    kept, places = nearest.unique(return_inverse=True)
    try:
        with open_bytes(source) as file:
            decoder = decoder_class(
                file if isinstance(source, FilePart) else path,
                stream_index=table.stream,
                dimension_order="NHWC",
                num_ffmpeg_threads=1,
                device="cpu",
                custom_frame_mappings=table.mapping,
            )
            batch = decoder.get_frames_at(kept.tolist())
    except (RuntimeError, ValueError, IndexError) as error:
        raise UnreadableVideo(source, f"{str(error).splitlines()[0]} (torchcodec)") from error
    if (batch.pts_seconds - table.origin - table.moments[kept]).abs().max() > 1e-3:  # seeking in MPEG-TS goes astray
        raise UnreadableVideo(source, "torchcodec gives other frames than it was asked for; use decoder=pyav")
    frames = [VideoFrame.from_ndarray(_upright(picture, table), format="rgb24") for picture in batch.data.numpy()]
    pixel_aspect = 1 / table.pixel_aspect if table.turn.transpose else table.pixel_aspect
    return ((frames[place], table.end) for place in places.tolist()), pixel_aspect


def _upright(picture: Pixels, table: _Table) -> Pixels:
    """What torchcodec gives, `(H, W, 3)`, upright: it rotates, but leaves out that a picture is mirrored."""
    if not table.turn.mirrors:
        return picture
    stored = np.rot90(picture, -table.rotation // 90)
    return np.stack([table.turn.apply(stored[..., channel]) for channel in range(3)], axis=-1)


def _decoder_class() -> Any:
    try:
        return import_module("torchcodec.decoders").VideoDecoder
    except (ImportError, RuntimeError, OSError) as error:
        raise MissingPackage(
            'decoder torchcodec needs the package torchcodec (pip install "lingen_kit[torchcodec]") and the libraries'
            f" of FFmpeg 4 to 9 (such as: apt-get install ffmpeg): {str(error).strip().splitlines()[0]}"
        ) from error


@lru_cache(maxsize=256)
def _table(source: Source, modified: int, size: int) -> _Table:
    """The frames of a file, read from its packets; kept until the file changes."""
    with open_video(source) as video:
        first = next(video.frames(), None)
        if first is None:
            raise UnreadableVideo(source, "it contains no frame")
        try:
            turn = turn_of(first.frame)
        except ValueError as error:
            raise UnreadableVideo(source, str(error)) from error
    with open_video(source) as video:
        packets = sorted(
            (packet.pts, packet.duration or 0, int(packet.is_keyframe))
            for packet in video.container.demux(video.stream)
            if packet.pts is not None and not packet.is_discard
        )
        if not packets or video.counted:
            raise UnreadableVideo(source, "its frames have no time stamps; decoder=pyav counts them")
        pts, duration, _ = packets[-1]
        names = ("pts", "duration", "key_frame")
        return _Table(
            moments=torch.tensor([video.seconds(packet[0]) for packet in packets], dtype=torch.float64),
            origin=video.origin * video.time_base,
            end=video.seconds(pts) + (duration * video.time_base if duration else 1 / video.fps),
            stream=video.stream.index,
            mapping=json.dumps({"frames": [dict(zip(names, packet, strict=True)) for packet in packets]}),
            pixel_aspect=video.pixel_aspect,
            turn=turn,
            rotation=first.frame.rotation,
        )
