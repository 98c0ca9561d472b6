"""What the folder of a training run says about a model: its scores and samples."""

import csv
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

REPORTED = ("validation/", "obedience/", "quality/")
"""Metrics that say how good a model is."""

_SHEET = re.compile(r"step=(\d+)\.png")


class Score(NamedTuple):
    """A metric, when it was last measured."""

    name: str
    value: float
    step: int


def run_folder(path: Path) -> Path | None:
    """The folder of the run, or of the stage, that a checkpoint lies in; None if it was moved."""
    folder = path.absolute().parent.parent
    return folder if (folder / "config.yaml").is_file() else None


def read_scores(folder: Path, step: int) -> list[Score]:
    """The last value of each reported metric at or before a step, by name."""
    scores: dict[str, Score] = {}
    if (folder / "metrics.csv").is_file():
        with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.reader(file):
                if len(row) == 3 and row[1].startswith(REPORTED) and row[0].isdecimal() and int(row[0]) <= step:
                    scores[row[1]] = Score(row[1], float(row[2]), int(row[0]))
    report = read_obedience(folder, step)
    for name, value in report.get("scores", {}).items():
        scores[f"obedience/{name}"] = Score(f"obedience/{name}", value, report["step"])
    return [scores[name] for name in sorted(scores)]


def read_obedience(folder: Path, step: int) -> dict[str, Any]:
    """What `obedience.json` reports; nothing if it is not there, or of a later step."""
    path = folder / "obedience.json"
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return report if report.get("step", 0) <= step else {}


def read_sheet(folder: Path, step: int) -> bytes | None:
    """The last contact sheet of samples at or before a step."""
    sheets = {int(found[1]): path for path in (folder / "samples").glob("*.png") if (found := _SHEET.match(path.name))}
    last = max((number for number in sheets if number <= step), default=None)
    return None if last is None else sheets[last].read_bytes()
