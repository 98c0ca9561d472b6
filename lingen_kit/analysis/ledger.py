"""A CSV file of finished measurements: rows are only ever appended, so a killed run loses the one it was at.

A row has a key, the columns that say what was measured and on what, and values, what came out. Whoever finds the key
in the file need not measure again.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

Row = dict[str, str]
_ELSEWHERE = "mend it, move it away, or name another folder"


class Ledger:
    """Measurements in a file, kept across runs.

    Args:
        path: The CSV file; created with its folder when the first row comes. A last line without its end, which a
            killed run leaves, is not read, and cut off when the next row comes.
        key: Columns that tell measurements apart.
        values: The columns after them.

    Raises:
        ValueError: If the file holds anything but rows with these columns; the line is named.
    """

    def __init__(self, path: Path, key: Sequence[str], values: Sequence[str]) -> None:
        """Read what is there."""
        self.path, self.key, self.columns = path, tuple(key), (*key, *values)
        self._rows: dict[tuple[str, ...], Row] = {}
        self._whole = 0  # bytes of the file that are whole lines
        if not path.exists():
            return
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        try:
            reader = csv.DictReader(io.StringIO(content[:whole].decode("utf-8-sig"), newline=""))
            head, rows = tuple(reader.fieldnames or ()), list(reader)
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} is no table of measurements ({error}); {_ELSEWHERE}") from error
        header = ",".join(self.columns).encode()
        if head != self.columns and not header.startswith(content.rstrip(b"\n")):
            raise ValueError(f"{path} holds other columns than this version writes; {_ELSEWHERE}")
        for line, row in enumerate(rows, start=2):
            if None in row or None in row.values():  # too many cells, or too few
                raise ValueError(
                    f"{path} line {line} has not the {len(self.columns)} columns of its table; {_ELSEWHERE}"
                )
            self._rows[self._key(row)] = row
        self._whole = whole if head == self.columns else 0

    def find(self, identity: Mapping[str, object]) -> Row | None:
        """The row whose key columns are those of `identity`, if there is one."""
        return self._rows.get(self._key({name: str(identity[name]) for name in self.key}))

    def append(self, row: Mapping[str, object]) -> Row:
        """Write a row, so that it is on the disk when this returns.

        Raises:
            ValueError: If its columns are not those of the file, or a value spans lines.
        """
        text = {name: str(row[name]) for name in self.columns if name in row}
        if set(row) != set(self.columns) or any("\n" in value or "\r" in value for value in text.values()):
            raise ValueError(f"row {dict(row)} must hold one line for each of {', '.join(self.columns)}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size > self._whole:
            os.truncate(self.path, self._whole)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(text)
            file.flush()
            os.fsync(file.fileno())
            self._whole = file.tell()
        self._rows[self._key(text)] = text
        return text

    def _key(self, row: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(row[name] for name in self.key)
