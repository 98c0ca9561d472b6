"""Frames at given moments of an H.264 file, without decoding those that nobody needs.

Which frame is the nearest to each moment follows from the time stamps of the packets. Of the others FFmpeg decodes
those that further frames refer to; an H.264 frame says so itself (nal_ref_idc). HEVC's mark means less: a frame of a
higher temporal layer may refer to a frame that has it.
"""

from bisect import bisect_left
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from lingen_kit.data.decoding.container import TIE, VideoFile


class _Stamped(NamedTuple):
    """A packet and its time stamp."""

    stamp: int
    packet: "Packet[VideoStream]"


class CannotPlan(Exception):
    """The time stamps of the packets do not say which frames there are: decode all of them."""


def plannable(video: VideoFile) -> bool:
    """Whether `planned` may be tried."""
    return video.stream.codec_context.name == "h264" and not video.counted


def planned(video: VideoFile, moments: Sequence[float]) -> Iterator[tuple[VideoFrame, float]]:
    """For each moment, in rising order, the frame nearest to it and the moment where the file ends (infinity if later).

    Raises:
        CannotPlan: Perhaps after some frames; they were right.
    """
    try:
        packets, end = _packets(video, moments[0], moments[-1])
        first = packets[0].stamp
        stamps = sorted({stamp for stamp, packet in packets if stamp >= first and not packet.is_discard})
        needed = [_nearest(video, stamps, moment) for moment in moments]
        frame: VideoFrame | None = None
        with closing(_decode(video, packets, set(needed))) as frames:
            for stamp in needed:
                while frame is None or frame.pts != stamp:
                    frame = next(frames, None)
                    if frame is None or frame.pts is None or frame.pts > stamp or frame.is_corrupt:
                        raise CannotPlan  # the frame did not come
                    if frame.interlaced_frame:
                        raise CannotPlan  # the two fields of a picture may have come as two packets
                yield frame, end
    except av.FFmpegError as error:
        raise CannotPlan from error


def _packets(video: VideoFile, first: float, last: float) -> tuple[list[_Stamped], float]:
    """The packets from the last key frame before `first` to the first frame after `last`; where the file ends."""
    back = 0.0
    while True:
        if first > 0:
            video.seek(max(0.0, first - back))
        packets: list[_Stamped] = []
        after = float("inf")  # the earliest frame after `last` so far
        for packet in video.container.demux(video.stream):
            if packet.pts is None:
                if packet.size:
                    raise CannotPlan
                break  # the end of the file
            if not packets and not packet.is_keyframe:
                continue
            packets.append(_Stamped(packet.pts, packet))
            time = video.seconds(packet.pts)
            if len(packets) == 1 and time > first + TIE:
                break
            if time > last:
                after = min(after, time)
            # No frame is shown before it is decoded: from here on none comes that is shown earlier.
            if packet.dts is not None and video.seconds(packet.dts) >= after:
                return packets, float("inf")
        if packets and video.seconds(packets[0].stamp) <= first + TIE:
            stamp, packet = max(packets, key=lambda each: each.stamp)
            length = packet.duration * video.time_base if packet.duration else 1 / video.fps
            return packets, video.seconds(stamp) + length
        if back >= first:
            raise CannotPlan
        back = max(1.0, 2 * back)


def _nearest(video: VideoFile, stamps: list[int], moment: float) -> int:
    place = bisect_left(stamps, moment, key=video.seconds)
    before, after = stamps[max(0, place - 1)], stamps[min(place, len(stamps) - 1)]
    return after if video.seconds(after) - moment + TIE < moment - video.seconds(before) else before


def _decode(video: VideoFile, packets: list[_Stamped], needed: set[int]) -> Generator[VideoFrame]:
    context = video.stream.codec_context
    try:
        for stamp, packet in packets:
            context.skip_frame = "DEFAULT" if stamp in needed else "NONREF"
            yield from packet.decode()
        yield from context.decode(None)
    finally:
        context.skip_frame = "DEFAULT"  # for whoever decodes all of it after all
