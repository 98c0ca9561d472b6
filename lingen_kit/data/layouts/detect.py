"""Which layout a data set has, and what it holds: the one door to all of them.

A root is a folder, a table of clips (`.jsonl`, `.csv`, `.parquet`), or WebDataset shards. Nothing is decoded here, and
nothing printed: the index says what was found and what is wrong.
"""

import gc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from lingen_kit.data.clip import Index, first_of, is_unicode, printable
from lingen_kit.data.layouts.caption_table import CaptionTable
from lingen_kit.data.layouts.class_folders import ClassFolders
from lingen_kit.data.layouts.collect import NO_CAPTION, Collector
from lingen_kit.data.layouts.listing import Listing, list_files
from lingen_kit.data.layouts.manifest import Table
from lingen_kit.data.layouts.metadata import NAMES, MetadataFiles
from lingen_kit.data.layouts.shard_lists import names_shards, read_shards
from lingen_kit.data.layouts.shards import Shards
from lingen_kit.data.layouts.sidecars import Sidecars
from lingen_kit.data.layouts.splits import note_split_folders
from lingen_kit.data.layouts.tables import SUFFIXES
from lingen_kit.data.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Kind, kind_of
from lingen_kit.data.remote import shown


class Layout(Protocol):
    """A way to lay out a folder of clips."""

    why: str
    """Why it goes before those that come after it in `FOLDER_LAYOUTS`."""

    def evidence(self, listing: Listing, clips: Collector) -> str | None:
        """What in the folder speaks for this layout, in words; None if nothing does."""

    def read(self, listing: Listing, clips: Collector) -> str:
        """Add the clips and what is wrong with others; returns the layout in words."""


FOLDER_LAYOUTS: tuple[Layout, ...] = (MetadataFiles(), CaptionTable(), Shards(), Sidecars())
"""The layouts of a folder with captions; the first that there is evidence for is its layout."""


def read_index(root: str | Path | Sequence[str | Path], kinds: Sequence[Kind] = ("video",)) -> Index:
    """List the clips of a data set, at any depth, in whichever layout it has.

    Args:
        root: A folder, a table of clips, a shard, or shards as a pattern, a list or URLs.
        kinds: Which clips count: videos, images or both.

    Returns:
        The clips with their captions, and what cannot be used or is ignored, each with its reason.

    Raises:
        ValueError: If there is nothing at `root`, or not one clip in it that can be used.
        OSError: If a table cannot be opened, or the disk for what URLs give is full.
        MissingPackage: If reading it needs a package that is not installed.
    """
    index, listing = _list(root, kinds)
    if not index.clips:
        raise ValueError(_nothing_usable(index, listing, kinds))
    return index


def list_clips(root: str | Path | Sequence[str | Path], kinds: Sequence[Kind] = ("video",)) -> Index:
    """What `read_index` returns, of a data set without one usable clip too.

    Args:
        root: As of `read_index`.
        kinds: As of `read_index`.

    Raises:
        ValueError: If there is nothing at `root`.
        OSError: As of `read_index`.
        MissingPackage: As of `read_index`.
    """
    return _list(root, kinds)[0]


def _list(root: str | Path | Sequence[str | Path], kinds: Sequence[Kind]) -> tuple[Index, Listing | None]:
    """The index of a data set, and of a folder all its files."""
    if not kinds or set(kinds) - {"video", "image"}:
        raise ValueError(f"kinds are {tuple(kinds)!r}; choose video, image or both")
    roots = [str(each) for each in ([root] if isinstance(root, str | Path) else root)]
    for each in roots or [""]:
        if not each:
            raise ValueError("data.root is ''; set data.root to a folder of clips, or to . for this one")
        if not is_unicode(each):
            raise ValueError(f"data.root {printable(each)} is not UTF-8; rename it")
    folder = Path(roots[0]).expanduser()
    name = shown(roots[0]) if len(roots) == 1 else f"{shown(roots[0])} and {len(roots) - 1} more"
    clips = Collector(str(folder) if folder.exists() and len(roots) == 1 else name, tuple(dict.fromkeys(kinds)))
    # Nothing here makes cycles, and Python's search for them would go through millions of clips again and again.
    searching = gc.isenabled()
    gc.disable()
    try:
        listing = list_files(str(folder)) if len(roots) == 1 and folder.is_dir() else None
        if listing and _is_cache(listing):
            raise ValueError(
                f"{folder} is a cache that data precompute wrote, not a folder of clips; train on it with --data"
                " lingen_kit.data.CachedLatents"
            )
        index = clips.finish(_read_folder(clips, listing) if listing else _read_other(clips, roots, folder))
    finally:
        if searching:
            gc.enable()
    return index, listing


def _read_other(clips: Collector, roots: list[str], root: Path) -> str:
    """Add the clips of shards or of a table; returns the layout in words."""
    if len(roots) > 1 or names_shards(roots[0]):
        return read_shards(clips, roots)
    if root.suffix.lower() in SUFFIXES and root.exists():
        Table(root, str(root.parent), outside=True).read_into(clips)
        return f"the clips that {root.name} lists"
    raise ValueError(_no_root(root))


def _read_folder(clips: Collector, listing: Listing) -> str:
    """Add what a folder holds; returns its layout in words, with those that there is also evidence for."""
    clips.index.ignored += listing.ignored
    found = [(layout, said) for layout in FOLDER_LAYOUTS if (said := layout.evidence(listing, clips))]
    if found:
        layout = found[0][0]
    else:  # nothing says what the clips show, unless their folders do
        layout = ClassFolders() if ClassFolders().evidence(listing, clips) else Sidecars()
    words = layout.read(listing, clips)
    words += note_split_folders(clips.index)
    if len(found) > 1:
        words += f" (not read: {'; '.join(said for _, said in found[1:])}, as {layout.why})"
    return words


def _no_root(root: Path) -> str:
    problem = f"ends in {root.suffix!r}" if root.exists() else "does not exist"
    return (
        f"data.root: {root} {problem}; set data.root to a folder of clips, to a table of clips"
        f" ({', '.join(SUFFIXES)}), or to shards (.tar)"
    )


def _is_cache(listing: Listing) -> bool:
    """Whether a folder holds what `data precompute` writes, see `latent_store`."""
    return "about.json" in listing.files and any(
        name.startswith("parts/") and name.endswith(".safetensors") for name in listing.files
    )


def _nothing_usable(index: Index, listing: Listing | None, kinds: Sequence[Kind]) -> str:
    names = listing.files if listing else {}
    tables = [name for name in names if name.endswith(SUFFIXES) and name.rpartition("/")[2] not in NAMES]
    hint = f"; to use the table {tables[0]} in it, set data.root to that file" if tables else ""
    named = first_of(f"  {path}: {reason}" for path, reason in index.unusable or index.ignored)
    if index.unusable:
        count = len(index.unusable)
        none = "the one clip" if count == 1 else f"none of the {count:,} clips"
        start = f"{none} in {index.root} can{'not' * (count == 1)} be used"
        if not any(reason.startswith(f"{NO_CAPTION}: there is no") for _, reason in index.unusable):
            return f"{start}:\n{named}"
        return (
            f"{start}; write a caption into a .txt file beside each clip, or one line per clip into metadata.jsonl:"
            f' {{"file_name": "clip.mp4", "text": "what the clip shows"}}{hint}:\n{named}'
        )
    others = Counter(kind for path, _ in index.ignored if (kind := kind_of(path)) is not None and kind not in kinds)
    for other, count in others.items():
        module = {"video": "VideoFolder", "image": "ImageFolder"}[other]
        return (
            f"{index.root} holds no {kinds[0]}, and {count:,} {other}{'s' * (count != 1)}; read {other}s with"
            f" --data lingen_kit.data.{module}, or in the verbs of data with --kinds {other}{hint}:\n{named}"
        )
    video, image = (", ".join(sorted(suffixes)) for suffixes in (VIDEO_SUFFIXES, IMAGE_SUFFIXES))
    fix = f"set data.root to a folder with files of these kinds: {video}; or, where images are clips: {image}{hint}"
    if index.ignored:
        return f"{index.root} holds no clip to use; {fix}; what it holds is ignored:\n{named}"
    return f"{index.root} holds no clip; {fix}"
