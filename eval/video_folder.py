"""Which video of a folder was made for which prompt.

A folder says it in `metadata.jsonl` (what `sample` writes), or by the names of its files, as VBench has them: the
prompt itself, or the prompt and the number of the sample, `a red bird-0.mp4`. Names hold no `/` and 255 bytes at most,
so of a prompt that does not fit only the beginning is compared, and only where that tells it from all others.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lingen_kit.data.media import kind_of

__all__ = ["Match", "Matched", "match_videos"]

METADATA = "metadata.jsonl"
_NUMBER = re.compile(r"(.*?)-(\d+)")
_NO_NAME = re.compile(r"[/\\\0:*?\"<>|]")  # what file systems forbid, which programs leave out or replace
_LONGEST = 200  # bytes of a name from which it may have been cut off
_QUIET = {METADATA, "metadata.csv", "sheet.png"}


@dataclass(frozen=True)
class Match:
    """A video with its prompt.

    Attributes:
        path: The file.
        prompt: What it was made for; None if the folder does not say.
        sample: Its number among the videos of the prompt, from 0.
    """

    path: Path
    prompt: str | None
    sample: int


@dataclass(frozen=True)
class Matched:
    """What a folder holds.

    Attributes:
        videos: In order of their names.
        problems: Names and reasons: files that match no prompt or are no video, prompts without a video.
    """

    videos: list[Match]
    problems: list[tuple[str, str]]


def match_videos(folder: Path, prompts: Sequence[str] | None = None) -> Matched:
    """Match the videos of a folder and its subfolders to prompts. Nothing is decoded.

    Args:
        folder: The folder.
        prompts: The only prompts that count. None takes what the folder says: the texts of its `metadata.jsonl`, or
            else the names of the files without the number of the sample.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If its `metadata.jsonl` cannot be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} {'is a file' if folder.exists() else 'does not exist'}; give a folder of videos"
        )
    told = _told(folder)
    videos, problems = [], []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        name = path.relative_to(folder).as_posix()
        if kind_of(path) is None:
            if path.name not in _QUIET:
                problems.append((name, "it is no video, by its suffix"))
            continue
        if told and name not in told and kind_of(path) == "image":
            continue  # a contact sheet or a poster beside the videos
        text = told.get(name) or told.get(path.name)
        if prompts is None:
            videos.append((path, text if text is not None else _named(path.stem)))
            continue
        found = _among(prompts, text, path.stem)
        if found is None:
            problems.append((name, f"it matches none of the {len(prompts)} prompts"))
        else:
            videos.append((path, found))
    there = {(folder / name).resolve() for name in told}
    problems += [
        (path.name, f"{METADATA} names it, and it is not there") for path in sorted(there) if not path.exists()
    ]
    if prompts is not None:
        have = {prompt for _, prompt in videos}
        problems += [(prompt, "no video of this prompt") for prompt in dict.fromkeys(prompts) if prompt not in have]
    seen: Counter[str | None] = Counter()
    matches = []
    for path, prompt in videos:
        matches.append(Match(path, prompt, seen[prompt]))
        seen[prompt] += 1
    return Matched(matches, problems)


def _told(folder: Path) -> dict[str, str]:
    """What `metadata.jsonl` says, by name of the file."""
    path = folder / METADATA
    if not path.is_file():
        return {}
    told = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            told[entry["file_name"]] = entry["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number} is no object with file_name and text: {line[:80]!r}") from error
    return told


def _among(prompts: Sequence[str], text: str | None, stem: str) -> str | None:
    """The prompt that a file is of; None if it is of none, or of several."""
    if text is not None:
        return text if text in prompts else None
    for name in (stem, _named(stem)):
        if name in prompts:
            return name
    for name in (_plain(stem), _plain(_named(stem))):
        close = [prompt for prompt in dict.fromkeys(prompts) if _plain(prompt) == name]
        if not close and len(name.encode()) >= _LONGEST // 2:
            close = [prompt for prompt in dict.fromkeys(prompts) if _plain(prompt).startswith(name)]
        if len(close) == 1:
            return close[0]
    return None


def _named(stem: str) -> str:
    """A file's name without the number of the sample."""
    match = _NUMBER.fullmatch(stem)
    return match[1] if match else stem


def _plain(text: str) -> str:
    """A text without what file systems change: forbidden characters, composed letters, spaces at the ends."""
    return re.sub(r"[\s_]+", " ", _NO_NAME.sub(" ", unicodedata.normalize("NFC", text))).strip()
