"""Work over many files in worker processes: resumable, and no file can end the run.

A decoder may crash or hang on a damaged file, and takes its process with it. So each file is handed to a worker
process, whose death costs that file alone; results go into a journal one by one (`lingen_kit.data.jobs.journal`).
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingen_kit.data.jobs.journal import Journal, Outcome
from lingen_kit.data.jobs.progress import progress
from lingen_kit.data.media import FilePart, UnreadableVideo

if TYPE_CHECKING:
    from lingen_kit.data.clip import Clip

__all__ = ["Outcome", "file_key", "key_of_file", "run_jobs"]

# What keeps a file from being read without being wrong with it: a later run tries again.
_MAY_PASS = (
    errno.EACCES, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.ENOMEM, errno.EPERM, errno.ESTALE,
    errno.ETIMEDOUT,
)  # fmt: skip
_LONGEST_WAIT = 3600.0  # seconds; the system call takes no more than some weeks, and no infinity
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM)  # what ends a process that did nothing wrong, or ran out of memory


def run_jobs(
    function: Callable[[Any], Any],
    items: Mapping[str, Any],
    journal: Path,
    *,
    workers: int,
    settings: Mapping[str, Any],
    label: str,
    timeout: float = 120.0,
    wait_for_others: bool = False,
    preload: Sequence[str] = (),
) -> dict[str, Outcome]:
    """Call `function` with each item and return what came of it; what the journal holds already is not done again.

    `UnreadableVideo`, `ValueError`, `OSError` and `MemoryError` of an item are its outcome. So are a crash and a
    time-out, whose worker is replaced; a crash counts once a fresh process has crashed on the item too. Any other
    exception is a bug and ends the run, as does a full disk: what is in the journal is kept.

    Args:
        function: A top-level function of a module that can be imported; its result is plain JSON data.
        items: Its arguments, which can be pickled, by a key that changes when the result would (see `file_key`).
        journal: File to keep the outcomes in.
        workers: Processes, at least 1; with 0 all happens in this process, where nothing guards against crashes and
            time-outs.
        settings: What the results depend on besides the items: when it changes, everything is done anew.
        label: What is being done, in a word or two, for the progress bar.
        timeout: Seconds that an item may take.
        wait_for_others: Let another run that is writing this journal finish first, instead of raising.
        preload: Modules besides the function's own that are imported once for all workers, such as those that the
            function imports itself so that this process need not. Only the first call in a process can preload.

    Returns:
        The outcome of each of `items`, in their order.

    Raises:
        ValueError: If `workers` or `timeout` is out of range, or another run is writing this journal.
        OSError: If the disk is full.
    """
    if workers < 0:
        raise ValueError(f"workers is {workers}; give the number of processes, at least 1 (0 works in this process)")
    if not timeout > 0:
        raise ValueError(f"timeout is {timeout}; give the seconds that a file may take, such as 120")
    with Journal(journal, settings, wait=wait_for_others) as book:
        todo = {key: item for key, item in items.items() if not book.stands(key, timeout)}
        outcomes = _in_processes(function, todo, workers, timeout, preload) if workers else _here(function, todo)
        # Closed at once when anything goes wrong, so that no worker outlives this call.
        with closing(outcomes), progress(label, len(items), len(items) - len(todo)) as advance:
            for key, outcome in outcomes:
                book.add(key, outcome)
                advance(failed=outcome.error is not None)
        return {key: book.known[key] for key in items}


def file_key(clip: Clip) -> str:
    """A key that changes when the file of a clip does: its name, size and time of change, and the clip's stretch."""
    if isinstance(clip.path, FilePart):
        state = f"{clip.path.offset}+{clip.path.size} {clip.path.url or _stamp(clip.path.path)}"
    else:
        state = _stamp(clip.path)
    stretch = f" {clip.start}-{clip.end}" if clip.start or clip.end is not None else ""
    return f"{clip.name} {state}{stretch}"


def key_of_file(clip: Clip) -> str:
    """A key that changes when the file of a clip does, the same for all stretches of a file."""
    return file_key(replace(clip, name=clip.file_name, start=0.0, end=None))


def _stamp(path: Path) -> str:
    try:
        status = os.stat(path)
    except OSError:  # gone, or behind a broken link: whoever reads it will say so
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"


def _attempt(function: Callable[[Any], Any], item: Any) -> Outcome:
    """The outcome of one item; what is no fault of the item is raised."""
    try:
        return Outcome(json.loads(json.dumps(function(item))))
    except UnreadableVideo as error:
        passing = isinstance(error.__cause__, OSError) and error.__cause__.errno in _MAY_PASS
        return Outcome(error=error.reason, retry=0 if passing else None)
    except ValueError as error:
        return Outcome(error=str(error))
    except MemoryError:
        return Outcome(error="there is not enough memory for it", retry=0)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return Outcome(error=error.strerror or str(error), retry=0)


def _here(function: Callable[[Any], Any], items: Mapping[str, Any]) -> Generator[tuple[str, Outcome], None, None]:
    for key, item in items.items():
        yield key, _attempt(function, item)


class _Worker:
    """A process and the item that it works on.

    Attributes:
        key: Of that item; None while it has none.
        since: When it was handed over, by the monotonic clock.
        ready: Whether the process has started and imported all that it needs.
        fresh: Whether it has finished no item yet.
    """

    def __init__(self, context: ForkServerContext, function: bytes, threads: int) -> None:
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, function, threads), daemon=True)
        self.process.start()
        theirs.close()
        self.key: str | None = None
        self.since = 0.0
        self.ready, self.fresh = False, True

    def give(self, key: str, item: Any) -> None:
        self.key, self.since = key, time.monotonic()
        with suppress(BrokenPipeError):  # it died while it had nothing to do, which shows next
            self.pipe.send(item)

    def take(self) -> Any | None:
        """Its next message; None if it has died."""
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            return None

    def end(self, *, kill: bool = True) -> int:
        """Stop the process, or wait for one that stops of itself, and return its exit code."""
        if kill:
            self.process.kill()
        self.process.join()
        code = self.process.exitcode
        self.process.close()
        self.pipe.close()
        return code if code is not None else 0


def _in_processes(
    function: Callable[[Any], Any], items: Mapping[str, Any], count: int, timeout: float, preload: Sequence[str]
) -> Generator[tuple[str, Outcome], None, None]:
    """Yield the outcomes as they come."""
    todo, crashed = deque(items), set[str]()
    # A server that has imported what is needed and forks: a worker starts in milliseconds, and as clean as a new one.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, function.__module__, *preload])
    pickled = pickle.dumps(function)
    threads = max(1, (os.cpu_count() or 1) // count)
    workers: list[_Worker] = []
    try:
        while todo or any(worker.key is not None for worker in workers):
            idle = sum(worker.key is None for worker in workers)
            while len(workers) < count and idle < len(todo):
                workers.append(_Worker(context, pickled, threads))
                idle += 1
            for worker in workers:
                if worker.ready and worker.key is None and todo:
                    worker.give(todo[0], items[todo.popleft()])
            due = min((worker.since + timeout for worker in workers if worker.key is not None), default=None)
            left = None if due is None else min(_LONGEST_WAIT, max(0.0, due - time.monotonic()))
            # A worker that dies closes its end of the pipe, which counts as readable.
            spoken = wait([worker.pipe for worker in workers], left)
            for worker in list(workers):
                key = worker.key
                if worker.pipe in spoken:
                    message = worker.take()
                    if isinstance(message, _Failure):
                        message.raise_here()
                    if isinstance(message, Outcome):
                        assert key is not None
                        worker.key, worker.fresh = None, False
                        if todo:  # before the outcome is noted, so that the worker need not wait for that
                            worker.give(todo[0], items[todo.popleft()])
                        yield key, message
                    elif message is not None:
                        worker.ready = True
                    else:
                        workers.remove(worker)
                        code = worker.end(kill=False)
                        if not worker.ready:
                            raise RuntimeError(f"a worker process could not start (exit code {code})")
                        if key is None:
                            continue
                        if worker.fresh or key in crashed:
                            yield key, _death(code)
                        else:  # an item before it may have left the process broken
                            crashed.add(key)
                            todo.appendleft(key)
                elif key is not None and time.monotonic() >= worker.since + timeout:
                    workers.remove(worker)
                    worker.end()
                    yield key, Outcome(error=f"took longer than {timeout:g} s", retry=timeout)
    finally:
        for worker in workers:
            worker.end()


def _death(code: int) -> Outcome:
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return Outcome(error=f"the decoder crashed ({how})", retry=0 if -code in _FROM_OUTSIDE else None)


class _Failure:
    """An exception that ends the run, on its way from a worker."""

    def __init__(self, error: BaseException) -> None:
        self.text = traceback.format_exc()
        try:
            self.pickled = pickle.dumps(error)
            pickle.loads(self.pickled)
        except Exception:
            self.pickled = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))

    def raise_here(self) -> None:
        raise pickle.loads(self.pickled) from RuntimeError(f"in a worker process:\n{self.text}")


def _work(pipe: Connection, pickled: bytes, threads: int) -> None:
    """What a worker process does: take items from the pipe, send their outcomes back."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one ends the others
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        function = pickle.loads(pickled)
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(threads)
        pipe.send(True)
        while True:
            pipe.send(_attempt(function, pipe.recv()))
    except (EOFError, ConnectionError):
        return
    except BaseException as error:
        pipe.send(_Failure(error))


def _leave_with_parent() -> None:
    """End this process, in the middle of an item too, when the one that started it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
