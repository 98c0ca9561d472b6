"""What is known of every candidate of a search, in one JSON file each: `trials/0007/trial.json`.

Reports read these files alone. They also outlive the database that the sampler draws from: it is built anew from them.
"""

import csv
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from lingen_kit.files import replacing

State = Literal["running", "complete", "pruned", "failed", "rejected"]

FILE = "trial.json"
TRIALS = "trials"


@dataclass
class Record:
    """One candidate.

    Attributes:
        number: Its number in the study.
        params: What was chosen.
        state: `rejected` was never trained; `failed` was, and has no result.
        reason: Why it was rejected or failed, or at what step it was pruned.
        baseline: Whether it is the search's baseline.
        words: What `fit` is given for it, after the base; None before its costs are told.
        solved: Value of the option that the budget solves for.
        costs: What was known before training.
        results: Last value of every logged figure, by seed.
        curves: Steps and values of the figure that the pruner looks at, by seed.
        seconds: Of its trainings, by seed.
        longer: As `results`, of the longer trainings that put the cheap setting to the test.
        reason_longer: Why one of these failed.
    """

    number: int
    params: dict[str, Any]
    state: State = "running"
    reason: str = ""
    baseline: bool = False
    words: list[str] | None = None
    solved: int | None = None
    costs: dict[str, float] = field(default_factory=dict)
    results: dict[str, dict[str, float]] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    longer: dict[str, dict[str, float]] = field(default_factory=dict)
    reason_longer: str = ""

    def values(self, name: str) -> list[float]:
        """A figure or a cost: one value a seed, or a single one."""
        if name in self.costs:
            return [self.costs[name]]
        return [figures[name] for figures in self.results.values() if name in figures]

    def mean(self, name: str) -> float:
        """Mean of a figure over the seeds; NaN if there is none."""
        values = self.values(name)
        return statistics.fmean(values) if values else math.nan

    def mean_longer(self, name: str) -> float:
        """Mean of a figure over the longer trainings; NaN if there is none."""
        values = [figures[name] for figures in self.longer.values() if name in figures]
        return statistics.fmean(values) if values else math.nan

    def error(self, name: str) -> float:
        """Standard error of the mean over the seeds; NaN with fewer than two."""
        values = self.values(name)
        return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def folder_of(study: Path, number: int) -> Path:
    """The folder of a candidate."""
    return study / TRIALS / f"{number:04d}"


def write_record(study: Path, record: Record) -> None:
    """Write the file of a candidate, whole or not at all."""
    with replacing(folder_of(study, record.number) / FILE) as beside:
        beside.write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")


def read_record(path: Path) -> Record:
    """Read the file of a candidate.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["curves"] = {
            seed: [(int(step), float(value)) for step, value in curve] for seed, curve in content["curves"].items()
        }
        return Record(**content)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove its folder, and the candidate is tried anew") from error


def read_records(study: Path) -> list[Record]:
    """Every candidate of a study, in order."""
    return [read_record(path) for path in sorted((study / TRIALS).glob(f"*/{FILE}"))]


def read_metrics(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of every figure of a run's `metrics.csv`; where a step is there twice, the later row holds.

    A row that is being written, at the end of the file, is left out.
    """
    if not path.is_file():
        return {}
    figures: dict[str, dict[int, float]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if line.endswith("\n")):
            figures.setdefault(row["name"], {})[int(row["step"])] = float(row["value"])
    return {name: sorted(curve.items()) for name, curve in figures.items()}


def best_first(records: Iterable[Record], objectives: Mapping[str, str]) -> list[Record]:
    """Complete candidates, those on the Pareto front first, each group by the first objective."""
    complete = [record for record in records if record.state == "complete"]
    front = {record.number for record in pareto(complete, objectives)}
    first, direction = next(iter(objectives.items()))
    sign = 1 if direction == "minimize" else -1
    return sorted(complete, key=lambda record: (record.number not in front, sign * record.mean(first)))


def pareto(records: Sequence[Record], objectives: Mapping[str, str]) -> list[Record]:
    """Candidates that no other one beats: none is as good in all objectives and better in one."""

    def losses(record: Record) -> list[float]:
        return [record.mean(name) * (1 if way == "minimize" else -1) for name, way in objectives.items()]

    points = {record.number: losses(record) for record in records}

    def beaten(point: list[float]) -> bool:
        return any(
            other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in points.values()
        )

    return [record for record in records if not beaten(points[record.number])]


def best(records: Sequence[Record], objectives: Mapping[str, str]) -> Record | None:
    """The candidate that a search recommends; None if none is complete.

    With one objective, the best. With several, the best in the first among those that are no worse than the baseline
    in the others; without a baseline, the best in the first.
    """
    ranked = best_first(records, objectives)
    base = next((record for record in ranked if record.baseline), None)
    if base is not None:
        others = list(objectives.items())[1:]

        def no_worse(record: Record) -> bool:
            return all(
                record.mean(name) <= base.mean(name) if way == "minimize" else record.mean(name) >= base.mean(name)
                for name, way in others
            )

        ranked = [record for record in ranked if no_worse(record)]
    first, direction = next(iter(objectives.items()))
    sign = 1 if direction == "minimize" else -1
    return min(ranked, key=lambda record: (sign * record.mean(first), record.number), default=None)
