"""Votes on disk: one line of JSON each, written and synced before the page hears that it counts."""

import fcntl
import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
        for question in QUESTIONS:
            answer = getattr(self, question)
            if answer not in (*ANSWERS, "") or (not answer and not self.skipped):
                raise ValueError(
                    f"{question} is {answer!r}; it is one of {', '.join(ANSWERS)}, or the vote says skipped"
                )
        if self.left == self.right:
            raise ValueError(f"both sides are {self.left!r}")

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What a rater answers once: the comparison, whichever side is which."""
        first, second = sorted((self.left, self.right))
        return self.rater, self.prompt, first, second


class Ballots:
    """The file of votes of a study. Several threads, and several servers, may add to it.

    Args:
        path: The file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:  # a line that a power cut left without its end is no vote: nobody was told so
            file.seek(0)
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)

    def add(self, vote: Vote) -> bool:
        """Add a vote; False if the rater has answered this comparison before, and nothing was written.

        Raises:
            OSError: If it cannot be written, as on a full disk; then nothing is.
        """
        line = json.dumps(asdict(vote), ensure_ascii=False).encode() + b"\n"
        with self._lock, self.path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if vote.key in {known.key for known in _parsed(file.read().splitlines(), self.path)}:
                return False
            end = file.seek(0, os.SEEK_END)
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise
            return True

    def votes(self) -> list[Vote]:
        """All votes so far."""
        return list(_parsed(self.path.read_bytes().splitlines(), self.path))


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
        votes = _of_page(file, key) if file.suffix == ".json" else _parsed(file.read_bytes().splitlines(), file)
        for vote in votes:
            found.setdefault(vote.key, vote)
    if not found:
        raise ValueError(f"there are no votes in {', '.join(map(str, paths))}")
    return list(found.values())


def _parsed(lines: Iterable[bytes], path: Path) -> Iterable[Vote]:
    for number, line in enumerate(lines, 1):
        try:
            yield Vote(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, line {number} is no vote: {error}") from error


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
