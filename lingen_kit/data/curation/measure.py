"""Phase 1: one pass over each file for all filters, kept so that nothing is measured twice.

`OUT/measured` holds a journal for each measure, named after the filter and a hash of what its result depends on. A run
measures of each file what is missing there; a pass that is under way has a journal of its own
(`OUT/curate.journal.jsonl`), out of which a killed run is continued. Other verbs may keep theirs in the same folder.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingen_kit.data.clip import Clip
from lingen_kit.data.curation.filter import Filter, pack
from lingen_kit.data.curation.frame import Frame
from lingen_kit.data.curation.preview import PreviewMeter
from lingen_kit.data.jobs import key_of_file, run_jobs
from lingen_kit.data.jobs.journal import Journal, Outcome
from lingen_kit.data.media import UnreadableVideo

VIDEO, PREVIEW = "Video", "Preview"
_FORMAT = 1
"""Of what is kept here; a change measures all anew."""


@dataclass(frozen=True)
class Pass:
    """What to measure of one file: an item for the worker processes.

    Attributes:
        path: The file.
        filters: By the key of their measure.
        preview: File for the pictures of the review page; None if they are there.
        shorter_side: Pixels of the shorter side to which frames are scaled down.
    """

    path: Path
    filters: Mapping[str, Filter]
    preview: Path | None
    shorter_side: int


def measure_file(work: Pass) -> dict[str, Any]:
    """Decode a file once and let every meter see its frames.

    Returns:
        By the key of the measure, packed arrays; under `Video` what the file is.

    Raises:
        UnreadableVideo: If it cannot be decoded to its end.
    """
    import cv2

    from lingen_kit.data.decode import probe, stream

    cv2.setNumThreads(1)  # the worker processes are the parallelism
    info = probe(work.path)
    meters = {key: meter for key, each in work.filters.items() if (meter := each.meter()) is not None}
    if work.preview is not None:
        meters[PREVIEW] = PreviewMeter(work.preview)
    last = None
    for time, image in stream(work.path, shorter_side=work.shorter_side):
        frame = Frame(time, image)
        for meter in meters.values():
            meter.offer(frame)
        last = time
    if last is None:
        raise UnreadableVideo(work.path, "it contains no frame")
    video = {"duration": last + 1 / info.fps, "fps": info.fps, "width": info.width, "height": info.height}
    return {VIDEO: video, **{key: pack(meter.result()) for key, meter in meters.items()}}


def measure_all(
    clips: Iterable[Clip],
    filters: Sequence[Filter],
    out: Path,
    *,
    shorter_side: int,
    workers: int,
    timeout: float,
) -> dict[str, dict[str, Outcome]]:
    """Measure what is missing of the files of some clips.

    Args:
        clips: The clips; a file that several share is measured once.
        filters: What to measure.
        out: Folder of the results, in which the journals are.
        shorter_side: Pixels of the shorter side to which frames are scaled down.
        workers: Processes.
        timeout: Seconds that a file may take.

    Returns:
        By the file's name within the data set, the outcome of each measure by its key; `Video` is among them.

    Raises:
        ValueError: If another run is at work in `out`.
    """
    files = {clip.file_name: clip for clip in clips}
    keys = {name: key_of_file(clip) for name, clip in files.items()}
    wanted = {each.measure_key(shorter_side): each for each in filters if each.measures}
    books = {name: _book(out, name) for name in (VIDEO, PREVIEW, *wanted)}
    journal = out / "curate.journal.jsonl"
    if (before := _interrupted(journal)) is not None:
        _absorb(before, books, timeout)
        journal.unlink()
    work: dict[str, Pass] = {}
    for name, clip in files.items():
        key, pictures = keys[name], preview_path(out, keys[name])
        video = books[VIDEO].known.get(key)
        if video is not None and video.error is not None and books[VIDEO].stands(key, timeout):
            continue  # what cannot be decoded cannot for any filter
        missing = {each for each, book in books.items() if not book.stands(key, timeout)}
        if PREVIEW not in missing and books[PREVIEW].known[key].error is None and not pictures.is_file():
            missing.add(PREVIEW)
        if missing:
            assert isinstance(clip.path, Path)
            chosen = {each: wanted[each] for each in wanted if each in missing}
            work[key] = Pass(clip.path, chosen, pictures if PREVIEW in missing else None, shorter_side)
    print(_summary(work, len(files), len(wanted)), file=sys.stderr)
    if work:
        (out / "previews").mkdir(parents=True, exist_ok=True)
        settings = {"curation": _FORMAT, "measures": list(books)}
        outcomes = run_jobs(
            measure_file,
            work,
            journal,
            workers=workers,
            settings=settings,
            label="measuring",
            timeout=timeout,
            preload=["lingen_kit.data.decode", *sorted({name for each in filters for name in each.packages})],
        )
        _absorb(outcomes, books, timeout)
        journal.unlink()
    known = books[VIDEO].known
    return {name: {each: book.known.get(key, known[key]) for each, book in books.items()} for name, key in keys.items()}


def preview_path(out: Path, key: str) -> Path:
    """File for the pictures of a file with this key."""
    return out / "previews" / f"{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()[:24]}.jpegs"


def _book(out: Path, name: str) -> Journal:
    """The journal of a measure, read."""
    with Journal(out / "measured" / f"{name}.jsonl", {"measure": name, "curation": _FORMAT}) as book:
        return book


def _interrupted(journal: Path) -> dict[str, Outcome] | None:
    """What a run that was killed had measured, whatever its filters were; None if there is no journal of such a one."""
    if not journal.is_file():
        return None
    with journal.open("rb") as file:
        try:
            settings = json.loads(file.readline())
        except ValueError:
            return None
    if not isinstance(settings, dict) or settings.get("curation") != _FORMAT or "measures" not in settings:
        return None
    with Journal(journal, settings) as book:
        return book.known


def _absorb(outcomes: Mapping[str, Outcome], books: Mapping[str, Journal], timeout: float) -> None:
    """Hand what a pass measured to the journals of the measures; a file that failed has failed for all of them."""
    for name, book in books.items():
        with book:
            for key, outcome in outcomes.items():
                if book.stands(key, timeout):
                    continue
                if outcome.error is not None:
                    book.add(key, outcome)
                elif name in (outcome.value or {}):
                    book.add(key, Outcome((outcome.value or {})[name]))


def _summary(work: Mapping[str, Pass], files: int, measures: int) -> str:
    """What is measured, and whether that is all or only what is new."""
    if not work:
        return f"all {files} files are measured already; nothing is decoded"
    new = sorted({key.rpartition("-")[0] for each in work.values() for key in each.filters})
    whole = all(len(each.filters) == measures for each in work.values())
    what = "everything" if whole else ", ".join(new) or "previews"
    return f"measuring {what} of {len(work)} of {files} files; each is decoded once"
