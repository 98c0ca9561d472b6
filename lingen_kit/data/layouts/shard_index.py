"""The index of a shard: a file `<shard>.index.jsonl` that says what is in it, so that nobody need read it through.

The first line is `{"shard_index": 1, "size": bytes of the shard}`; then comes one line for each media or text
file in it, `{"name", "offset", "size"}`, with the content as `"text"` where it is a caption or JSON, and one line
`{"name", "reason"}` for each that cannot be used.
"""

import json
from dataclasses import asdict
from pathlib import Path

from lingen_kit.data.layouts.collect import MAX_CAPTION
from lingen_kit.data.layouts.tar import Contents, Member, read_contents
from lingen_kit.data.media import kind_of
from lingen_kit.files import replacing

INDEX_SUFFIX = ".index.jsonl"

_VERSION = 1
_MOST_BYTES = {"txt": 4 * MAX_CAPTION, "json": 1 << 20}  # of what is read as a caption or as JSON


def read_shard(path: Path) -> Contents:
    """What a shard holds: from the index beside it if there is one of just this shard, or else from its headers.

    Raises:
        OSError: If it cannot be read.
    """
    index = path.with_name(path.name + INDEX_SUFFIX)
    if index.is_file() and index.stat().st_mtime_ns >= path.stat().st_mtime_ns:
        try:
            contents = read_shard_index(index)
        except ValueError as error:
            contents = read_contents(str(path), _wants_text)
            contents.flaws.append((INDEX_SUFFIX, f"its index is damaged, so the shard itself was read: {error}"))
            return contents
        if contents.size == path.stat().st_size:
            return contents
    return read_contents(str(path), _wants_text)


def write_shard_index(path: str | Path) -> Path:
    """Write the index of a shard beside it, whole or not at all.

    Args:
        path: A tar archive.

    Returns:
        The index.

    Raises:
        OSError: If the shard cannot be read or the index not be written.
    """
    path = Path(path)
    contents = read_contents(str(path), _wants_text)
    lines: list[dict[str, object]] = [{"shard_index": _VERSION, "size": contents.size}]
    for member in contents.members:
        if kind_of(member.name) or _suffix(member.name) in _MOST_BYTES:
            lines.append({key: value for key, value in asdict(member).items() if value is not None})
    lines += [{"name": name, "reason": reason} for name, reason in contents.flaws]
    index = path.with_name(path.name + INDEX_SUFFIX)
    with replacing(index) as beside:
        # ASCII, so that names and captions that are not UTF-8 survive as they are.
        beside.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="ascii")
    return index


def read_shard_index(index: Path) -> Contents:
    """What the index of a shard says.

    Raises:
        ValueError: If it is no such index, or says of a file that it lies outside the shard.
    """
    try:
        with index.open(encoding="utf-8") as file:
            head = json.loads(file.readline())
            if head["shard_index"] != _VERSION:
                raise ValueError(f"it is of version {head['shard_index']}, not {_VERSION}")
            contents = Contents(int(head["size"]))
            for line in file:
                entry = json.loads(line)
                if "reason" in entry:
                    contents.flaws.append((str(entry["name"]), str(entry["reason"])))
                    continue
                member = Member(**entry)
                if not (isinstance(member.name, str) and isinstance(member.text, str | None)):
                    raise ValueError("a name or a text in it is none")
                if not (isinstance(member.offset, int) and isinstance(member.size, int)):
                    raise ValueError(f"the place of {member.name} is no number of bytes")
                if not 0 <= member.offset <= member.offset + member.size <= contents.size:
                    raise ValueError(f"{member.name} would lie outside the shard")
                contents.members.append(member)
    except (KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{index.name}: {error}") from error
    return contents


def _suffix(name: str) -> str:
    """All that follows the first dot of the last part of a name, as webdataset has it."""
    return name.rpartition("/")[2].partition(".")[2].lower()


def _wants_text(name: str, size: int) -> bool:
    return size <= _MOST_BYTES.get(_suffix(name), -1)
