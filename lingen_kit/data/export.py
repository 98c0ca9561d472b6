"""Pack clips into WebDataset shards: tar archives of `<number>.mp4`, `<number>.txt` and `<number>.json`.

Files go in byte for byte; only a stretch of a file is encoded anew. What a shard holds follows from the clips alone, so
a run that was killed, or comes after clips were added, writes just the shards that are not there as they should be.
"""

import io
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, takewhile
from pathlib import Path

import av

from lingen_kit.data.clip import Clip, printable
from lingen_kit.data.decode import probe, stream
from lingen_kit.data.jobs import file_key, run_jobs
from lingen_kit.data.layouts.shard_index import INDEX_SUFFIX, read_shard_index, write_shard_index
from lingen_kit.data.media import FilePart, Source, UnreadableVideo, local_path, open_bytes
from lingen_kit.data.seeds import derive_seed

_TEXT_BYTES = 4096  # of caption, JSON and the archive's headers of one clip, about
_QUALITY = "16"  # of libx264: no difference that the eye sees
_HOURS = 24 * 3600.0  # a shard may take long


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
            "text": clip.caption,
            "name": printable(clip.name),
            "file": printable(file_key(clip)),
            **clip.attributes,
        }
        groups[-1].append(Member(f"{number:09d}", clip, json.dumps(about)))
    return [Shard(out / f"shard-{number:06d}.tar", tuple(members)) for number, members in enumerate(groups)]


def write_shards(shards: Sequence[Shard], out: Path, workers: int) -> tuple[int, list[tuple[str, str]]]:
    """Write those shards that are not there yet.

    Args:
        shards: All that the folder is to hold; shards of an earlier plan are removed.
        out: The folder.
        workers: Processes.

    Returns:
        How many shards were written, and (source, reason) of the clips that could not be read.

    Raises:
        OSError: If they cannot be written, as on a full disk; whole shards stay.
    """
    out.mkdir(parents=True, exist_ok=True)
    journal = out / "journal.jsonl"
    journal.unlink(missing_ok=True)  # the shards themselves say which of them are done
    todo = {shard.path.name: shard for shard in shards if not stands(shard)}
    label = f"writing {len(todo)} shards"
    done = run_jobs(write_shard, todo, journal, workers=workers, settings={"export": 1}, label=label, timeout=_HOURS)
    journal.unlink(missing_ok=True)
    if failed := [(name, outcome.error) for name, outcome in done.items() if outcome.error is not None]:
        name, reason = failed[0]
        raise ValueError(f"{len(failed)} of {len(todo)} shards could not be written, such as {name}: {reason}")
    planned = {shard.path.name for shard in shards}
    for path in out.glob("shard-*.tar"):
        if path.name not in planned:
            path.unlink()
            path.with_name(path.name + INDEX_SUFFIX).unlink(missing_ok=True)
    return len(todo), [tuple(entry) for outcome in done.values() for entry in outcome.value]  # type: ignore[union-attr]


def stands(shard: Shard) -> bool:
    """Whether a shard is there, whole, with just these members."""
    index = shard.path.with_name(shard.path.name + INDEX_SUFFIX)
    if not index.is_file() or not shard.path.is_file():
        return False
    try:
        contents = read_shard_index(index)
    except ValueError:
        return False
    held = {member.name: member.text for member in contents.members if member.name.endswith(".json")}
    return contents.size == shard.path.stat().st_size and held == {f"{m.key}.json": m.about for m in shard.members}


def write_shard(shard: Shard) -> list[tuple[str, str]]:
    """Write one shard, whole or not at all, and give (source, reason) of the clips that cannot be read.

    Raises:
        OSError: If it cannot be written.
    """
    beside = shard.path.with_name(f".{shard.path.name}.{os.getpid()}")
    skipped: list[tuple[str, str]] = []
    try:
        with tarfile.open(beside, "w", format=tarfile.PAX_FORMAT) as archive:
            for member in shard.members:
                try:
                    suffix, content = _content(member.clip)
                except (UnreadableVideo, FileNotFoundError, PermissionError) as error:
                    skipped.append((printable(str(member.clip.path)), getattr(error, "reason", None) or str(error)))
                    continue
                for ending, part in (
                    (suffix, content),
                    (".txt", member.clip.caption.encode()),
                    (".json", member.about.encode()),
                ):
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
    name = clip.path.name
    with open_bytes(clip.path) as file:
        return Path(name).suffix.lower(), file.read()


def cut(source: Source, start: float, end: float | None) -> bytes:
    """A stretch of a video as an mp4 of its own, without sound.

    Args:
        source: The video.
        start: Seconds into it where the stretch begins.
        end: Seconds into it where it ends; None for its end.

    Raises:
        UnreadableVideo: If there is no frame in between, or the video cannot be read.
    """
    fps = probe(source).fps
    half = 0.5 / fps  # what a moment may be off by, as time stamps are rounded
    pictures = (
        pixels
        for moment, pixels in takewhile(lambda at: end is None or at[0] < end - half, stream(source, fps=fps))
        if moment >= start - half
    )
    first = next(pictures, None)  # (H, W, 3)
    if first is None:
        raise UnreadableVideo(source, f"it holds no frame from {start:.2f} s on")
    height, width = (side - side % 2 for side in first.shape[:2])  # colors have half the resolution
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        rate = Fraction(fps).limit_denominator(1001)
        encoder = container.add_stream("libx264", rate=rate, options={"crf": _QUALITY})
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        for pixels in chain([first], pictures):
            container.mux(encoder.encode(av.VideoFrame.from_ndarray(pixels[:height, :width], format="rgb24")))
        container.mux(encoder.encode(None))
    return target.getvalue()


def _size(source: Path | FilePart) -> int:
    if isinstance(source, FilePart):
        return source.size
    try:
        return local_path(source).stat().st_size
    except OSError:  # gone since it was listed: what reads it will say so
        return 0
