"""Which video of a folder was made for which prompt.

A folder says it in `metadata.jsonl` (what `sample` writes), or by the names of its files, as VBench has them: the
prompt itself, or the prompt and the number of the sample, `a red bird-0.mp4`. Names hold no `/` and 255 bytes at most,
so of a prompt that does not fit only the beginning is compared, and only where that tells it from all others. A folder
that says nothing can, if asked, be taken in the order of its files.
"""

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
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
        sample: Its place among the videos of the prompt, from 0, in order of their names.
    """

    path: Path
    prompt: str | None
    sample: int


@dataclass(frozen=True)
class Matched:
    """What a folder holds.

    Attributes:
        videos: In order of their names, numbers in names as numbers: `9.mp4` before `10.mp4`.
        problems: Names and reasons: files that match no prompt or are no video, prompts without a video.
        notes: What whoever uses the matches should hear of, though nothing is left out.
    """

    videos: list[Match]
    problems: list[tuple[str, str]]
    notes: list[str] = field(default_factory=list)


def match_videos(folder: Path, prompts: Sequence[str] | None = None, *, by_order: bool = False) -> Matched:
    """Match the videos of a folder and its subfolders to prompts. Nothing is decoded; hidden files do not count.

    Args:
        folder: The folder.
        prompts: The only prompts that count. None takes what the folder says: the texts of its `metadata.jsonl`, or
            else the names of the files without the number of the sample.
        by_order: Where there is no `metadata.jsonl`, no name matches, and there are as many videos as prompts, take
            the first video for the first prompt, and so on. A note says that it was done.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If its `metadata.jsonl`, or that of a subfolder, cannot be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} {'is a file' if folder.exists() else 'does not exist'}; give a folder of videos"
        )
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    files.sort(key=lambda path: _by_number(path.relative_to(folder)))
    told = _told(files)
    media, problems = [], []
    for path in files:
        if kind_of(path) is None:
            if path.name not in _QUIET:
                problems.append((_name(path, folder), "it is no video, by its suffix"))
        elif told and path not in told and kind_of(path) == "image":
            if path.name not in _QUIET:  # a poster beside the videos
                problems.append((_name(path, folder), f"it is an image of which {METADATA} says nothing"))
        else:
            media.append(path)
    problems += [
        (_name(path, folder), f"{METADATA} names it, and it is not there")
        for path in sorted(set(told) - set(files))
        if not path.is_file()
    ]
    notes = []
    if prompts is None:
        videos: list[tuple[Path, str | None]] = [(path, told.get(path, _named(path.stem))) for path in media]
    else:
        found = [(path, *_among(prompts, told.get(path), path.stem)) for path in media]
        videos = [(path, prompt) for path, prompt, _ in found if prompt is not None]
        if by_order and not told and not videos and len(media) == len(prompts):
            videos = list(zip(media, prompts, strict=True))
            notes.append(
                f"no file is named after a prompt, so the {len(media)} files are taken in their order: "
                f"{_name(media[0], folder)} is {prompts[0]!r}, {_name(media[-1], folder)} is {prompts[-1]!r}"
            )
        else:
            problems += [(_name(path, folder), reason) for path, prompt, reason in found if prompt is None]
        have = {prompt for _, prompt in videos}
        problems += [(prompt, "no video of this prompt") for prompt in dict.fromkeys(prompts) if prompt not in have]
    seen: Counter[str | None] = Counter()
    matches = []
    for path, prompt in videos:
        matches.append(Match(path, prompt, seen[prompt]))
        seen[prompt] += 1
    return Matched(matches, problems, notes)


def _told(files: Sequence[Path]) -> dict[Path, str]:
    """What each `metadata.jsonl` says of the files beside it."""
    told = {}
    for path in files:
        if path.name != METADATA:
            continue
        try:
            # Not splitlines: what else it takes for the end of a line may stand in a text.
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text: {error}") from error
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                name, text = entry["file_name"], entry["text"]
                if not (isinstance(name, str) and isinstance(text, str)):
                    raise TypeError
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number} is no object with file_name and text: {line[:80]!r}"
                ) from error
            told[Path(os.path.normpath(path.parent / name))] = text.strip()
    return told


def _among(prompts: Sequence[str], text: str | None, stem: str) -> tuple[str | None, str]:
    """The prompt that a file is of; None if it is of none, or of several, with the reason."""
    if text is not None:
        return (text, "") if text in prompts else (None, f"its text is none of the {len(prompts)} prompts: {text!r}")
    for name in (stem, _named(stem)):
        if name in prompts:
            return name, ""
    for name in (_plain(stem), _plain(_named(stem))):
        close = [prompt for prompt in dict.fromkeys(prompts) if _plain(prompt) == name]
        if not close and len(name.encode()) >= _LONGEST // 2:
            close = [prompt for prompt in dict.fromkeys(prompts) if _plain(prompt).startswith(name)]
        if len(close) == 1:
            return close[0], ""
        if close:
            return None, f"its name fits {len(close)} prompts, such as {close[0]!r} and {close[1]!r}"
    return None, f"it matches none of the {len(prompts)} prompts"


def _named(stem: str) -> str:
    """A file's name without the number of the sample."""
    match = _NUMBER.fullmatch(stem)
    return match[1] if match else stem


def _name(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _by_number(path: Path) -> list[tuple[list[str | int], str]]:
    """A key that sorts parts of a path by their text, and digits in them as numbers."""
    return [
        ([int(part) if place % 2 else part for place, part in enumerate(re.split(r"([0-9]+)", name))], name)
        for name in path.parts
    ]


def _plain(text: str) -> str:
    """A text without what file systems change: forbidden characters, composed letters, spaces at the ends."""
    return re.sub(r"[\s_]+", " ", _NO_NAME.sub(" ", unicodedata.normalize("NFC", text))).strip()
