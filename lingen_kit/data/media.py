"""Media files: what they are named, where their bytes lie, what they say about themselves, why they cannot be read."""

import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lingen_kit.data.remote import CannotFetch, fetch

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
        url: Where the file comes from if it is not here yet; `path` is its place in the cache.
    """

    path: Path
    name: str
    offset: int
    size: int
    url: str | None = None

    def __str__(self) -> str:
        """The archive and the name in it, as if it were a folder; without what follows `?` in a URL, maybe a key."""
        return f"{self.url.partition('?')[0] if self.url else self.path}/{self.name}"


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
    suffix = os.path.splitext(source.name if isinstance(source, FilePart) else source)[1].lower()
    return "video" if suffix in VIDEO_SUFFIXES else "image" if suffix in IMAGE_SUFFIXES else None


def local_path(source: Source) -> Path:
    """The file that holds the bytes of a source; one that comes from a URL is fetched if it is not here yet.

    Raises:
        UnreadableVideo: If it cannot be fetched.
        OSError: If the disk of the cache is full.
    """
    if not isinstance(source, FilePart):
        return Path(source)
    if source.url is None or source.path.is_file():
        return source.path
    try:
        return fetch(source.url)
    except CannotFetch as error:
        raise UnreadableVideo(source, error.reason) from error


def require_file(source: Source) -> Path:
    """The file that holds a source, once it is known that it can be opened.

    A pipe or a device is refused without opening it, which might wait for ever.

    Raises:
        UnreadableVideo: It is missing, no regular file, empty, not ours to read, or ends before the part does.
    """
    path = local_path(source)
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            os.close(os.open(path, os.O_RDONLY))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UnreadableVideo(source, "there is no such file") from error
    except PermissionError as error:
        raise UnreadableVideo(source, "permission denied") from error
    except OSError as error:  # such as too many symbolic links, too long a name, too many open files
        raise UnreadableVideo(source, (error.strerror or str(error)).lower()) from error
    except ValueError as error:  # a zero byte in the name
        raise UnreadableVideo(source, str(error)) from error
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableVideo(source, "it is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableVideo(source, "it is a pipe, a socket or a device, not a file")
    if (source.size if isinstance(source, FilePart) else status.st_size) == 0:
        raise UnreadableVideo(source, "the file is empty (0 bytes)")
    if isinstance(source, FilePart) and source.offset + source.size > status.st_size:
        raise UnreadableVideo(source, f"{source.path.name} ends before this part of it does")
    return path


def open_bytes(source: Source) -> io.BufferedReader:
    """Open a source for reading; seeking and the end are those of the part, not of the file around it."""
    if not isinstance(source, FilePart):
        return open(source, "rb")
    return io.BufferedReader(_Window(source), buffer_size=1 << 17)


class _Window(io.RawIOBase):
    """The bytes of a `FilePart` as a file."""

    def __init__(self, part: FilePart) -> None:
        self._file = open(local_path(part), "rb", buffering=0)  # noqa: SIM115 - closed with this object
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
