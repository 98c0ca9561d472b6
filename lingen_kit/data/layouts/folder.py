"""Which clips a folder holds, with their captions, and which of them are for validation.

Captions come from `metadata.jsonl` in the folder, one JSON object a line with `file_name` and `text`, or else
from a `.txt` file beside each clip. Nothing is decoded here.
"""

import json
import os
from pathlib import Path

from lingen_kit.data.clip import Clip, Index, first_of, printable
from lingen_kit.data.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES

METADATA = "metadata.jsonl"

_KINDS = ", ".join(sorted(VIDEO_SUFFIXES))
_HOW_TO_CAPTION = (
    f"write a caption into a .txt file beside each clip, or one line per clip into {METADATA}:"
    ' {"file_name": "clip.mp4", "text": "what the clip shows"}'
)


def index_folder(root: str | Path, images: bool) -> Index:
    """List the clips below a folder, at any depth; links are followed, hidden files and folders left out.

    Args:
        root: The folder.
        images: Whether images count as clips.

    Raises:
        ValueError: If there is no such folder, no clip in it, no caption, or something wrong in
        `metadata.jsonl`.
    """
    if not str(root):
        raise ValueError("the folder of clips is ''; set data.root to a folder of video files, or to . for this one")
    if printable(str(root)) != str(root):
        raise ValueError(f"the name of the folder of clips {printable(str(root))} is not UTF-8; rename it")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ValueError(f"the folder of clips {folder} {problem}; set data.root to a folder of video files")
    index = Index(str(folder))
    media, others = _list_files(index, folder)
    metadata = folder / METADATA
    if os.path.lexists(metadata):
        index.layout = f"captions in {METADATA}"
        _index_metadata(index, metadata, media)
    else:
        index.layout = "captions in .txt files beside the clips"
        _index_sidecars(index, folder, media)
        _note_lonely_captions(index, media, others)
    if not images:
        pictures = [str(clip.path) for clip in index.clips] + [path for path, _ in index.unusable]
        reason = "an image, which is a clip only where data.frames is 1"
        index.ignored += [(path, reason) for path in pictures if _is_image(path)]
        index.clips = [clip for clip in index.clips if clip.kind != "image"]
        index.unusable = [entry for entry in index.unusable if not _is_image(entry[0])]
    index.unusable = [(printable(path), printable(reason)) for path, reason in index.unusable]
    index.ignored = [(printable(path), printable(reason)) for path, reason in index.ignored]
    if not index.clips:
        raise ValueError(_nothing_usable(folder, index))
    return index


def _is_image(path: str | Path) -> bool:
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def _list_files(index: Index, folder: Path) -> tuple[list[Path], list[Path]]:
    """What is named like a clip below a folder, and all other files, in order; adds to `index.ignored`.

    Each folder is listed once, whatever links lead to it, and under its real place where that is in `folder`.
    """
    media: list[Path] = []
    others: list[Path] = []
    named_like_clips: list[Path] = []
    visited: set[str] = set()

    def cannot_list(error: OSError) -> None:
        index.ignored.append((str(error.filename), f"a folder that cannot be listed: {error.strerror}"))

    tops = [folder]
    for top in tops:  # linked folders join the end while this goes on
        for place, subfolders, names in os.walk(top, onerror=cannot_list):
            real = os.path.realpath(place)
            if real in visited:
                index.ignored.append((place, "a link leads to this folder, which is listed already"))
                subfolders.clear()
                continue
            visited.add(real)
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            paths = [Path(place, name) for name in subfolders]
            tops += sorted(path for path in paths if path.is_symlink())
            named_like_clips += [path for path in paths if _named_like_clip(path)]
            for path in (Path(place, name) for name in names if not name.startswith(".")):
                (media if _named_like_clip(path) else others).append(path)
    # A folder may be named after the video that its clips were cut from; then it is no failed clip.
    cut = {parent for path in media for parent in path.parents}
    media += [path for path in named_like_clips if path not in cut]
    index.ignored += [
        (str(path), reason) for path in sorted(others) if path.is_symlink() and (reason := _why_no_file(path))
    ]
    return sorted(media), sorted(others)


def _named_like_clip(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES


def _why_no_file(path: Path) -> str | None:
    if os.path.isfile(path):
        return None
    if os.path.isdir(path):
        return "it is a folder, not a file"
    if path.is_symlink() and not os.path.exists(path):
        return f"it is a link to {os.readlink(path)}, where nothing is"
    return "it is not a regular file"


def _flaw(path: Path) -> str | None:
    """What is wrong with a clip before anyone looks into it."""
    if printable(str(path)) != str(path):
        return "its name is not UTF-8; rename it"
    return _why_no_file(path)


def _index_metadata(index: Index, metadata: Path, media: list[Path]) -> None:
    missing: list[str] = []
    listed: set[Path] = set()
    for number, line in enumerate(_read_text(metadata).split("\n"), start=1):
        if not line.strip():
            continue
        name, text = _parse_line(line, f"{metadata}, line {number}")
        path = metadata.parent / name
        listed.add(path)
        if not os.path.lexists(path):
            missing.append(f"  line {number}: {printable(name)}")
        elif flaw := _flaw(path):
            index.unusable.append((str(path), flaw))
        elif printable(text) != text:
            half = f"its text in {METADATA}, line {number}, holds half of a character (a lone surrogate): {text[:120]}"
            index.unusable.append((str(path), half))
        elif not text.strip():
            index.unusable.append((str(path), f"its text in {METADATA}, line {number}, is empty"))
        else:
            index.clips.append(Clip(path, Path(name).as_posix(), text.strip()))
    if missing:
        raise ValueError(
            f"{metadata} names {len(missing)} files that do not exist; `file_name` is a path within"
            f" {metadata.parent}; correct or remove these lines:\n" + first_of(missing)
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


def _index_sidecars(index: Index, folder: Path, media: list[Path]) -> None:
    for path in media:
        sidecar = path.with_suffix(".txt")
        captioned = sidecar.is_file()
        if _is_image(path) and not captioned:
            # Pictures are often thumbnails; without a caption nobody meant them as clips.
            index.ignored.append((str(path), f"no caption: there is no {sidecar.name}"))
        elif flaw := _flaw(path):
            index.unusable.append((str(path), flaw))
        elif not captioned:
            index.unusable.append((str(path), f"no caption: there is no {sidecar.name}"))
        elif caption := " ".join(_read_text(sidecar).split()):
            index.clips.append(Clip(path, path.relative_to(folder).as_posix(), caption))
        else:
            index.unusable.append((str(path), f"no caption: {sidecar.name} is empty"))


def _note_lonely_captions(index: Index, media: list[Path], others: list[Path]) -> None:
    used = {path.with_suffix(".txt") for path in media}
    reason = f"a caption without a clip: beside it is no file of that name and one of the kinds {_KINDS}"
    index.ignored += [(str(path), reason) for path in others if path.suffix == ".txt" and path not in used]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _nothing_usable(folder: Path, index: Index) -> str:
    named = first_of(f"  {path}: {reason}" for path, reason in index.unusable or index.ignored)
    if index.unusable:
        return (
            f"none of the {len(index.unusable)} clips in {folder} can be used; a clip is a video file with a caption"
            f" ({_HOW_TO_CAPTION}):\n{named}"
        )
    if index.ignored:
        return (
            f"{folder} holds {len(index.ignored)} files, none of them a clip to use; set data.root to a folder with"
            f" files of these kinds: {_KINDS}; ignored are:\n{named}"
        )
    return f"{folder} holds no video; set data.root to a folder with files of these kinds: {_KINDS}"
