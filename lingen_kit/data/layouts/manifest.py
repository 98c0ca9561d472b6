"""Clips from the rows of a table: a file's name, its caption, a stretch of it, and whatever else the row says."""

import os
import posixpath
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from lingen_kit.data.clip import is_unicode, printable
from lingen_kit.data.layouts.collect import CAPTION_COLUMNS, NO_CAPTION, Collector, flaw_of_caption
from lingen_kit.data.layouts.listing import why_no_file
from lingen_kit.data.layouts.tables import number_or_text, plain, read_rows, unit
from lingen_kit.data.remote import is_url

FILE_COLUMNS = ("file_name", "path")
"""What the column with the files may be called; the first of these that is there counts."""

_STRETCH_COLUMNS = ("start", "end")  # seconds


@dataclass
class Table:
    """A table of clips, and where its files are.

    Attributes:
        path: The table.
        folder: Where the data set is; clips are named by their paths within it.
        place: Where the table lies in that folder, such as `train/`, or nothing: its files are named from there.
        files: What is known of the folder: each file, with why it is none, or None. The file system is asked about
            others.
        outside: Whether it may name files outside its folder.
        named: The files of the folder that it names, filled by `read_into`.
        captions: The columns that the captions came from, filled by `read_into`.
    """

    path: Path
    folder: str
    place: str = ""
    files: Mapping[str, str | None] = field(default_factory=dict)
    outside: bool = False
    named: set[str] = field(default_factory=set)
    captions: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._prefix = os.path.join(self.folder, "").removeprefix("./")
        self._within = os.path.join(os.path.abspath(self.folder), "")
        self._is_csv = self.path.suffix.lower() == ".csv"

    def read_into(self, clips: Collector) -> None:
        """Add the clips of the table.

        Raises:
            ValueError: If it has no column of files or of captions, or cannot be read at all.
        """
        columns: dict[str, None] = {}
        rows = 0
        for number, row in read_rows(self.path):
            rows += 1
            if isinstance(row, str):
                clips.refuse(f"{self.path}, {unit(self.path)} {number}", row)
                continue
            columns |= dict.fromkeys(row) if len(columns) < 100 and not row.keys() <= columns.keys() else {}
            try:
                self._add(clips, number, row)
            except RecursionError:
                clips.refuse(
                    f"{self.path}, {unit(self.path)} {number}", "a value in it is nested too deeply to be read"
                )
        for wanted in (FILE_COLUMNS, CAPTION_COLUMNS):
            if columns and columns.keys().isdisjoint(wanted):
                raise ValueError(
                    f"{self.path} has no column {' or '.join(wanted)}; its columns are: {printable(', '.join(columns))}"
                )
        if not rows:
            raise ValueError(f"{self.path} has no rows; a row names a file ({FILE_COLUMNS[0]}) and its caption (text)")

    def _add(self, clips: Collector, number: int, row: dict[str, Any]) -> None:
        file_column = next((column for column in FILE_COLUMNS if column in row), FILE_COLUMNS[0])
        given = row.get(file_column)
        if not isinstance(given, str) or not given:
            entry = f"{self.path}, {unit(self.path)} {number}"
            return clips.refuse(entry, f"it has no {file_column}: {str(row)[:120]}")
        name, path = self._locate(given)
        self.named.add(name)
        try:
            self._check_file(given, name, path)
            column, caption = _caption(row)
            start, end = _stretch(row)
        except _Unusable as reason:
            return clips.refuse(path, f"{reason} ({self.path.name}, {unit(self.path)} {number})")
        self.captions.add(column)
        used = (file_column, column, *_STRETCH_COLUMNS)
        value_of = number_or_text if self._is_csv else plain
        rest = {
            sys.intern(column): value
            for column, cell in row.items()
            if column not in used and (value := value_of(cell)) is not None
        }
        return clips.add(name, path, caption, start, end, rest)

    def _locate(self, given: str) -> tuple[str, str]:
        """The name of a file within the folder, and its path, from what a row says."""
        if "./" in given or "//" in given:
            if is_url(given):
                return given, given
            given = str(PurePosixPath(given))  # of one spelling; keeps `..`, which is no way back from a linked folder
        if given.startswith("/") and not given.startswith(self._within):
            return given, given
        name = given.removeprefix(self._within) if given.startswith("/") else self.place + given
        return posixpath.normpath(name) if "../" in name else name, self._prefix + name

    def _check_file(self, given: str, name: str, path: str) -> None:
        if is_url(given):
            raise _Unusable("it is a URL, and only shards are read from URLs; download it and give its path")
        if not self.outside and (given.startswith("/") or ".." in given.split("/")):
            raise _Unusable(f"it leads out of the folder; set data.root to {self.path} itself to allow that")
        if not is_unicode(given):
            raise _Unusable("its name is not UTF-8; rename it")
        if flaw := self.files[name] if name in self.files else why_no_file(path):
            raise _Unusable(flaw)


class _Unusable(ValueError):
    """What is wrong with a row."""


def _caption(row: dict[str, Any]) -> tuple[str, str]:
    """The column that holds the caption, and the caption."""
    for column in CAPTION_COLUMNS:
        caption = row.get(column)
        if caption is None:
            continue
        if not isinstance(caption, str):
            raise _Unusable(f"{NO_CAPTION}: its {column} is no text: {str(caption)[:120]}")
        if flaw := flaw_of_caption(caption := caption.strip()):
            raise _Unusable(f"{NO_CAPTION}: its {column} {flaw}")
        return column, caption
    empty = next((column for column in CAPTION_COLUMNS if column in row), None)
    raise _Unusable(NO_CAPTION if empty is None else f"{NO_CAPTION}: its {empty} is null")


def _stretch(row: dict[str, Any]) -> tuple[float, float | None]:
    """Start and end in seconds."""
    if row.keys().isdisjoint(_STRETCH_COLUMNS):
        return 0.0, None
    seconds: list[float | None] = []
    for column in _STRETCH_COLUMNS:
        cell = row.get(column)
        value = number_or_text(cell) if isinstance(cell, str) else plain(cell)
        if isinstance(value, bool | str | list | dict) or (value is not None and value < 0):
            raise _Unusable(f"its {column} is {repr(cell)[:40]}, which is no number of seconds")
        try:
            seconds.append(None if value is None else float(value))
        except OverflowError:
            raise _Unusable(f"its {column} is {repr(cell)[:40]}, which is no number of seconds") from None
    start, end = seconds[0] or 0.0, seconds[1]
    if end is not None and end <= start:
        raise _Unusable(f"its end, {end:g} s, is not after its start, {start:g} s")
    return start, end
