"""Progress over many items on stderr: a bar in a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_SECONDS_BETWEEN_LINES = 10.0


class Advance(Protocol):
    """Count one more item; `failed` adds it to the count of failures, which is shown once there are any."""

    def __call__(self, failed: bool = False) -> None:
        """Count it."""


@contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show how far the work is, its rate and the time left, until the block ends.

    Args:
        label: What is being done, in a word or two.
        total: Number of items.
        done: How many of them an earlier run did; the rate leaves them out.

    Yields:
        A function to call after each item.
    """
    if total == done:
        yield lambda failed=False: None
        return
    with _bar(label, total, done) if sys.stderr.isatty() else _lines(label, total, done) as advance:
        yield advance


@contextmanager
def _bar(label: str, total: int, done: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failures]}"),
    ]
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, completed=done, rate="", failures="")
        began, finished, failures = time.monotonic(), 0, 0

        def advance(failed: bool = False) -> None:
            nonlocal finished, failures
            finished += 1
            failures += failed
            rate = finished / max(1e-9, time.monotonic() - began)
            bar.update(task, advance=1, rate=f"{rate:.3g}/s", failures=f"{failures} failed" if failures else "")

        yield advance


@contextmanager
def _lines(label: str, total: int, done: int) -> Iterator[Advance]:
    began = shown = time.monotonic()
    finished = failures = 0

    def say(end: bool) -> None:
        passed = time.monotonic() - began
        rate = finished / max(1e-9, passed)
        left = "" if end else f", {_clock((total - done - finished) / rate)} left"
        failed = f", {failures} failed" if failures else ""
        print(
            f"{label}: {done + finished}/{total}, {rate:.3g}/s, {_clock(passed)}{left}{failed}",
            file=sys.stderr,
            flush=True,
        )

    def advance(failed: bool = False) -> None:
        nonlocal finished, failures, shown
        finished += 1
        failures += failed
        end = done + finished == total
        if end or time.monotonic() - shown >= _SECONDS_BETWEEN_LINES:
            shown = time.monotonic()
            say(end)

    yield advance


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
