"""Pack clips into WebDataset shards: tar archives of `<number>.mp4`, `<number>.txt` and `<number>.json`.

Files go in byte for byte; only a stretch of a file is encoded anew. What a shard holds follows from the clips alone, so
a run that was killed, or comes after clips were added, writes just the shards that are not there as they should be.
"""

import io
import json
import tarfile
from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lingen_kit.data.clip import Clip, printable, source_of, split_key
from lingen_kit.data.cut import cut
from lingen_kit.data.jobs import file_key, run_jobs
from lingen_kit.data.layouts.shard_index import INDEX_SUFFIX, read_shard, write_shard_index
from lingen_kit.data.media import FilePart, UnreadableVideo, kind_of, local_path, open_bytes
from lingen_kit.data.probing import probe_clips
from lingen_kit.data.seeds import derive_seed
from lingen_kit.files import replacing
from lingen_kit.page import write

_TEXT_BYTES = 4096  # of caption, JSON and the archive's headers of one clip, about
_HOURS = 24 * 3600.0  # a shard may take long
_ABOUT, _SKIPPED = "about.json", "skipped.jsonl"
_MARK = '"exported_by": "lingen_kit"'  # in every JSON file of an export


@dataclass(frozen=True)
class Member:
    """A clip in a shard.

    Attributes:
        key: Number of the clip, the name of its files.
        clip: The clip.
        about: What its JSON file says.
    """

    key: str
    clip: Clip
    about: str


@dataclass(frozen=True)
class Shard:
    """A shard to be written.

    Attributes:
        path: The archive.
        members: What it holds.
    """

    path: Path
    members: tuple[Member, ...]


class Export(NamedTuple):
    """What a run has done.

    Attributes:
        written: How many shards it wrote.
        skipped: (source, reason) of the clips that could not be read.
        removed: Names of the clips of an earlier run that are no longer part of the data.
    """

    written: int
    skipped: list[tuple[str, str]]
    removed: list[str]


def readable(clips: Sequence[Clip], workers: int) -> tuple[list[Clip], list[tuple[str, str]]]:
    """The clips whose files open as what they should be, and (file, reason) of the others.

    Each file's first frame is decoded and its end looked for; unchanged files that a run has looked into are not opened
    again.

    Args:
        clips: The clips.
        workers: Processes.
    """
    good: list[Clip] = []
    bad: dict[str, str] = {}
    for clip, found in probe_clips(clips, workers):
        if isinstance(found, str):
            bad[printable(str(clip.path))] = found
        else:
            good.append(clip)
    return good, list(bad.items())


def plan_shards(clips: Sequence[Clip], out: Path, shard_bytes: int) -> list[Shard]:
    """Divide clips among shards of about equal size, in an order that a hash of their names shuffles.

    Args:
        clips: The clips.
        out: Folder of the shards.
        shard_bytes: A shard is full once it holds as much.
    """
    groups: list[list[Member]] = []
    room = 0
    for number, clip in enumerate(sorted(clips, key=lambda clip: derive_seed("export", clip.name, clip.caption))):
        size = _size(clip.path) + _TEXT_BYTES
        if size > room:
            groups.append([])
            room = max(shard_bytes, size)
        room -= size
        about = {
            **clip.attributes,
            "exported_by": "lingen_kit",
            "text": clip.caption,
            "name": clip.name,
            "split_by": split_key(clip),
            "file": printable(file_key(clip)),
        }
        groups[-1].append(Member(f"{number:09d}", clip, json.dumps(about)))
    return [Shard(out / f"shard-{number:06d}.tar", tuple(members)) for number, members in enumerate(groups)]


def write_shards(shards: Sequence[Shard], out: Path, workers: int, source: str) -> Export:
    """Write those shards that are not there yet.

    Args:
        shards: All that the folder is to hold; other shards of an earlier export are removed.
        out: The folder.
        workers: Processes.
        source: The data set, in words that tell it from others.

    Raises:
        OSError: If they cannot be written, as on a full disk; whole shards stay.
        ValueError: If the folder holds shards that no export has written, or clips of another data set.
    """
    before = {path: _held(path) for path in sorted(out.glob("shard-*.tar"))}
    if foreign := [path for path, held in before.items() if held is None]:
        raise ValueError(f"{foreign[0]} was not written by an export, or is damaged; remove it or take another folder")
    planned = {member.about for shard in shards for member in shard.members}
    gone = {about for held in before.values() for about in (held or {}).values() if about} - planned
    _claim(out, source, gone)
    skipped = _read_skipped(out)
    todo = {shard.path.name: shard for shard in shards if not stands(shard, skipped)}
    journal = out / "export.journal.jsonl"
    journal.unlink(missing_ok=True)  # the shards themselves say which of them are done
    label = f"writing {len(todo)} shard{'s' * (len(todo) != 1)}"
    done = run_jobs(write_shard, todo, journal, workers=workers, settings={"export": 1}, label=label, timeout=_HOURS)
    journal.unlink(missing_ok=True)
    if failed := [(name, outcome.error) for name, outcome in done.items() if outcome.error is not None]:
        name, reason = failed[0]
        raise ValueError(f"{len(failed)} of {len(todo)} shards could not be written, such as {name}: {reason}")
    skipped |= {about: (source, reason) for outcome in done.values() for about, source, reason in outcome.value or ()}
    skipped = {about: why for about, why in skipped.items() if about in planned}
    lines = (json.dumps({"about": about, "source": why[0], "reason": why[1]}) + "\n" for about, why in skipped.items())
    (out / _SKIPPED).write_text("".join(lines), encoding="utf-8")
    for path in before.keys() - {shard.path for shard in shards}:
        path.unlink()
        _index_of(path).unlink(missing_ok=True)
    names = {member.clip.name for shard in shards for member in shard.members}
    return Export(len(todo), list(skipped.values()), sorted({_name(about) for about in gone} - names))


def _claim(out: Path, source: str, lost: Collection[str]) -> None:
    """Note what data set a folder of shards is made from.

    Raises:
        ValueError: If that was another one so far, of which clips would be lost.
    """
    path = out / _ABOUT
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["exported"] if path.is_file() else None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not that of an export; name another folder with --out") from error
    if before != source and lost:
        raise ValueError(
            f"{out} holds the export of {before or 'other data'}, and the data is {source}: {len(lost)} clips would be"
            f" lost, such as {_name(min(lost))}. Name another folder with --out, or remove this one"
        )
    write(path, json.dumps({"exported": source}, indent=1) + "\n")


def _name(about: str) -> str:
    name: str = json.loads(about)["name"]
    return name


def stands(shard: Shard, skipped: Container[str] = ()) -> bool:
    """Whether a shard is there, whole, with just these members, but for those that an earlier run had to skip."""
    planned = {f"{member.key}.json": member.about for member in shard.members if member.about not in skipped}
    return _index_of(shard.path).is_file() and _held(shard.path) == planned


def _held(path: Path) -> dict[str, str | None] | None:
    """The JSON files in a shard that an export has written, by name; None if it has not, or the shard is not whole."""
    if not path.is_file():
        return None
    contents = read_shard(path)
    held = {member.name: member.text for member in contents.members if member.name.endswith(".json")}
    # One without members is an export, too, of clips that could not be read.
    ours = bool(held) or not (contents.members or contents.flaws)
    whole = ours and contents.size == path.stat().st_size and all(_MARK in (text or "") for text in held.values())
    return held if whole else None


def _index_of(path: Path) -> Path:
    return path.with_name(path.name + INDEX_SUFFIX)


def _read_skipped(out: Path) -> dict[str, tuple[str, str]]:
    """(source, reason) of the clips that earlier runs could not read, by what their JSON would say."""
    path = out / _SKIPPED
    if not path.is_file():
        return {}
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {entry["about"]: (entry["source"], entry["reason"]) for entry in entries}
    except (ValueError, KeyError, TypeError):  # cut off: those clips are tried again
        return {}


def write_shard(shard: Shard) -> list[tuple[str, str, str]]:
    """Write one shard, whole or not at all.

    Returns:
        For each clip that cannot be read: what its JSON would say, its source and the reason.

    Raises:
        OSError: If it cannot be written.
    """
    skipped: list[tuple[str, str, str]] = []
    with replacing(shard.path) as beside, tarfile.open(beside, "w", format=tarfile.PAX_FORMAT) as archive:
        for member in shard.members:
            try:
                suffix, content = _content(member.clip)
            except (UnreadableVideo, FileNotFoundError, PermissionError) as error:
                reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
                skipped.append((member.about, printable(source_of(member.clip)), reason))
                continue
            parts = {suffix: content, ".txt": member.clip.caption.encode(), ".json": member.about.encode()}
            for ending, part in parts.items():
                header = tarfile.TarInfo(member.key + ending)
                header.size = len(part)
                archive.addfile(header, io.BytesIO(part))
    write_shard_index(shard.path)
    return skipped


def _content(clip: Clip) -> tuple[str, bytes]:
    """The suffix and the bytes of a clip's file."""
    if clip.start or clip.end is not None:
        return ".mp4", cut(clip.path, clip.start, clip.end)
    # Who reads shards goes by the suffix, and then decodes what the content says it is.
    suffix = Path(clip.path.name).suffix.lower() if kind_of(clip.path) else ".mp4"
    with open_bytes(clip.path) as file:
        return suffix, file.read()


def _size(source: Path | FilePart) -> int:
    if isinstance(source, FilePart):
        return source.size
    try:
        return local_path(source).stat().st_size
    except OSError:  # gone since it was listed: what reads it will say so
        return 0
