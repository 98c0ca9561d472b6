"""Check every file of a data set: decode it, judge what was found, and report the problems. Imports no torch."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lingen_kit.data.clip import Clip, Index, printable
from lingen_kit.data.jobs import Outcome, key_of_file, run_jobs
from lingen_kit.data.media import Kind
from lingen_kit.data.survey.judging import Problem, judge, judge_clip
from lingen_kit.data.survey.measuring import Job, measure
from lingen_kit.data.survey.naming import file_of, relative_name
from lingen_kit.page import write

_VERSION = 1  # of what is measured of a file; another one has all files checked anew


@dataclass
class Checked:
    """What was found out about a file and the clips of it.

    Attributes:
        file: Its name within the data set, as it can be printed.
        clips: The clips of it that the data set lists with a caption: one, or stretches of it.
        refused: Why further clips of it cannot be used; nothing was decoded for them.
        found: What `measure` found; None if it could not be decoded, or was not as it has no other clips.
        problems: Those of the file and of `clips`.
    """

    file: str
    clips: list[Clip] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    found: dict[str, Any] | None = None
    problems: list[Problem] = field(default_factory=list)

    @property
    def all_problems(self) -> list[Problem]:
        """What is wrong with the file and all its clips, the worst first; each once."""
        refused = [Problem("unusable", reason) for reason in self.refused]
        return sorted(dict.fromkeys(refused + self.problems), key=lambda problem: problem.kind)

    @property
    def unusable(self) -> bool:
        """Whether training cannot use it, or a clip of it."""
        return any(problem.kind == "unusable" for problem in self.all_problems)

    @property
    def good(self) -> list[Clip]:
        """The clips of it that training can use."""
        bad = {problem.clip for problem in self.problems if problem.kind == "unusable"}
        return [] if None in bad else [clip for clip in self.clips if printable(clip.name) not in bad]


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

    checked: dict[str, Checked] = {}  # by path
    for clip in index.clips:
        checked.setdefault(printable(str(clip.path)), Checked(file_of(clip))).clips.append(clip)
    firsts = {path: entry.clips[0] for path, entry in checked.items()}
    jobs = {path: Job(clip.path, clip.kind or "video", quick) for path, clip in firsts.items()}
    keys = {path: key_of_file(clip) + (" quick" if quick else "") for path, clip in firsts.items()}
    outcomes = run_jobs(
        measure,
        {keys[path]: job for path, job in jobs.items()},
        out / "validate.journal.jsonl",
        workers=workers,
        settings={"verb": "validate", "version": _VERSION, "ffmpeg": av.ffmpeg_version_info},
        label="checking files",
        timeout=timeout,
    )
    for path, job in jobs.items():
        _examine(checked[path], job, outcomes[keys[path]])
    for path, reason in index.unusable:
        checked.setdefault(path, Checked(relative_name(path, index.root))).refused.append(reason)
    return sorted(checked.values(), key=lambda entry: entry.file)


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
                "clips": len(entry.clips) + len(entry.refused),
                "good_clips": len(entry.good),
                "problems": [problem._asdict() for problem in entry.all_problems],
                "found": entry.found,
            }
            for entry in checked
        ],
        "ignored": [{"file": relative_name(path, index.root), "reason": reason} for path, reason in index.ignored],
    }
    write(out / "report.json", json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["file", "clip", "kind", "reason"])
    rows.writerows(
        [entry.file, problem.clip, problem.kind, problem.reason] for entry in checked for problem in entry.all_problems
    )
    write(out / "problems.csv", table.getvalue())


def count(checked: list[Checked]) -> dict[str, int]:
    """How many clips there are and how many of them are good; how many files, unusable in whole or part, and so on."""
    kinds = Counter("unusable" if entry.unusable else "warning" if entry.problems else "fine" for entry in checked)
    return {
        "clips": sum(len(entry.clips) + len(entry.refused) for entry in checked),
        "good_clips": sum(len(entry.good) for entry in checked),
        "files": len(checked),
        **{kind: kinds[kind] for kind in ("unusable", "warning", "fine")},
    }


def _examine(entry: Checked, job: Job, outcome: Outcome) -> None:
    """Judge a file and the clips that are cut from it."""
    entry.found = outcome.value
    if outcome.error is not None:
        entry.problems.append(Problem("unusable", outcome.error))
    else:
        assert outcome.value is not None
        entry.problems += judge(outcome.value, job)
    for clip in entry.clips:
        entry.problems += judge_clip(clip, outcome.value)
