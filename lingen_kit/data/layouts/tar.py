"""What a tar archive holds and where, read from its headers: nothing is unpacked, and a damaged one read up to there.

Formats: ustar, GNU (long names) and pax, as in POSIX.1-2017 and the GNU tar manual. The standard library's `tarfile`
takes several times as long.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

_BLOCK = 512
_REGULAR = (b"0", b"\0", b"7")
_LONG_NAME, _PAX = b"L", b"x"
_MOST_BYTES_OF_A_NAME = 1 << 20
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive.

    Attributes:
        name: Its name there; bytes that are not UTF-8 as `os.fsdecode` has them.
        offset: First byte of its content.
        size: Bytes.
        text: The content, if it was asked for, with bytes that are not UTF-8 likewise.
    """

    name: str
    offset: int
    size: int
    text: str | None = None


@dataclass
class Contents:
    """What an archive holds.

    Attributes:
        size: Bytes of the archive.
        members: Its files, in order.
        flaws: (name, reason) of members that cannot be used; ("", reason) for the archive.
    """

    size: int
    members: list[Member] = field(default_factory=list)
    flaws: list[tuple[str, str]] = field(default_factory=list)


class _Damaged(ValueError):
    """A header that is none."""


def read_contents(path: str, wants_text: Callable[[str, int], bool]) -> Contents:
    """List the members of a tar archive.

    Args:
        path: The archive.
        wants_text: Whether to read the content of a member, by its name and size.

    Raises:
        OSError: If it cannot be read.
    """
    with open(path, "rb", buffering=4096) as file:  # a header, a short text and the next header are often one reading
        contents = Contents(file.seek(0, 2))
        file.seek(0)
        start = file.read(6)
        if packing := next((name for magic, name in _COMPRESSED.items() if start.startswith(magic)), None):
            contents.flaws.append(
                ("", f"it is compressed with {packing}, so nothing in it can be found; unpack it to .tar")
            )
            return contents
        _read_members(file, contents, wants_text)
    return contents


def _read_members(file: BinaryIO, contents: Contents, wants_text: Callable[[str, int], bool]) -> None:
    place = 0
    long_name: str | None = None
    pax: dict[str, str] = {}
    while place < contents.size:
        file.seek(place)
        header = file.read(_BLOCK)
        if not header.strip(b"\0") and len(header) == _BLOCK:
            if _more_after(file):
                contents.flaws.append(("", f"more follows its end mark at byte {place}, which is not read"))
            return
        try:
            kind = header[156:157]
            size = _check(header)
            if kind in _REGULAR:
                size = int(pax.get("size", size))
            if size < 0:
                raise _Damaged
            following = place + _BLOCK + -(-size // _BLOCK) * _BLOCK
            cut = place + _BLOCK + size > contents.size
            if kind in (_LONG_NAME, _PAX):
                if cut or size > _MOST_BYTES_OF_A_NAME:
                    raise _Damaged
                data = file.read(size)
                if kind == _PAX:
                    pax = _pax(data)
                else:
                    long_name = _text(data.partition(b"\0")[0])
                place = following
                continue
        except ValueError:
            known = (
                f"the {len(contents.members):,} files before it are used" if contents.members else "it holds no file"
            )
            what = "it is no tar archive" if place == 0 else f"it is damaged at byte {place}; {known}"
            contents.flaws.append(("", what))
            return
        name = pax.get("path") or long_name or _name(header)
        if kind in _REGULAR and cut:
            contents.flaws.append((name, "the archive ends before it does"))
        elif kind in _REGULAR and any(key.startswith("GNU.sparse") for key in pax):
            contents.flaws.append((name, "it is stored with holes (sparse), which cannot be read in place"))
        elif kind in _REGULAR:
            text = _text(file.read(size)) if wants_text(name, size) else None
            contents.members.append(Member(name, place + _BLOCK, size, text))
        elif kind not in (b"5", b"g", b"K"):
            contents.flaws.append((name, "it is no file in the archive, but a link or the like"))
        if kind not in (b"g", b"K"):
            long_name, pax = None, {}
        place = following
    if contents.size:
        contents.flaws.append(("", "its end mark is missing; it may have been cut off"))


def _check(header: bytes) -> int:
    """The size that a header tells, if its checksum is right."""
    if len(header) < _BLOCK:
        raise _Damaged
    field_ = header[148:156]
    expected = int(field_.partition(b"\0")[0].strip() or b"x", 8) + sum(field_) - 8 * 32
    # Adler-32's lower half is the sum of the bytes, plus 1, modulo 65521: far faster than adding them up here.
    if ((zlib.adler32(header) & 0xFFFF) - 1 - expected) % 65521:
        raise _Damaged
    size = header[124:136]
    if size[0] == 0x80:  # GNU's binary form
        return int.from_bytes(size[1:])
    return int(size.partition(b"\0")[0].strip() or b"0", 8)


def _name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _pax(data: bytes) -> dict[str, str]:
    """The records `length key=value` of an extended header."""
    records: dict[str, str] = {}
    while data.strip(b"\0"):
        length, space, _ = data.partition(b" ")
        end = int(length)
        key, equals, value = data[len(length) + 1 : end - 1].partition(b"=")
        if not space or not equals or end <= len(length):
            raise _Damaged
        records[_text(key)] = _text(value)
        data = data[end:]
    return records


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _more_after(file: BinaryIO) -> bool:
    """Whether anything but zeros is left."""
    while data := file.read(1 << 20):
        if data.strip(b"\0"):
            return True
    return False
