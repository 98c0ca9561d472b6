"""Keep the report of a search among the results that are shipped: tables, plots, page and curves, not the runs.

python -m benchmarks.reproduction.ship runs/search/ablations docs/results/ablations
"""

import argparse
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

from benchmarks.reproduction.setting import made
from lingen_kit.search.records import Record, read_records
from lingen_kit.search.space import describe

KEPT = ("leaderboard.csv", "report.html", "best.yaml", "search.yaml", "*.png")


def curve(record: Record) -> dict[str, Any]:
    """The mean over the seeds of the figure that the search keeps the course of."""
    curves = [dict(points) for points in record.curves.values()]
    steps = sorted(set.intersection(*(set(points) for points in curves)))
    return {"steps": [step + 1 for step in steps], "mean": [statistics.fmean(c[s] for c in curves) for s in steps]}


def main() -> None:
    """Copy, and write `made.json` beside."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for pattern in KEPT:
        for path in options.study.glob(pattern):
            shutil.copyfile(path, options.out / path.name)
    records = [record for record in read_records(options.study) if record.state == "complete"]
    curves = {record.params.get("row", describe(record.params)): curve(record) for record in records if record.curves}
    content = {
        **made("one thread a training"),
        "hours": round(sum(sum(record.seconds.values()) for record in records) / 3600, 2),
        "steps": max((c["steps"][-1] for c in curves.values()), default=None),
        "curves": curves,
    }
    (options.out / "made.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
