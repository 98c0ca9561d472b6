"""Pack clips into WebDataset shards: tar archives of `<number>.mp4`, `<number>.txt` and `<number>.json`.

Files go in byte for byte; only a stretch of a file is encoded anew. What a shard holds follows from the clips alone, so
a run that was killed, or comes after clips were added, writes just the shards that are not there as they should be.
"""

import io
import json
import os
import tarfile
from collections.abc import Container, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from lingen_kit.data.clip import Clip, printable, source_of
from lingen_kit.data.decode import probe, read_pixels
from lingen_kit.data.jobs import file_key, run_jobs
from lingen_kit.data.layouts.shard_index import INDEX_SUFFIX, read_shard, write_shard_index
from lingen_kit.data.media import FilePart, Source, UnreadableVideo, kind_of, local_path, open_bytes
from lingen_kit.data.seeds import derive_seed

_TEXT_BYTES = 4096  # of caption, JSON and the archive's headers of one clip, about
_QUALITY = "16"  # of libx264: no difference that the eye sees
_HOURS = 24 * 3600.0  # a shard may take long
_FRAMES = 32  # of a stretch that are in memory at a time
_SKIPPED = "skipped.jsonl"
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
            "name": printable(clip.name),
            "file": printable(file_key(clip)),
        }
        groups[-1].append(Member(f"{number:09d}", clip, json.dumps(about)))
    return [Shard(out / f"shard-{number:06d}.tar", tuple(members)) for number, members in enumerate(groups)]


def write_shards(shards: Sequence[Shard], out: Path, workers: int) -> tuple[int, list[tuple[str, str]]]:
    """Write those shards that are not there yet.

    Args:
        shards: All that the folder is to hold; shards of an earlier export are removed.
        out: The folder.
        workers: Processes.

    Returns:
        How many shards were written, and (source, reason) of the clips that could not be read.

    Raises:
        OSError: If they cannot be written, as on a full disk; whole shards stay.
        ValueError: If the folder holds shards that no export has written.
    """
    out.mkdir(parents=True, exist_ok=True)
    before = sorted(out.glob("shard-*.tar"))
    if foreign := [path for path in before if _held(path) is None]:
        raise ValueError(f"{foreign[0]} was not written by an export, or is damaged; remove it or take another folder")
    skipped = _read_skipped(out)
    todo = {shard.path.name: shard for shard in shards if not stands(shard, skipped)}
    journal = out / "export.journal.jsonl"
    journal.unlink(missing_ok=True)  # the shards themselves say which of them are done
    label = f"writing {len(todo)} shards"
    done = run_jobs(write_shard, todo, journal, workers=workers, settings={"export": 1}, label=label, timeout=_HOURS)
    journal.unlink(missing_ok=True)
    if failed := [(name, outcome.error) for name, outcome in done.items() if outcome.error is not None]:
        name, reason = failed[0]
        raise ValueError(f"{len(failed)} of {len(todo)} shards could not be written, such as {name}: {reason}")
    skipped |= {about: (source, reason) for outcome in done.values() for about, source, reason in outcome.value or ()}
    planned = {member.about for shard in shards for member in shard.members}
    skipped = {about: why for about, why in skipped.items() if about in planned}
    lines = (json.dumps({"about": about, "source": why[0], "reason": why[1]}) + "\n" for about, why in skipped.items())
    (out / _SKIPPED).write_text("".join(lines), encoding="utf-8")
    for path in set(before) - {shard.path for shard in shards}:
        path.unlink()
        _index_of(path).unlink(missing_ok=True)
    return len(todo), list(skipped.values())


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
    beside = shard.path.with_name(f".{shard.path.name}.{os.getpid()}")
    skipped: list[tuple[str, str, str]] = []
    try:
        with tarfile.open(beside, "w", format=tarfile.PAX_FORMAT) as archive:
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
        os.replace(beside, shard.path)
    finally:
        beside.unlink(missing_ok=True)
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


def cut(source: Source, start: float, end: float | None) -> bytes:
    """A stretch of a video as an mp4 of its own, without sound.

    Args:
        source: The video.
        start: Seconds into it where the stretch begins.
        end: Seconds into it where it ends; None for its end.

    Raises:
        UnreadableVideo: If there is no frame in between, or the video cannot be read.
    """
    info = probe(source)
    last = info.duration if end is None else min(end, info.duration)
    count = round((last - start) * info.fps)
    if count < 1:
        raise UnreadableVideo(source, f"it holds no frame from {start:.2f} s on")
    height, width = info.height - info.height % 2, info.width - info.width % 2  # colors have half the resolution
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        rate = Fraction(info.fps).limit_denominator(1001)
        encoder = container.add_stream("libx264", rate=rate, options={"crf": _QUALITY})
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        for first in range(0, count, _FRAMES):
            pixels = np.empty((3, min(_FRAMES, count - first), height, width), np.uint8)
            read_pixels(source, pixels, fps=info.fps, start=start + first / info.fps, short="hold")
            for picture in np.ascontiguousarray(pixels.transpose(1, 2, 3, 0)):  # (H, W, 3)
                container.mux(encoder.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(encoder.encode(None))
    return target.getvalue()


def _size(source: Path | FilePart) -> int:
    if isinstance(source, FilePart):
        return source.size
    try:
        return local_path(source).stat().st_size
    except OSError:  # gone since it was listed: what reads it will say so
        return 0
