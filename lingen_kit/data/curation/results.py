"""What curation writes besides the page: the manifest to train on, every score with its verdict, and the report."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingen_kit.data.curation.decide import READABLE, Verdict
from lingen_kit.data.curation.filter import Candidate, round_down
from lingen_kit.data.media import kind_of
from lingen_kit.page import write

MANIFEST = "manifest.jsonl"


def write_results(out: Path, verdict: Verdict, about: Mapping[str, Any]) -> None:
    """Write `manifest.jsonl`, `scores.jsonl`, `scores.csv` and `report.json`, each whole or not at all.

    Args:
        out: The folder.
        verdict: What was decided.
        about: What to put on top of the report, plain data.
    """
    write(out / MANIFEST, _lines(manifest_row(clip) for clip in verdict.kept))
    rows = [score_row(clip) for clip in verdict.clips]
    rows += [_unreadable_row(name, reason) for name, reason in verdict.unreadable]
    write(out / "scores.jsonl", _lines(rows))
    write(out / "scores.csv", _table(rows))
    report = {**about, **summarize(verdict)}
    write(out / "report.json", json.dumps(report, indent=2) + "\n")


def manifest_row(clip: Candidate) -> dict[str, Any]:
    """A kept clip as the data modules read it: its own columns, then ours. The path is absolute."""
    row = {**clip.attributes, "file_name": str(clip.path.resolve()), "text": clip.caption}
    if kind_of(clip.path) == "video":
        row |= {"start": round(clip.start, 3), "end": round_down(clip.end)}
    row |= _plain(clip.scores)
    if clip.decision == "keep":
        row["decided_by"] = "person"
    if clip.captioned:
        row["caption_by"] = "person"
    return row


def score_row(clip: Candidate) -> dict[str, Any]:
    """A clip, kept or not, with its verdict and scores."""
    return {
        "name": clip.name,
        "kept": clip.kept,
        "dropped_by": clip.dropped_by,
        "reason": clip.reason,
        "decision": clip.decision,
        "file_name": str(clip.path),
        "start": round(clip.start, 3),
        "end": round_down(clip.end),
        "text": clip.caption,
        **_plain(clip.scores),
    }


def summarize(verdict: Verdict) -> dict[str, Any]:
    """The funnel, the files that cannot be read, and what single filters report."""
    return {
        "clips": len(verdict.clips),
        "kept": len(verdict.kept),
        "kept_seconds": round(sum(clip.seconds for clip in verdict.kept), 1),
        "funnel": [
            {"filter": s.name, "before": s.before, "dropped": s.dropped, "left": s.before - s.dropped}
            for s in verdict.funnel
        ],
        "unreadable": [{"name": name, "reason": reason} for name, reason in verdict.unreadable],
        "kept_by_a_person": verdict.overruled,
        "decisions_on_no_clip": verdict.unknown,
        "filters": verdict.reports,
    }


def _unreadable_row(name: str, reason: str) -> dict[str, Any]:
    return {"name": name, "kept": False, "dropped_by": READABLE, "reason": reason}


def _plain(scores: Mapping[str, float]) -> dict[str, float | None]:
    """Scores for JSON, which knows no NaN, rounded to what means something."""
    return {name: None if math.isnan(value) else float(f"{value:.6g}") for name, value in scores.items()}


def _lines(rows: Any) -> str:
    # Escaped to ASCII: captions may hold characters at which some readers break lines.
    return "".join(json.dumps(row) + "\n" for row in rows)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
