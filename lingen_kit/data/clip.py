"""What a data set lists before anything is decoded: its clips, what is wrong with the others, and who validates."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lingen_kit.data.media import FilePart, Kind, kind_of
from lingen_kit.data.seeds import derive_seed

_SPLITS = {
    **dict.fromkeys(["train", "training"], "train"),
    **dict.fromkeys(["validation", "valid", "val", "dev"], "validation"),
    **dict.fromkeys(["test", "testing"], "test"),
}


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

    @property
    def file_name(self) -> str:
        """Its name without the stretch: the same for all clips of a file."""
        return self.name.rpartition("#")[0] if self.start or self.end is not None else self.name

    def seconds(self, duration: float) -> float:
        """Its length in seconds, in a file of `duration` seconds; not above 0 where it begins after the file's end."""
        return (duration if self.end is None else min(self.end, duration)) - self.start


@dataclass
class Index:
    """What a data set holds.

    Attributes:
        root: Where it is.
        layout: How it is laid out, in a line for people.
        clips: Files with a caption, in order of their names.
        unusable: (path, reason) of clips that lack a caption, are no files, or have a name or a caption that is
            not text; of lines of a manifest and of shards that cannot be read.
        ignored: (path, reason) of what is not part of the data set, such as pictures beside the clips.
    """

    root: str
    layout: str = ""
    clips: list[Clip] = field(default_factory=list)
    unusable: list[tuple[str, str]] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)


def split(clips: list[Clip], validation_share: float) -> tuple[list[Clip], list[Clip]]:
    """Divide clips into training and validation, as the data set says or else by a hash of their names.

    The data set says it if every clip has an attribute `split`, by its folder or a column, and both `train` and
    `validation` occur (or `test`, where there is no `validation`); then `validation_share` is not used, and clips that
    belong to neither are in neither.

    Otherwise a clip's side depends on the name of its file alone, whatever else is in the folder, except that neither
    side stays empty: then the file with the nearest hash changes sides. Stretches of one file stay on one side; where
    all clips are of one file, all of them are on both.

    Args:
        clips: At least one.
        validation_share: About this share goes to validation.

    Returns:
        Training clips in their given order; validation clips in order of their hashes, which is as good as
        random.
    """
    names = [split_key(clip) for clip in clips]
    hashes = {name: derive_seed("split", name) for name in dict.fromkeys(names)}
    sides = _given_sides(clips)
    if "train" in sides and len(sides) > 1:
        training = sides["train"]
        chosen = sides["validation" if "validation" in sides else "test"]
    elif len(hashes) == 1:
        return clips, clips
    else:
        validation = {name for name, value in hashes.items() if value < validation_share * 2**63}
        validation = validation or {min(hashes, key=hashes.__getitem__)}
        if len(validation) == len(hashes):
            validation.remove(max(hashes, key=hashes.__getitem__))
        training = [clip for clip, name in zip(clips, names, strict=True) if name not in validation]
        chosen = [clip for clip, name in zip(clips, names, strict=True) if name in validation]
    return training, sorted(chosen, key=lambda clip: hashes[split_key(clip)])


def split_key(clip: Clip) -> str:
    """The name that decides a clip's side: that of its file, or the one that the file had before it was exported."""
    before = clip.attributes.get("split_by")
    return before if isinstance(before, str) else clip.file_name


def source_of(clip: Clip) -> str:
    """The file of a clip, and the stretch of it if it is not the whole."""
    whole = not clip.start and clip.end is None
    return str(clip.path) if whole else f"{clip.path}#{clip.name.rpartition('#')[2]}"


def split_name(word: object) -> str | None:
    """Which of `train`, `validation` and `test` a word for a part of a data set means; None if none of them."""
    return _SPLITS.get(word.lower()) if isinstance(word, str) else None


def _given_sides(clips: list[Clip]) -> dict[str, list[Clip]]:
    """Clips by the part that the data set assigns them to; nothing if it leaves one out."""
    sides: dict[str, list[Clip]] = {}
    for clip in clips:
        side = split_name(clip.attributes.get("split"))
        if side is None:
            return {}
        sides.setdefault(side, []).append(clip)
    return sides


def printable(text: str) -> str:
    r"""Text that can be printed on a line and stored: what is no Unicode becomes `\udcff`, a line feed `\n`.

    So does all else that shows nothing, or does something to a terminal; spaces of any width stay.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or unicodedata.category(letter) == "Zs" else _escaped(letter) for letter in text
    )


def is_unicode(text: str) -> bool:
    """Whether a text has no bytes that were not UTF-8, and no halves of characters: it can be stored as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


def first_of(lines: Iterable[str], limit: int = 10) -> str:
    """The first of some lines, and how many more there are."""
    known = list(lines)
    more = [f"  and {len(known) - limit} more"] if len(known) > limit else []
    return "\n".join(known[:limit] + more)
