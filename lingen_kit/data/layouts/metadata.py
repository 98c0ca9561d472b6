"""Hugging Face's `VideoFolder` and `ImageFolder` with captions: a metadata file in the folder, or in its subfolders.

https://huggingface.co/docs/datasets/video_dataset: `metadata.jsonl`, `.csv` or `.parquet` names files of its own folder
and of those below.
"""

from pathlib import Path

from lingen_kit.data.layouts.collect import Collector
from lingen_kit.data.layouts.listing import Listing
from lingen_kit.data.layouts.manifest import Table
from lingen_kit.data.layouts.tables import SUFFIXES

NAMES = tuple(f"metadata{suffix}" for suffix in SUFFIXES)


class MetadataFiles:
    """Folders with a metadata file."""

    why = "a metadata file is meant for the whole folder"

    def evidence(self, listing: Listing, clips: Collector) -> str | None:
        """Its metadata files, in words."""
        found = [name for name in listing.files if name.rpartition("/")[2] in NAMES]
        return (found[0] if len(found) == 1 else f"{len(found)} files such as {found[0]}") if found else None

    def read(self, listing: Listing, clips: Collector) -> str:
        """Add the clips that the metadata files name; of several in one folder the first kind of `NAMES` counts."""
        tables: dict[str, Table] = {}
        for kind in NAMES:
            for name in listing.files:
                place, slash, last = name.rpartition("/")
                if last != kind:
                    continue
                if place + slash in tables:
                    clips.ignore(listing.path(name), f"beside it is {tables[place + slash].path.name}, which counts")
                else:
                    tables[place + slash] = Table(
                        Path(listing.path(name)), listing.folder, place + slash, listing.files
                    )
        for _, table in sorted(tables.items()):
            table.read_into(clips)
        named = {name for table in tables.values() for name in table.named}
        for name in listing.media():
            if name not in named:
                clips.ignore(listing.path(name), self._unlisted(name, tables))
        first = min(tables.items())[1].path
        shown = (
            first.relative_to(listing.folder).as_posix() if len(tables) == 1 else f"{len(tables)} files {first.name}"
        )
        columns = {column for table in tables.values() for column in table.captions} - {"text"}
        captions = f", captions from {' and '.join(sorted(columns))}" if columns else ""
        kinds = {clip.kind for clip in clips.index.clips}
        return f"{shown} of a Hugging Face {'ImageFolder' if kinds == {'image'} else 'VideoFolder'}{captions}"

    def _unlisted(self, name: str, tables: dict[str, Table]) -> str:
        """Why a file is in no metadata: the nearest above it does not name it, or there is none."""
        place = name.rpartition("/")[0]
        while place and place + "/" not in tables:
            place = place.rpartition("/")[0]
        table = tables.get(place + "/" if place else "")
        return f"not listed in {table.path.name}" if table else "no metadata file is in its folder or above"
