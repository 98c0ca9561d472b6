"""A journal of finished work: one line of JSON an item, so that a run that was killed goes on where it stopped."""

import errno
import fcntl
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item.

    Attributes:
        value: Its result, plain JSON data; None if there is none.
        error: Why there is none, in a few words; None if all went well.
        retry: For an error that may pass, such as a file that may not be read: a later run tries again when it
            grants an item more than this many seconds. None if the outcome stands.
    """

    value: Any | None = None
    error: str | None = None
    retry: float | None = None


class Journal:
    """Outcomes by key, in a file that grows line by line. Use it in a `with` block.

    The first line holds the settings. When those of a run differ, the file is set aside and all begins anew. A last
    line that was cut off is dropped, and so is any other that cannot be read: those items are done again. One run at a
    time writes a journal.

    Args:
        path: The file; its folder is made.
        settings: What the outcomes depend on besides the items, plain JSON data.
        wait: Wait while another run is writing this journal, instead of raising.

    Attributes:
        known: The outcomes so far, by key.

    Raises:
        ValueError: On entering, if another run is writing this journal, unless `wait`.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, wait: bool = False) -> None:
        self.path = path
        self._wait = wait
        self.known: dict[str, Outcome] = {}
        self._settings: dict[str, Any] = json.loads(json.dumps({"journal": _FORMAT, **settings}))

    def __enter__(self) -> "Journal":
        """Read what is there and open the file for more."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._open()
        try:
            self._load()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    def stands(self, key: str, timeout: float) -> bool:
        """Whether an item has an outcome that a run which grants it `timeout` seconds need not try again."""
        outcome = self.known.get(key)
        return outcome is not None and (outcome.retry is None or outcome.retry >= timeout)

    def add(self, key: str, outcome: Outcome) -> None:
        """Note an outcome; it is in the file when this returns.

        Raises:
            OSError: If it cannot be written, as on a full disk. The file then ends with the outcome before.
        """
        entry: dict[str, Any] = {"key": key}
        entry |= {"value": outcome.value} if outcome.error is None else {"error": outcome.error}
        if outcome.retry is not None:
            entry["retry"] = outcome.retry
        self._write(entry)
        self.known[key] = outcome

    def _open(self) -> None:
        while True:
            # Unbuffered: what was written is in the file even if this process is killed at once.
            self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115 - closed in __exit__
            try:
                self._lock()
                if os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path)):
                    return
            except FileNotFoundError:
                pass
            except BaseException:
                self._file.close()
                raise
            self._file.close()  # it was set aside while this run waited for its turn

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if not self._wait:
                raise ValueError(
                    f"another run is writing {self.path}; wait for it to end, or name another folder with --out"
                ) from error
            print(f"waiting for another run that is writing {self.path}", file=sys.stderr, flush=True)
            fcntl.flock(self._file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # some network file systems have no locks
                raise

    def _load(self) -> None:
        self._file.seek(0)
        lines = self._file.read().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            self._file.truncate(sum(map(len, lines[:-1])))
            lines.pop()
        entries = [_parsed(line) for line in lines]
        if not entries:
            self._write(self._settings)
            return
        if entries[0] != self._settings:
            self._set_aside(entries[0])
            return
        for entry in entries[1:]:
            if entry is not None and "key" in entry:
                self.known[entry["key"]] = Outcome(entry.get("value"), entry.get("error"), entry.get("retry"))
        if unread := sum(entry is None for entry in entries):
            print(f"{self.path}: {unread} of its lines cannot be read; these items are done again", file=sys.stderr)

    def _set_aside(self, before: dict[str, Any] | None) -> None:
        old = self.path.with_suffix(".old" + self.path.suffix)
        os.replace(self.path, old)
        self._file.close()
        self._open()
        self._write(self._settings)
        print(f"all is done anew: {_difference(before, self._settings)}; the journal so far is {old}", file=sys.stderr)

    def _write(self, entry: Mapping[str, Any]) -> None:
        # Escaped to ASCII: names of files need not be UTF-8, and this way they come back as they were.
        line = json.dumps(entry).encode() + b"\n"
        end = self._file.seek(0, os.SEEK_END)
        try:
            written = self._file.write(line)
            if written != len(line):  # on a full disk the first part may fit
                self._file.write(line[written:])
        except OSError as error:
            self._file.truncate(end)
            hint = f"{error.strerror}; {len(self.known)} results are kept there: make room and run this again"
            raise OSError(error.errno, hint, str(self.path)) from error


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _difference(before: dict[str, Any] | None, now: dict[str, Any]) -> str:
    if before is None or "journal" not in before:
        return "the file was no journal of this version"
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} was {before.get(name)} and is {now.get(name)}" for name in changed)
