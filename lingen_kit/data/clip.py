"""What a data set lists before anything is decoded: its clips, what is wrong with the others, and who validates."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lingen_kit.data.media import FilePart, Kind, kind_of
from lingen_kit.data.sampler import derive_seed


@dataclass(frozen=True, slots=True)
class Clip:
    """One item of a data set: where it is and what it shows.

    Attributes:
        path: The file, or the part of an archive.
        name: What tells it apart from the others, wherever the data set lies: the path within its folder, followed by
            `#start-end` for a stretch of a file. The split and all that is random go by it.
        caption: What it shows.
        start: Seconds into the file where the clip begins.
        end: Seconds into the file where it ends; None for the end of the file.
        attributes: What else the data set says about it, such as scores.
    """

    path: Path | FilePart
    name: str
    caption: str
    start: float = 0.0
    end: float | None = None
    attributes: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def kind(self) -> Kind | None:
        """Whether it is a video or an image, by the file's name."""
        return kind_of(self.path)


@dataclass
class Index:
    """What a data set holds.

    Attributes:
        root: Where it is.
        layout: How it is laid out, in a line for people.
        clips: Files with a caption, in order of their names.
        unusable: (path, reason) of clips that lack a caption, are no files, or have a name or a caption that is
            not text.
        ignored: (path, reason) of what is not part of the data set, such as pictures beside the clips.
    """

    root: str
    layout: str = ""
    clips: list[Clip] = field(default_factory=list)
    unusable: list[tuple[str, str]] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)


def split(clips: list[Clip], validation_share: float) -> tuple[list[Clip], list[Clip]]:
    """Divide clips into training and validation, by a hash of their names.

    A clip's side depends on its name alone, whatever else is in the folder, except that neither side stays
    empty: then the clip with the nearest hash changes sides. A single clip is on both. Stretches of one file
    stay on one side.

    Args:
        clips: At least one.
        validation_share: About this share goes to validation.

    Returns:
        Training clips in their given order; validation clips in order of their hashes, which is as good as
        random.
    """
    names = sorted({_file(clip) for clip in clips}, key=_hash)
    if len(names) == 1:
        return clips, clips
    chosen = sum(_hash(name) < validation_share for name in names)
    validation = set(names[: min(max(chosen, 1), len(names) - 1)])
    training = [clip for clip in clips if _file(clip) not in validation]
    return training, sorted((clip for clip in clips if _file(clip) in validation), key=lambda clip: _hash(_file(clip)))


def _file(clip: Clip) -> str:
    return clip.name.rpartition("#")[0] if clip.start or clip.end is not None else clip.name


def _hash(name: str) -> float:
    return derive_seed("split", name) / 2**63


def printable(text: str) -> str:
    r"""Text that can be printed and stored: bytes that are not UTF-8 and halves of characters become `\udcff`."""
    return text.encode(errors="backslashreplace").decode()


def first_of(lines: Iterable[str], limit: int = 10) -> str:
    """The first of some lines, and how many more there are."""
    known = list(lines)
    more = [f"  and {len(known) - limit} more"] if len(known) > limit else []
    return "\n".join(known[:limit] + more)
