"""Work for the processes of `run_jobs` in tests: a module of its own, so that they start soon."""

import errno
import os
import signal
import time
from pathlib import Path
from typing import Any

from lingen_kit.data.media import UnreadableVideo

_poisoned = False


def do(order: tuple[str, Any]) -> dict[str, Any]:
    """Do what the first word says; every call leaves a line in the file that `LEDGER` names."""
    global _poisoned
    word, value = order
    if ledger := os.environ.get("LEDGER"):
        with open(ledger, "a") as file:
            file.write(f"{word} {value}\n")
    if _poisoned:
        os.kill(os.getpid(), signal.SIGSEGV)
    match word:
        case "square":
            return {"square": value**2, "pair": (value, value)}
        case "crash":
            os.kill(os.getpid(), value)
        case "exit":
            os._exit(value)
        case "sleep":
            time.sleep(value)
        case "bad value":
            raise ValueError(value)
        case "unreadable":
            raise UnreadableVideo(value, "it is torn")
        case "forbidden":
            raise PermissionError(errno.EACCES, "Permission denied", value)
        case "forbidden video":
            try:
                raise PermissionError(errno.EACCES, "Permission denied", value)
            except PermissionError as error:
                raise UnreadableVideo(value, "permission denied") from error
        case "too large":
            raise MemoryError
        case "disk full":
            raise OSError(errno.ENOSPC, "No space left on device", value)
        case "bug":
            raise KeyError(value)
        case "poison":
            _poisoned = True
        case "long nap":
            time.sleep(60)
        case "slow square":
            time.sleep(0.05)
            return {"square": value**2}
    return {"pid": os.getpid()}


def run(ledger: str, journal: str, word: str, count: int, workers: int) -> None:
    """`run_jobs` on the numbers up to `count`; for tests that kill it."""
    from lingen_kit.data.jobs import run_jobs

    os.environ["LEDGER"] = ledger
    items = {f"item {i}": (word, i) for i in range(count)}
    found = run_jobs(do, items, Path(journal), workers=workers, settings={}, label="slowly")
    print([found[key].value["square"] for key in items])
