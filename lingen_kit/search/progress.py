"""A search as it goes on: a table that is drawn anew on a terminal, a line for each candidate elsewhere."""

import sys
import threading
import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from lingen_kit.search.records import Record, best_first, folder_of, read_metrics
from lingen_kit.search.settings import Search
from lingen_kit.search.space import describe
from lingen_kit.search.study import Study
from lingen_kit.search.training import run_folder

_BEST = 10  # candidates in the table besides those that are training
_MARKS = {"complete": "done", "rejected": "left out"}


class Progress:
    """Shows a study while it is worked on.

    Args:
        study: The study.
        console: Where to; the standard output by default.
    """

    def __init__(self, study: Study, console: Console | None = None) -> None:
        self.study = study
        self.console = console or Console(file=sys.stdout, highlight=False)
        self._records = {record.number: record for record in study.records()}
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._live = Live(console=self.console, get_renderable=self._table, refresh_per_second=1)

    def __enter__(self) -> "Progress":
        """Begin to draw."""
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last table standing."""
        if self.console.is_terminal:
            self._live.stop()

    def changed(self, record: Record) -> None:
        """Take note of a candidate; print it where there is no table."""
        with self._lock:
            self._records[record.number] = record
        if not self.console.is_terminal:
            self.console.print(self._line(record), soft_wrap=True, markup=False)

    def _line(self, record: Record) -> str:
        search, state = self.study.search, _MARKS.get(record.state, record.state)
        figures = "  ".join(f"{name} {figure(record, name)}" for name in search.objectives if record.values(name))
        if record.state == "running":
            progress = f" {len(record.results)} of {len(search.seeds)} seeds" if len(search.seeds) > 1 else ""
            state += progress if record.results else ""
        told = f"  ({record.reason})" if record.reason else ""
        return f"trial {record.number:<4} {state:9} {figures or describe(record.params)}{told}"

    def _table(self) -> Table:
        search = self.study.search
        with self._lock:
            records = list(self._records.values())
        table = Table(title=self._title(records), title_justify="left", box=None)
        table.add_column("trial", justify="right")
        table.add_column("state")
        for name in search.objectives:
            table.add_column(name.rpartition("/")[2], justify="right")
        table.add_column("candidate", overflow="ellipsis", no_wrap=True)
        ranked = best_first(records, search.objectives)
        for record in ranked[:_BEST]:
            mark = "baseline" if record.baseline else "done"
            table.add_row(*_row(record, mark, search))
        for record in records:
            if record.state == "running":
                table.add_row(*_row(record, self._step(record), search), style="cyan")
        return table

    def _title(self, records: list[Record]) -> str:
        counts = {
            state: sum(r.state == state for r in records) for state in ("complete", "pruned", "failed", "rejected")
        }
        trained = sum(counts[state] for state in ("complete", "pruned", "failed"))
        minutes = (time.monotonic() - self._began) / 60
        return (
            f"{self.study.folder}: {trained} of {self.study.search.trials} trials in {minutes:.1f} min "
            f"({counts['pruned']} pruned, {counts['failed']} failed), {counts['rejected']} left out before training"
        )

    def _step(self, record: Record) -> str:
        """Where a training is."""
        for seed in map(str, self.study.search.seeds):
            if seed not in record.results:
                folder = run_folder(folder_of(self.study.folder, record.number), f"seed_{seed}")
                steps = [curve[-1][0] for curve in read_metrics(folder / "metrics.csv").values()]
                return f"seed {seed}, step {max(steps)}" if steps else f"seed {seed}"
        return "done"


def figure(record: Record, name: str) -> str:
    """A figure of a candidate with its standard error, where it has one."""
    mean, error = record.mean(name), record.error(name)
    if mean != mean:
        return ""
    shown = f"{mean:,.0f}" if abs(mean) >= 10_000 else f"{mean:.4g}"
    return shown if error != error else f"{shown} ± {error:.2g}"


def _row(record: Record, state: str, search: Search) -> list[str]:
    return [str(record.number), state, *(figure(record, name) for name in search.objectives), describe(record.params)]
