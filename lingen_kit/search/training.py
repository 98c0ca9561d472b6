"""One training of a candidate: `fit` in a process of its own, watched, and ended when it is no longer wanted.

The process comes from a server that has imported everything already, so it starts at once, and whatever happens to it
(a crash, memory that runs out, a kill) happens to it alone. What it prints goes to a file beside its run folder.
"""

import multiprocessing
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, NamedTuple

from lingen_kit import runs
from lingen_kit.analysis.measure import end_with, offer_to_the_killer
from lingen_kit.errors import explain

Fit = Callable[[str, list[str]], None]
"""`fit` as the command line calls it: the verb, and its words."""

_POLL = 0.5  # seconds between two looks at a training
_PATIENCE = 60  # seconds that a training has to save a checkpoint when it is told to stop


class Outcome(NamedTuple):
    """How a training ended.

    Attributes:
        state: `stopped` can be gone on with.
        reason: Why it failed, or what stopped it.
        seconds: That it took this time.
    """

    state: Literal["complete", "pruned", "failed", "stopped"]
    reason: str
    seconds: float


def prepare(modules: Sequence[str]) -> None:
    """Start the server that trainings come from, with modules loaded; before anything else asks for a process.

    Args:
        modules: What a training imports.
    """
    from multiprocessing import forkserver

    multiprocessing.get_context("forkserver").set_forkserver_preload(list(modules))
    forkserver.ensure_running()


def train(
    fit: Fit,
    words: list[str],
    folder: Path,
    name: str,
    *,
    threads: int,
    slot: int = 0,
    minutes: float | None = None,
    watch: Callable[[Path], str | None] = lambda metrics: None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train a candidate, or go on with a training that was cut off.

    Args:
        fit: What trains; it and its module are imported by the new process.
        words: What it is given.
        folder: Where its run folder `name/version_n` and its output `name.log` go.
        name: Of the run.
        threads: Of torch, on the CPU.
        slot: Place among the trainings of this machine, which says on which GPU.
        minutes: How long it may take; None for as long as it wants.
        watch: Shown the run's `metrics.csv` again and again; a text ends the training as pruned, for that reason.
        stop: Asked again and again whether to end, with a checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    began, log = time.monotonic(), folder / f"{name}.log"
    resumed = runs.last(run_folder(folder, name)).is_file()
    if resumed:
        words = [*words, "--ckpt_path=last"]
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    with receiver:
        process = context.Process(
            target=_run, args=(fit, [*words, f"--name={name}"], folder, log, threads, slot, sender)
        )
        process.start()
        sender.close()
        ended: tuple[Literal["pruned", "failed", "stopped"], str] | None = None
        while process.exitcode is None:
            process.join(_POLL)
            if reason := watch(run_folder(folder, name) / "metrics.csv"):
                ended = "pruned", reason
            elif minutes is not None and time.monotonic() - began > 60 * minutes:
                ended = "failed", f"it took more than time_limit {minutes:g} minutes"
            elif stop():
                ended = "stopped", "asked to stop"
            if ended:
                _end(process, patience=_PATIENCE if ended[0] == "stopped" else 0)
                break
    seconds = time.monotonic() - began
    if process.exitcode == 0:
        return Outcome("complete", "", seconds)
    if ended:
        return Outcome(*ended, seconds)
    if process.exitcode in (130, 143):  # a signal from elsewhere, after which it saved a checkpoint
        return Outcome("stopped", f"stopped by {signal.Signals(process.exitcode - 128).name}", seconds)
    if resumed and not ended:  # its checkpoint may be what is wrong, or may have been its last
        shutil.rmtree(folder / name)
        again = train(
            fit, words[:-1], folder, name, threads=threads, slot=slot, minutes=minutes, watch=watch, stop=stop
        )
        return again._replace(seconds=again.seconds + seconds)
    return Outcome("failed", _why(process.exitcode, log), seconds)


def run_folder(folder: Path, name: str) -> Path:
    """The run folder of a training: its newest version, and of one with stages the last stage that has begun."""
    version = folder / name / f"version_{max(runs.versions_in(folder / name), default=0)}"
    stages = [path.parent for path in version.glob("*-*/metrics.csv")]
    return max(stages, key=lambda stage: int(stage.name.partition("-")[0]), default=version)


def _end(process: multiprocessing.process.BaseProcess, patience: float) -> None:
    """Have a training save and end, if there is patience; else kill it."""
    if patience:
        process.terminate()
        process.join(patience)
    if process.exitcode is None:
        process.kill()
        process.join()


def _why(code: int | None, log: Path) -> str:
    """What made a training fail: the last error of its output, or the signal that killed it."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        killed = "; most likely because memory ran out" if code == -signal.SIGKILL else ""
        return f"killed by {name}{killed}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    told = [line for line in lines if line.startswith("error: ")]
    said = told[-1].removeprefix("error: ") if told else next((line for line in reversed(lines) if line.strip()), "")
    return said or f"it ended with exit code {code} and printed nothing"


def _run(fit: Fit, words: list[str], folder: Path, log: Path, threads: int, slot: int, sender: Connection) -> None:
    """Train in this process, which is a fresh one and ends with whoever started it."""
    import threading

    threading.Thread(target=end_with, args=(sender,), daemon=True).start()
    with log.open("a", encoding="utf-8") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    offer_to_the_killer()
    os.setpgid(0, 0)  # Ctrl-C reaches the search alone, which tells its trainings to end
    os.environ[runs.VARIABLE] = str(folder)
    import torch

    torch.set_num_threads(threads)
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = gpus.split(",") if gpus else [str(i) for i in range(torch.cuda.device_count())]
    if visible:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[slot % len(visible)]
    try:
        fit("fit", words)
    except SystemExit as error:
        code = error.code
    except KeyboardInterrupt:
        code = 130
    except BaseException as error:
        traceback.print_exc()
        print(f"error: {explain(error) or f'{type(error).__name__}: {error}'}".splitlines()[0])
        code = 2
    else:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)  # no thread of a data loader can hold it up
