"""Check every file of a data set: decode it, judge what was found, and report the problems. Imports no torch."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lingen_kit.data.clip import Clip, Index, printable
from lingen_kit.data.jobs import Outcome, key_of_file, run_jobs
from lingen_kit.data.media import FilePart, Kind
from lingen_kit.data.survey.measuring import Job, measure
from lingen_kit.data.survey.naming import file_of, relative_name
from lingen_kit.data.survey.units import brief
from lingen_kit.page import write

_VERSION = 1  # of what is measured of a file; another one has all files checked anew
_LONG_CAPTION = 2000  # characters: text encoders read 77 to 512 tokens
_MISSING_SHARE = 0.05  # containers are often off by a frame or two; a file that lacks more than this was cut off
_MISSING_FRAMES = 2
_PLAUSIBLE_FPS = (1.0, 300.0)
_PLAUSIBLE_SIDE = 16384
# Containers, as FFmpeg and Pillow name them, and the suffixes they go by.
_CONTAINERS = {
    "mov,mp4,m4a,3gp,3g2,mj2": (".mp4", ".mov", ".m4v"),
    "matroska,webm": (".webm", ".mkv"),
    "avi": (".avi",),
    "gif": (".gif",),
    "mpeg": (".mpg", ".mpeg"),
    "mpegvideo": (".mpg", ".mpeg"),
    "mpegts": (".ts", ".mpg", ".mpeg"),
    "ogg": (".ogv",),
    "asf": (".wmv",),
    "jpeg": (".jpg", ".jpeg"),
    "mpo": (".jpg", ".jpeg"),
    "png": (".png",),
    "bmp": (".bmp",),
    "webp": (".webp",),
}


class Problem(NamedTuple):
    """What is wrong with a file.

    Attributes:
        kind: `unusable` if training cannot use it, else `warning`.
        reason: In a few words.
    """

    kind: Literal["unusable", "warning"]
    reason: str


@dataclass
class Checked:
    """What was found out about a file.

    Attributes:
        file: Its name within the data set, as it can be printed.
        found: What `measure` found; None if it could not be decoded at all.
        problems: The worst first.
    """

    file: str
    found: dict[str, Any] | None = None
    problems: list[Problem] = field(default_factory=list)

    @property
    def unusable(self) -> bool:
        """Whether one of the problems is that bad."""
        return any(problem.kind == "unusable" for problem in self.problems)


def check(index: Index, out: Path, *, workers: int, quick: bool, timeout: float) -> list[Checked]:
    """Decode every file of a data set, each once, and judge it.

    Args:
        index: The data set.
        out: Folder for the journal, from which an interrupted run goes on.
        workers: Processes.
        quick: Decode only the first and the last frames of videos.
        timeout: Seconds that a file may take.

    Returns:
        All files, in order of their names, those that the index could not use among them.
    """
    import av

    clips: dict[str, list[Clip]] = {}
    for clip in index.clips:
        clips.setdefault(str(clip.path), []).append(clip)
    jobs = {path: Job(group[0].path, group[0].kind or "video", quick) for path, group in clips.items()}
    keys = {path: key_of_file(group[0]) + (" quick" if quick else "") for path, group in clips.items()}
    outcomes = run_jobs(
        measure,
        {keys[path]: job for path, job in jobs.items()},
        out / "validate.journal.jsonl",
        workers=workers,
        settings={"verb": "validate", "version": _VERSION, "ffmpeg": av.ffmpeg_version_info},
        label="checking files",
        timeout=timeout,
    )
    checked = [_examine(group, jobs[path], outcomes[keys[path]]) for path, group in clips.items()]
    for path, reason in index.unusable:
        checked.append(Checked(relative_name(path, index.root), problems=[Problem("unusable", reason)]))
    return sorted(checked, key=lambda entry: entry.file)


def judge(found: dict[str, Any], job: Job) -> list[Problem]:
    """What is wrong with a file, from what `measure` found."""
    problems: list[Problem] = []
    declared, frames, seconds = found["declared"], found["frames"], found["seconds"]
    cut = False
    fps, told = declared["fps"], declared["seconds"]
    least, most = _PLAUSIBLE_FPS
    frame = 1 / fps if fps and least <= fps <= most else 0.04
    # Then an edit list hides what is missing, such as what a cut without encoding keeps from before its start.
    whole = told is not None and abs(told - seconds) <= _MISSING_FRAMES * frame
    if found["error"]:
        problems.append(_bad(f"it cannot be decoded after {seconds:.2f} s: {found['error']}"))
    if found["damaged"]:
        first = f"the first at {max(0.0, found['damaged_at']):.2f} s"
        problems.append(_bad(f"{found['damaged']} of its frames are damaged, {first}"))
    if frames is not None and declared["frames"] and not found["error"] and not whole:
        missing = declared["frames"] - frames
        cut = missing > max(_MISSING_FRAMES, _MISSING_SHARE * declared["frames"])
        if cut:
            problems.append(_bad(f"it ends early: {frames} of {declared['frames']} frames can be decoded"))
        elif abs(missing) > _MISSING_FRAMES:
            problems.append(_odd(f"it says that it holds {declared['frames']} frames, and holds {frames}"))
    if job.kind == "video":
        problems += _judge_time(found, ended=cut or found["error"] is not None)
    for side in ("width", "height"):
        if not 0 < found[side] <= _PLAUSIBLE_SIDE:
            problems.append(_odd(f"its {side} of {found[side]} pixels is implausible"))
    suffix = os.path.splitext(job.source.name if isinstance(job.source, FilePart) else job.source)[1].lower()
    if suffix not in (usual := _CONTAINERS.get(found["container"], ())):
        content = f"that of a {usual[0]} file" if usual else f"of the kind {found['container']}"
        problems.append(_odd(f"its name ends in {suffix}, and its content is {content}"))
    if found["complaint"] and not problems:
        problems.append(_odd(f"FFmpeg complains while decoding: {found['complaint']}"))
    return problems


def judge_caption(caption: str) -> list[Problem]:
    """What is odd about a caption."""
    problems: list[Problem] = []
    if len(caption) > _LONG_CAPTION:
        problems.append(_odd(f"its caption has {len(caption):,} characters; text encoders drop most of that much"))
    if "\ufffd" in caption:
        problems.append(_odd("its caption holds U+FFFD, which stands for letters that were lost"))
    if any(not letter.isprintable() and not letter.isspace() for letter in caption):
        problems.append(_odd("its caption holds control characters"))
    return problems


def judge_stretch(start: float, end: float | None, seconds: float, fps: float | None) -> list[Problem]:
    """Whether a stretch of a file lies within it.

    Args:
        start: Seconds from the file's start.
        end: Seconds from the file's start; None for its end.
        seconds: Length of the file.
        fps: Its frames per second, if known.
    """
    if start >= seconds:
        return [_bad(f"a clip starts at {start:g} s, and the file ends after {seconds:.2f} s")]
    if end is not None and end <= start:
        return [_bad(f"a clip ends at {end:g} s, which is not after its start at {start:g} s")]
    if end is not None and end > seconds + 1.5 / (fps or 1):
        return [_odd(f"a clip ends at {end:g} s, and the file after {seconds:.2f} s")]
    return []


def write_report(checked: list[Checked], index: Index, out: Path, *, kinds: Iterable[Kind], quick: bool) -> None:
    """Write `report.json`, with all that was measured, and `problems.csv`, with a line for each problem.

    Args:
        checked: What `check` returned.
        index: The data set.
        out: Folder to write to.
        kinds: Of files that were looked for.
        quick: Whether only the first and last frames were decoded.
    """
    report = {
        "data": printable(index.root),
        "layout": index.layout,
        "kinds": list(kinds),
        "decoded": "first and last frames" if quick else "all frames",
        "counts": count(checked),
        "files": [
            {
                "file": entry.file,
                "problems": [problem._asdict() for problem in entry.problems],
                "found": entry.found,
            }
            for entry in checked
        ],
        "ignored": [{"file": relative_name(path, index.root), "reason": reason} for path, reason in index.ignored],
    }
    write(out / "report.json", json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["file", "kind", "reason"])
    rows.writerows([entry.file, problem.kind, problem.reason] for entry in checked for problem in entry.problems)
    write(out / "problems.csv", table.getvalue())


def count(checked: list[Checked]) -> dict[str, int]:
    """How many files there are, and how many of them are unusable, have warnings only, or are fine."""
    counts = Counter("unusable" if entry.unusable else "warning" if entry.problems else "fine" for entry in checked)
    return {"files": len(checked), **{kind: counts[kind] for kind in ("unusable", "warning", "fine")}}


def _examine(clips: list[Clip], job: Job, outcome: Outcome) -> Checked:
    """Judge a file and the clips that are cut from it."""
    entry = Checked(file_of(clips[0]))
    for clip in clips:
        entry.problems += judge_caption(clip.caption)
    if outcome.error is not None:
        entry.problems.append(_bad(outcome.error))
    else:
        assert outcome.value is not None
        entry.found = outcome.value
        entry.problems += judge(entry.found, job)
        for clip in clips:
            if job.kind == "video":
                found = entry.found
                entry.problems += judge_stretch(clip.start, clip.end, found["seconds"], found["declared"]["fps"])
    entry.problems = sorted(dict.fromkeys(entry.problems), key=lambda problem: problem.kind)
    return entry


def _judge_time(found: dict[str, Any], ended: bool) -> list[Problem]:
    """What is wrong with rate, time stamps and length.

    Args:
        found: What `measure` found.
        ended: Whether it is known already that the file ends early.
    """
    if found["frames"] == 1:
        return [_odd("it is a single picture")]
    problems: list[Problem] = []
    fps, seconds, told = found["declared"]["fps"], found["seconds"], found["declared"]["seconds"]
    least, most = _PLAUSIBLE_FPS
    if fps is None:
        problems.append(_odd("it does not say how many frames it has a second"))
    elif not least <= fps <= most:
        problems.append(_odd(f"it claims {brief(fps)} frames per second"))
    if found["backwards"]:
        problems.append(_odd(f"{found['backwards']} of its frames have a time no later than the frame before"))
    if found["untimed"]:
        problems.append(_odd(f"{found['untimed']} of its frames have no time stamp"))
    if told is not None and not ended:
        frame = 1 / fps if fps else 0.04
        if told - seconds > max(3 * frame, _MISSING_SHARE * told):
            problems.append(_bad(f"it ends early: after {seconds:.2f} of {told:.2f} s"))
        elif abs(told - seconds) > max(3 * frame, 0.02 * told):
            problems.append(_odd(f"it says that it lasts {told:.2f} s, and lasts {seconds:.2f} s"))
    return problems


def _bad(reason: str) -> Problem:
    return Problem("unusable", reason)


def _odd(reason: str) -> Problem:
    return Problem("warning", reason)
