"""Why a file cannot be decoded, in words that say what to do about it. Imports no torch."""

from collections.abc import Iterator
from contextlib import contextmanager

import av

from lingen_kit.data.media import Source, UnreadableVideo, open_bytes

_PEEK = 4096
_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"Rar!")


@contextmanager
def diagnosed(source: Source) -> Iterator[list[tuple[int, str, str]]]:
    """Improve the reason of an `UnreadableVideo` that FFmpeg caused, from what it logs and from the file's first bytes.

    Yields:
        The lines that FFmpeg logs meanwhile as errors, those among them that it gets over; see `first_complaint`.
    """
    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # the count of repetitions would come with the next file's first line
    try:
        with av.logging.Capture() as lines:
            try:
                yield lines
            except UnreadableVideo as error:
                if not isinstance(error.__cause__, av.FFmpegError):
                    raise
                raise UnreadableVideo(source, _guess(source) or explained(error.__cause__, lines)) from error.__cause__
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skips)


def first_complaint(lines: list[tuple[int, str, str]]) -> str | None:
    """The first of the lines that FFmpeg logged; None if there are none."""
    return next((text.strip().rstrip(".") for _, _, text in lines), None)


def explained(error: av.FFmpegError, lines: list[tuple[int, str, str]]) -> str:
    """An error of FFmpeg with the detail that only its log gives."""
    detail = first_complaint(lines)
    if detail == "moov atom not found":
        return "the list of its frames is missing, as if it was cut off or is still being written (FFmpeg: no moov)"
    unknown = detail is None and isinstance(error, av.error.InvalidDataError)
    if unknown or (detail and detail.startswith("Format not on whitelist")):
        return "its content is of no kind of video that is read here"
    return f"{detail or error.strerror or error} (FFmpeg)"


def _guess(source: Source) -> str | None:
    """What a file that is no video is instead, by its first bytes."""
    with open_bytes(source) as file:
        head = file.read(_PEEK)
    if not head.strip(b"\0"):
        return f"its first {len(head)} bytes are zeros, as if a download or a copy was not finished"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "it is a web page, not a video"
    if head.startswith(_ARCHIVES):
        return "it is an archive, not a video"
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS; `git lfs pull` fetches the file itself"
    return "it is text, not a video" if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head) else None
