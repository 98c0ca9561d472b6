"""Media files: what they are named, where their bytes lie, what they say about themselves, why they cannot be read."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["video", "image"]

VIDEO_SUFFIXES = frozenset(
    [".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv"]
)
IMAGE_SUFFIXES = frozenset([".bmp", ".jpeg", ".jpg", ".png", ".webp"])


@dataclass(frozen=True, slots=True)
class FilePart:
    """A stretch of a file that is a media file of its own: a member of a tar archive, stored as it is.

    Attributes:
        path: The file.
        name: Name of the part, suffix included.
        offset: First byte.
        size: Bytes.
    """

    path: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        """The archive and the name in it, as if it were a folder."""
        return f"{self.path}/{self.name}"


Source = str | Path | FilePart
"""Where the bytes of one video or image are."""


class UnreadableVideo(ValueError):
    """A file that gives no clip.

    Args:
        path: The file.
        reason: Why, in a few words.
    """

    def __init__(self, path: Source, reason: str) -> None:
        super().__init__(f"cannot read {path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type["UnreadableVideo"], tuple[str, str]]:
        """Let the error travel between processes."""
        return type(self), (self.path, self.reason)


@dataclass(frozen=True, slots=True)
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


def kind_of(source: Source) -> Kind | None:
    """Whether a name is that of a video or of an image; None if of neither."""
    suffix = Path(source.name if isinstance(source, FilePart) else source).suffix.lower()
    return "video" if suffix in VIDEO_SUFFIXES else "image" if suffix in IMAGE_SUFFIXES else None


def open_bytes(source: Source) -> io.BufferedIOBase:
    """Open a source for reading; seeking and the end are those of the part, not of the file around it."""
    if not isinstance(source, FilePart):
        return open(source, "rb")
    return io.BufferedReader(_Window(source), buffer_size=1 << 17)


class _Window(io.RawIOBase):
    """The bytes of a `FilePart` as a file."""

    def __init__(self, part: FilePart) -> None:
        self._file = open(part.path, "rb", buffering=0)  # noqa: SIM115 - closed with this object
        self._start, self._size, self._place = part.offset, part.size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        wanted = max(0, min(len(view), self._size - self._place))
        self._file.seek(self._start + self._place)
        count = self._file.readinto(view[:wanted]) or 0
        self._place += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
