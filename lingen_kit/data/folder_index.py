"""Which clips a folder holds, with their captions, and which of them are for validation.

Captions come from `metadata.jsonl` in the folder, one JSON object a line with `file_name` and `text`, or else
from a `.txt` file beside each clip. Nothing is decoded here.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from lingen_kit.data.decode import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from lingen_kit.data.sampler import derive_seed

METADATA = "metadata.jsonl"

_NAMED_IN_ERROR = 10
_HOW_TO_CAPTION = (
    f"write a caption into a .txt file beside each clip, or one line per clip into {METADATA}:"
    ' {"file_name": "clip.mp4", "text": "what the clip shows"}'
)


@dataclass(frozen=True)
class Clip:
    """A file and what it shows; `name` is the path within the folder."""

    path: Path
    name: str
    caption: str


@dataclass
class FolderIndex:
    """What a folder holds.

    Attributes:
        clips: Files with a caption, in order of their names.
        unusable: (path, reason) of files that lack a caption.
        ignored: (path, reason) of files that are not part of the data set, such as pictures beside the clips.
    """

    clips: list[Clip] = field(default_factory=list)
    unusable: list[tuple[str, str]] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)


def index_folder(root: str | Path, images: bool) -> FolderIndex:
    """List the clips below a folder, at any depth; hidden files and folders are left out.

    Args:
        root: The folder.
        images: Whether images count as clips.

    Raises:
        ValueError: If there is no such folder, no clip in it, no caption, or something wrong in
        `metadata.jsonl`.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ValueError(f"the folder of clips {folder} {problem}; set data.root to a folder of video files")
    media = [path for path in sorted(folder.rglob("*")) if _is_media(path, folder)]
    metadata = folder / METADATA
    index = FolderIndex()
    if metadata.is_file():
        _index_metadata(index, metadata, media)
    else:
        _index_sidecars(index, folder, media)
    if not images:
        for clip in [clip for clip in index.clips if clip.path.suffix.lower() in IMAGE_SUFFIXES]:
            index.clips.remove(clip)
            index.ignored.append((str(clip.path), "an image, which is a clip only where data.frames is 1"))
    if not index.clips:
        raise ValueError(_nothing_usable(folder, index))
    return index


def split(clips: list[Clip], validation_share: float) -> tuple[list[Clip], list[Clip]]:
    """Divide clips into training and validation, by a hash of their names.

    A clip's side depends on its name alone, whatever else is in the folder, except that neither side stays
    empty: then the clip with the nearest hash changes sides. A single clip is on both.

    Args:
        clips: At least one.
        validation_share: About this share goes to validation.

    Returns:
        Training clips in their given order; validation clips in order of their hashes, which is as good as
        random.
    """
    names = sorted({clip.name for clip in clips}, key=_hash)
    if len(names) == 1:
        return clips, clips
    chosen = sum(_hash(name) < validation_share for name in names)
    validation = names[: min(max(chosen, 1), len(names) - 1)]
    training = [clip for clip in clips if clip.name not in set(validation)]
    return training, sorted((clip for clip in clips if clip.name in set(validation)), key=lambda clip: _hash(clip.name))


def _hash(name: str) -> float:
    return derive_seed("split", name) / 2**63


def _is_media(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES and path.is_file()


def _index_metadata(index: FolderIndex, metadata: Path, media: list[Path]) -> None:
    missing: list[str] = []
    listed: set[Path] = set()
    for number, line in enumerate(_read_text(metadata).splitlines(), start=1):
        if not line.strip():
            continue
        name, text = _parse_line(line, f"{metadata}, line {number}")
        path = metadata.parent / name
        listed.add(path)
        if not path.is_file():
            missing.append(f"  line {number}: {name}")
        elif not text.strip():
            index.unusable.append((str(path), f"its text in {METADATA}, line {number}, is empty"))
        else:
            index.clips.append(Clip(path, Path(name).as_posix(), text.strip()))
    if missing:
        more = [f"  and {len(missing) - _NAMED_IN_ERROR} more"] if len(missing) > _NAMED_IN_ERROR else []
        raise ValueError(
            f"{metadata} names {len(missing)} files that do not exist; `file_name` is a path within"
            f" {metadata.parent}; correct or remove these lines:\n" + "\n".join(missing[:_NAMED_IN_ERROR] + more)
        )
    index.ignored += [(str(path), f"not listed in {METADATA}") for path in media if path not in listed]
    index.clips.sort(key=lambda clip: clip.name)


def _parse_line(line: str, where: str) -> tuple[str, str]:
    """File name and text of a line of the metadata."""
    expected = 'expected {"file_name": "clip.mp4", "text": "what the clip shows"}'
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not valid JSON ({error.msg}, column {error.colno}); {expected}") from error
    for key in ("file_name", "text"):
        if not isinstance(entry, dict) or not isinstance(entry.get(key), str):
            raise ValueError(f"{where} has no string {key!r}: {line.strip()[:120]}; {expected}")
    return entry["file_name"], entry["text"]


def _index_sidecars(index: FolderIndex, folder: Path, media: list[Path]) -> None:
    for path in media:
        sidecar = path.with_suffix(".txt")
        if not sidecar.is_file():
            # Pictures are often thumbnails; without a caption nobody meant them as clips.
            image = path.suffix.lower() in IMAGE_SUFFIXES
            (index.ignored if image else index.unusable).append((str(path), f"no caption: there is no {sidecar.name}"))
        elif caption := " ".join(_read_text(sidecar).split()):
            index.clips.append(Clip(path, path.relative_to(folder).as_posix(), caption))
        else:
            index.unusable.append((str(path), f"no caption: {sidecar.name} is empty"))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _nothing_usable(folder: Path, index: FolderIndex) -> str:
    if index.unusable:
        path, reason = index.unusable[0]
        return (
            f"none of the {len(index.unusable)} clips in {folder} has a caption ({path}: {reason}); {_HOW_TO_CAPTION}"
        )
    if index.ignored:
        path, reason = index.ignored[0]
        return f"{folder} holds {len(index.ignored)} files, none of them a clip to use ({path}: {reason})"
    kinds = ", ".join(sorted(VIDEO_SUFFIXES))
    return f"{folder} holds no video; set data.root to a folder with files of these kinds: {kinds}"
