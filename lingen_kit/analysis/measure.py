"""Honest measurements of calls: time in turns, peak memory in a fresh process, the machine's own product rate.

Times of candidates that take turns (A B A B ...) share the machine's slow spells, so their ratios hold where single
times do not. Peak memory on the CPU is the high-water mark of resident memory, which only a fresh process can tell:
allocators keep what they once had.
"""

import ctypes
import multiprocessing
import os
import select
import signal
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

Call = Callable[[], object]


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told; the CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def take_turns(
    calls: Mapping[str, Call],
    repeats: int,
    *,
    warmup: int = 2,
    device: torch.device | str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time calls in turns.

    Args:
        calls: What to time, by name.
        repeats: Timed rounds; in each, every call runs once.
        warmup: Rounds before them that are not timed.
        device: Where the calls run.
        clock: What tells the seconds, such as `time.process_time` where one thread works on a busy machine.

    Returns:
        The seconds of each call, one a round.
    """
    device = torch.device(device)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + repeats):
        for name, call in calls.items():
            synchronize(device)
            start = clock()
            call()
            synchronize(device)
            if turn >= warmup:
                seconds[name].append(clock() - start)
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """Median seconds of each call."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def ratio(seconds: Mapping[str, list[float]], a: str, b: str) -> float:
    """Median over the rounds of the time of `a` over that of `b`."""
    return statistics.median(x / y for x, y in zip(seconds[a], seconds[b], strict=True))


def gemm_call(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[Call, int]:
    """A square matrix product large enough to show the machine's rate, and its FLOPs (two per multiply-add)."""
    size = 1024 if torch.device(device).type == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out), 2 * size**3


def gemm_rate(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, repeats: int = 15) -> float:
    """FLOP/s of the machine's own matrix product: what utilisation is measured against."""
    call, flops = gemm_call(device, dtype)
    return flops / medians(take_turns({"mm": call}, repeats, device=device))["mm"]


def resident(field: str = "VmRSS") -> int:
    """Bytes of resident memory of this process now (`VmRSS`) or at its highest (`VmHWM`); Linux only."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def peak_memory(call: Call, device: torch.device | str = "cpu") -> int:
    """Bytes that one call needs at its peak beyond what is held before it.

    On the CPU, call it in a fresh process (`in_child`).
    """
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    _return_free_memory()
    before = resident()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the high-water mark
    call()
    return max(0, resident("VmHWM") - before)


def _return_free_memory() -> None:
    """Give freed memory back to the system: what glibc's allocator keeps would hide the first megabytes of a call."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class ChildFailed(RuntimeError):
    """The child process raised, or was killed (by the system, where memory ran out)."""


def in_child(function: Callable[..., Any], *args: Any, threads: int | None = None) -> Any:
    """Call a module-level function in a fresh process that has torch loaded, and return its result.

    Args:
        function: What to call; it and its arguments must be picklable.
        args: Its arguments.
        threads: Threads of torch in the child; as in this process if None.

    Raises:
        ChildFailed: The function raised, or the process died; the message says which.
    """
    context = multiprocessing.get_context("forkserver")
    # So that torch, and what else the function's module imports, is imported once, not per child.
    context.set_forkserver_preload(sorted({"lingen_kit.analysis.measure", function.__module__} - {"__main__"}))
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(sender, threads or torch.get_num_threads(), function, args))
    process.start()
    sender.close()
    try:
        ok, result = receiver.recv()
    except EOFError:
        process.join()
        ok, result = (
            False,
            f"the process died with exit code {process.exitcode}"
            + (": killed, most likely because memory ran out" if process.exitcode == -9 else ""),
        )
    process.join()
    if not ok:
        raise ChildFailed(result)
    return result


def _serve(sender: Any, threads: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches both processes; one traceback is enough
    threading.Thread(target=end_with, args=(sender,), daemon=True).start()
    torch.set_num_threads(threads)
    try:
        answer = True, function(*args)
    except Exception as error:
        answer = False, f"{type(error).__name__}: {error}"
    sender.send(answer)
    sender.close()


def end_with(sender: Any) -> None:
    """End this process once nobody can read its answer any more: whoever asked was killed."""
    poll = select.poll()
    poll.register(sender, 0)  # errors and hang-ups are reported whatever one asks for
    poll.poll()
    os._exit(1)


def offer_to_the_killer() -> None:
    """Have Linux end this process, not the one that waits for it, when memory runs out."""
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
