"""A video file opened with PyAV (which brings its own FFmpeg): its video stream, and its frames from any moment on.

Moments are seconds from where the stream begins, so that a file cut out of a longer one starts at 0 as well.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from lingen_kit.data.media import FilePart, Source, UnreadableVideo, open_bytes, require_file

TIE = 1e-6  # seconds; a moment half-way between two frames is the earlier one's, whatever the rounding

_FALLBACK_FPS = 25.0
# What a file may be taken for, whatever its name. Playlists (HLS, DASH, concat) are not among it: they make FFmpeg open
# further files and addresses. Nor is plain text, which it would draw on a terminal.
_FORMATS = (
    "mov,mp4,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,m4v,asf,ogg,flv,ivf,obu,nut,mxf,dv,rm,vc1,h264,hevc,av1,"
    "mjpeg,yuv4mpegpipe"
)
_OPTIONS = {"format_whitelist": _FORMATS}
_ENCRYPTED_TAGS = ("encv", "drmi")


class Timed(NamedTuple):
    """A frame, when it is shown, and until when; seconds from where the stream begins."""

    time: float
    end: float
    frame: VideoFrame


@dataclass
class VideoFile:
    """An open file and its first video stream that is not a cover picture; see `open_video`.

    Attributes:
        source: Where it is.
        container: The file in FFmpeg's hands.
        stream: Its video.
    """

    source: Source
    container: InputContainer
    stream: VideoStream

    @cached_property
    def fps(self) -> float:
        """Frames per second, the average if they vary."""
        return float(self.stream.average_rate or self.stream.guessed_rate or _FALLBACK_FPS)

    @cached_property
    def pixel_aspect(self) -> float:
        """Width of a pixel over its height."""
        return float(self.stream.sample_aspect_ratio or 1) or 1.0

    @cached_property
    def time_base(self) -> float:
        """Seconds of one unit of the stream's time stamps."""
        return float(self.stream.time_base or 1 / self.fps)

    @cached_property
    def origin(self) -> int:
        """Time stamp at which the stream begins."""
        return self.stream.start_time or 0

    @cached_property
    def counted(self) -> bool:
        """Whether only counting tells the time of a frame, so that the file must be read from its beginning.

        AVI stores frames in the order of decoding with no time stamps; where that is not the order of display, the
        time stamps that FFmpeg makes up go back and forth.
        """
        return self.stream.time_base is None or (
            self.container.format.name == "avi" and bool(self.stream.codec_context.has_b_frames)
        )

    def seconds(self, stamp: int) -> float:
        """A time stamp of a packet or frame as a moment."""
        return (stamp - self.origin) * self.time_base

    def seek(self, moment: float) -> None:
        """Go to the last key frame before a moment, or to one still earlier; some containers go past it."""
        stamp = math.floor((moment + TIE) / self.time_base) + self.origin
        self.container.seek(stamp, stream=self.stream, backward=True)

    def frames(self) -> Iterator[Timed]:
        """The frames of a file that was just opened, from the first on, in order of time.

        Raises:
            UnreadableVideo: A frame is damaged.
        """
        return self._decode(self.container.demux(self.stream), counted=self.counted)

    def frames_from(self, moment: float) -> Iterator[Timed] | None:
        """The frames from a moment on and from at most a few seconds before it: the first is shown at it or earlier.

        Returns:
            None if the file must be opened anew and read from its beginning.
        """
        back = 0.0
        while moment > back and not self.counted:
            try:
                self.seek(moment - back)
                frames = self._decode(self._from_key_frame(), counted=False)
                first = next(frames, None)
            except (av.FFmpegError, UnreadableVideo):
                first = None  # what is before the next key frame cannot be decoded from here
            else:
                if first is not None and first.time <= moment + TIE:
                    return chain([first], frames)
            back = max(1.0, 2 * back)
        return None

    def end(self) -> float | None:
        """The moment at which the last frame ends, from the time stamps of the packets at the end of the file."""
        moment = self._stated_duration() or 0.0
        if self.counted:
            return moment or None
        for place in (moment, 0.0):
            try:
                self.seek(place)
                ends = [
                    self.seconds(packet.pts) + (packet.duration * self.time_base if packet.duration else 1 / self.fps)
                    for packet in self.container.demux(self.stream)
                    if packet.pts is not None and not packet.is_discard
                ]
            except av.FFmpegError:
                continue
            if ends:
                return max(ends)
        return moment or None

    def count(self) -> int:
        """The number of frames of a file that was just opened, read from its packets; none is decoded."""
        return sum(packet.size > 0 for packet in self.container.demux(self.stream))

    def _stated_duration(self) -> float | None:
        if self.stream.duration:
            return self.stream.duration * self.time_base
        return self.container.duration / av.time_base if self.container.duration else None

    def _from_key_frame(self) -> "Iterator[Packet[VideoStream]]":
        """The packets from here on, without those that lean on frames before the first key frame."""
        found = False
        for packet in self.container.demux(self.stream):
            found = found or packet.is_keyframe
            if found:
                yield packet

    def _decode(self, packets: "Iterator[Packet[VideoStream]]", counted: bool) -> Iterator[Timed]:
        interval = 1 / self.fps
        time = -interval
        for frame in (frame for packet in packets for frame in packet.decode()):
            if frame.is_corrupt:
                raise UnreadableVideo(self.source, f"the frame after {max(time, 0):.2f} s is damaged")
            if frame.pts is not None and not counted:
                time = self.seconds(frame.pts)
            else:
                time += interval
            yield Timed(time, time + (frame.duration * self.time_base if frame.duration else interval), frame)


@contextmanager
def open_video(source: Source) -> Iterator[VideoFile]:
    """Open a file; any error of FFmpeg inside becomes `UnreadableVideo`.

    Raises:
        UnreadableVideo: The file is missing, empty, damaged, or has no video that can be decoded.
    """
    path = require_file(source)
    opened = False
    try:
        with ExitStack() as stack:
            # A name in FFmpeg's hands is an address ("cam:1.mp4" would be one of the protocol "cam"), and UTF-8.
            plain = not isinstance(source, FilePart) and str(path).isprintable()
            file = f"file:{path}" if plain else stack.enter_context(open_bytes(source))
            container = stack.enter_context(av.open(file, mode="r", options=_OPTIONS, metadata_errors="ignore"))
            opened = True
            yield VideoFile(source, container, _video_stream(source, container))
    except av.ArgumentError as error:
        reason = f"{error.strerror} (FFmpeg)" if opened else "it is in no format of a video (FFmpeg)"
        raise UnreadableVideo(source, reason) from error
    except av.InvalidDataError as error:
        what = "it is damaged" if opened else "it is no video, or it is damaged or cut off"
        raise UnreadableVideo(source, f"{what}: {error.strerror} (FFmpeg)") from error
    except (av.FFmpegError, OSError) as error:
        raise UnreadableVideo(source, f"{error.strerror or error} (FFmpeg)") from error


def _video_stream(source: Source, container: InputContainer) -> VideoStream:
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise UnreadableVideo(source, "it contains no video stream")
    stream = streams[0]
    context = stream.codec_context
    if context is None:
        raise UnreadableVideo(source, "there is no decoder for its codec")
    if context.codec_tag in _ENCRYPTED_TAGS:
        raise UnreadableVideo(source, "it is encrypted")
    context.thread_count = 1  # the loader's workers are the parallelism; FFmpeg's own threads would compete with them
    return stream
