"""Votes on disk: one line of JSON each, written and synced before the page hears that it counts."""

import errno
import fcntl
import json
import math
import os
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lingen_kit.files import replacing

__all__ = ["ANSWERS", "QUESTIONS", "Ballots", "Vote", "read_votes"]

QUESTIONS = ("quality", "text")
ANSWERS = ("left", "tie", "right")


@dataclass(frozen=True)
class Vote:
    """A rater's answers to one comparison.

    Attributes:
        rater: Who.
        prompt: Of both videos.
        left: Model on the left.
        right: Model on the right.
        quality: `left`, `tie` or `right`: which looks better; empty if skipped.
        text: The same for which shows the prompt better.
        skipped: Why it was skipped; empty if it was answered.
        seconds: From sight to answer.
        time: When, in UTC.
    """

    rater: str
    prompt: str
    left: str
    right: str
    quality: str = ""
    text: str = ""
    skipped: str = ""
    seconds: float = 0.0
    time: str = ""

    def __post_init__(self) -> None:
        for name in ("rater", "prompt", "left", "right", *QUESTIONS, "skipped", "time"):
            value = getattr(self, name)
            if not isinstance(value, str) or any("\ud800" <= letter <= "\udfff" for letter in value):
                raise ValueError(f"{name} is {value!r}, which is no text")
        for question in QUESTIONS:
            answer = getattr(self, question)
            if answer not in (("",) if self.skipped else ANSWERS):
                raise ValueError(
                    f"{question} is {answer!r}; it is one of {', '.join(ANSWERS)}, or empty if the vote says skipped"
                )
        if self.left == self.right:
            raise ValueError(f"both sides are {self.left!r}")
        if isinstance(self.seconds, str) or not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise ValueError(f"seconds is {self.seconds!r}; it is a number from 0")

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What a rater answers once: the comparison, whichever side is which."""
        first, second = sorted((self.left, self.right))
        return self.rater, self.prompt, first, second


class Ballots:
    """The file of votes of a study. Several threads, and several servers, may add to it.

    Args:
        path: The file; its folder is made.

    Attributes:
        secret: Drawn once for the folder, and kept in it for its owner's eyes: what servers make their ids from.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._votes: list[Vote] = []  # what the first `_read` bytes of the file say
        self._keys: set[tuple[str, str, str, str]] = set()
        self._read = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        _sync_folder(path.parent)  # else a power cut could take the file away, whatever was synced in it
        with self._opened():  # which refuses a damaged file before anybody votes
            self.secret = _secret(path.with_name("secret"))

    def add(self, vote: Vote) -> bool:
        """Add a vote; False if the rater has answered this comparison before, and nothing was written.

        Raises:
            OSError: If it cannot be written, as on a full disk; then nothing is.
        """
        line = json.dumps(asdict(vote), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self._opened() as file:
            if vote.key in self._keys:
                return False
            end = file.seek(0, os.SEEK_END)
            try:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise
            self._votes.append(vote)
            self._keys.add(vote.key)
            self._read += len(line)
            return True

    def votes(self) -> list[Vote]:
        """All votes so far.

        Raises:
            ValueError: If a line of the file is no vote.
        """
        with self._opened():
            return list(self._votes)

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        """The file, for this thread of this process alone, with all that it says known."""
        with self._lock, self.path.open("r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._catch_up(file)
            yield file

    def _catch_up(self, file: BinaryIO) -> None:
        """Read what others have added. A last line that was cut off is no vote, since nobody was told so: it goes."""
        if os.fstat(file.fileno()).st_size < self._read:  # somebody has edited it
            self._votes, self._keys, self._read = [], set(), 0
        file.seek(self._read)
        new = file.read()
        whole = new.rfind(b"\n") + 1
        if whole < len(new):
            if _is_vote(new[whole:]):  # whole but for its end, as an editor may leave it
                file.write(b"\n")
                new += b"\n"
                whole = len(new)
            else:
                file.truncate(self._read + whole)
        found = list(_parsed(new[:whole].split(b"\n")[:-1], self.path, len(self._votes)))
        self._votes += found
        self._keys |= {vote.key for vote in found}
        self._read += whole


def read_votes(paths: Sequence[Path], key: Mapping[str, Sequence[str]] | None = None) -> list[Vote]:
    """Read votes of served studies and of static pages; a comparison that a rater answered twice counts once.

    Args:
        paths: `votes.jsonl` files, folders that hold one, or the JSON files that static pages give.
        key: Of a static page: model and prompt of each of its videos.

    Raises:
        FileNotFoundError: If one does not exist.
        ValueError: If one holds no votes, or is of a static page and there is no key.
    """
    found: dict[tuple[str, str, str, str], Vote] = {}
    for path in paths:
        file = path / "votes.jsonl" if path.is_dir() else path
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist; `arena` writes it, and its static pages give a JSON file")
        for vote in _of_page(file, key) if file.suffix == ".json" else _of_server(file):
            found.setdefault(vote.key, vote)
    if not found:
        raise ValueError(f"there are no votes in {', '.join(map(str, paths))}")
    return list(found.values())


def _parsed(lines: Iterable[bytes], path: Path, before: int = 0) -> Iterator[Vote]:
    for number, line in enumerate(lines, before + 1):
        try:
            yield Vote(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, line {number} is no vote: {error}") from error


def _is_vote(line: bytes) -> bool:
    try:
        Vote(**json.loads(line))
    except (ValueError, TypeError):
        return False
    return True


def _of_server(path: Path) -> Iterator[Vote]:
    """The votes of a file, without a change to it; a last line that was cut off, or is being written, is none."""
    *lines, last = path.read_bytes().split(b"\n")
    return _parsed([*lines, last] if _is_vote(last) else lines, path)


def _secret(path: Path) -> bytes:
    if not path.exists():
        with replacing(path, sync=True) as beside:
            beside.touch(mode=0o600)
            beside.write_text(secrets.token_hex(32))
    return path.read_bytes()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _of_page(path: Path, key: Mapping[str, Sequence[str]] | None) -> Iterable[Vote]:
    if key is None:
        raise ValueError(f"{path} comes from a static page: name the key that was written beside the page with --key")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for entry in content["votes"]:
            left, right = key[entry["left"]], key[entry["right"]]
            rest = {name: entry[name] for name in ("quality", "text", "skipped", "seconds", "time")}
            yield Vote(rater=entry["rater"], prompt=left[1], left=left[0], right=right[0], **rest)
    except KeyError as error:
        raise ValueError(f"{path} is of another page than the key: {error} is not in it") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} holds no votes of a static page: {error}") from error
