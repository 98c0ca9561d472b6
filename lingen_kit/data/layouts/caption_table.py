"""Open-Sora's layout: one CSV file of any name with the columns `path` and `text`.

https://github.com/hpcaitech/Open-Sora: further columns, such as `num_frames`, `fps` or `aes`, may be empty or NaN;
paths are absolute or start from the table's folder.
"""

from pathlib import Path

from lingen_kit.data.layouts.collect import CAPTION_COLUMNS, Collector
from lingen_kit.data.layouts.listing import Listing
from lingen_kit.data.layouts.manifest import FILE_COLUMNS, Table
from lingen_kit.data.layouts.metadata import NAMES
from lingen_kit.data.layouts.tables import first_columns


class CaptionTable:
    """A folder with one CSV file that names files and their captions."""

    why = "a table with a column of files and one of captions is meant for them"

    def evidence(self, listing: Listing, clips: Collector) -> str | None:
        """The tables at the top of the folder, in words."""
        found = self._tables(listing)
        return (found[0] if len(found) == 1 else f"{len(found)} tables such as {found[0]}") if found else None

    def read(self, listing: Listing, clips: Collector) -> str:
        """Add the clips that the table names.

        Raises:
            ValueError: If there are several tables.
        """
        name, *others = self._tables(listing)
        if others:
            raise ValueError(
                f"{listing.folder} holds {len(others) + 1} tables of clips; set data.root to one of them:"
                f" {', '.join(listing.path(each) for each in (name, *others[:9]))}"
            )
        table = Table(Path(listing.path(name)), listing.folder, files=listing.files, outside=True)
        table.read_into(clips)
        for each in listing.media():
            if each not in table.named:
                clips.ignore(listing.path(each), f"not listed in {name}")
        return f"{name}, a table as Open-Sora has it"

    def _tables(self, listing: Listing) -> list[str]:
        return [
            name
            for name, flaw in listing.files.items()
            if name.lower().endswith(".csv") and "/" not in name and name not in NAMES
            if not flaw and self._fits(listing.path(name))
        ]

    def _fits(self, path: str) -> bool:
        columns = {column.strip() for column in first_columns(Path(path))}
        return not columns.isdisjoint(FILE_COLUMNS) and not columns.isdisjoint(CAPTION_COLUMNS)
