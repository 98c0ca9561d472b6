"""Published leaderboards, and our row among theirs.

`leaderboards.csv` holds Tables 1 to 4 of LinGen's supplement in percent, with the columns under their right names; see
docs/evaluation.md for which headers are wrong there.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from eval.aggregation import CUSTOM_QUALITY, QUALITY, SEMANTIC

__all__ = ["BOARDS", "Board", "Row", "leaderboard", "placed"]

BOARDS = {"vbench": "standard", "vbench_long": "long", "custom": "custom"}
"""The table of each suite."""

_SHORT = {
    "subject_consistency": "subject",
    "background_consistency": "backgr.",
    "temporal_flickering": "flicker",
    "motion_smoothness": "smooth",
    "dynamic_degree": "dynamic",
    "aesthetic_quality": "aesth.",
    "imaging_quality": "imaging",
    "quality_score": "Quality",
    "semantic_score": "Semantic",
    "total_score": "Total",
}


@dataclass(frozen=True)
class Row:
    """A model in a table.

    Attributes:
        model: Its name.
        table: Number of the table that it stands in; 0 for ours.
        figures: In [0, 1]; None where the table has none.
    """

    model: str
    table: int
    figures: Mapping[str, float | None]


@dataclass(frozen=True)
class Board:
    """A table with our row in it, best first.

    Attributes:
        rows: For a page: `name`, `figures` and `ours`.
        text: For the terminal.
    """

    rows: list[dict[str, Any]]
    text: str


@cache
def leaderboard(suite: str) -> tuple[Row, ...]:
    """The rows of a published table.

    Args:
        suite: `standard`, `long` or `custom`.

    Raises:
        ValueError: If there is no such table.
    """
    text = (files("eval") / "leaderboards.csv").read_text(encoding="utf-8")
    lines = list(csv.DictReader(text.splitlines()))
    rows = tuple(
        Row(line["model"], int(line["table"]), {name: _share(line[name]) for name in _figures(line)})
        for line in lines
        if line["suite"] == suite
    )
    if not rows:
        raise ValueError(f"there is no table {suite!r}; choose out of {', '.join(sorted({x['suite'] for x in lines}))}")
    return rows


def placed(content: Mapping[str, Any], suite: str, name: str = "this run") -> Board | None:
    """Our figures as a row of the suite's published table; None if they do not belong there.

    Figures that another extractor made, such as `subject_consistency/lite`, are on another scale and never placed.

    Args:
        content: Of a `scores.json`.
        suite: Name of the suite that made it.
        name: Of our row.
    """
    table = BOARDS.get(suite)
    score = "quality_score" if table == "custom" else "total_score"
    if table is None or score not in content["totals"]:
        return None
    weights = CUSTOM_QUALITY if table == "custom" else {**QUALITY, **dict.fromkeys(SEMANTIC)}
    ours = {**content["figures"], **content["totals"]}
    rows: list[dict[str, Any]] = [
        {"name": row.model, "figures": row.figures, "ours": False} for row in leaderboard(table)
    ]
    rows.append({"name": name, "figures": {key: ours.get(key) for key in (*weights, *content["totals"])}, "ours": True})
    rows.sort(key=lambda row: row["figures"].get(score) or 0.0, reverse=True)
    return Board(rows, _text(rows, score))


def _figures(line: Mapping[str, str]) -> list[str]:
    return [name for name in line if name not in ("suite", "table", "model", "max_raw_frames")]


def _share(percent: str) -> float | None:
    return float(percent) / 100 if percent else None


def _text(rows: list[dict[str, Any]], score: str) -> str:
    shown = [name for name in _SHORT if any(row["figures"].get(name) is not None for row in rows)]
    width = max(len(row["name"]) for row in rows)
    lines = ["  ".join([f"  {'model':{width}}", *(f"{_SHORT[name]:>8}" for name in shown)])]
    for row in rows:
        values = [row["figures"].get(name) for name in shown]
        cells = [f"{'-' if value is None else f'{100 * value:.2f}':>8}" for value in values]
        lines.append("  ".join([f"{'>' if row['ours'] else ' '} {row['name']:{width}}", *cells]))
    return "\n".join([f"published table, by {score} (percent):", *lines])
