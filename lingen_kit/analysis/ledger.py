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


class Ledger:
    """Measurements in a file, kept across runs.

    Args:
        path: The CSV file; created with its folder when the first row comes. A last line without its end, which a
            killed run leaves, is cut off.
        key: Columns that tell measurements apart.
        values: The columns after them.

    Raises:
        ValueError: If the file holds other columns.
    """

    def __init__(self, path: Path, key: Sequence[str], values: Sequence[str]) -> None:
        """Read what is there."""
        self.path, self.key, self.columns = path, tuple(key), (*key, *values)
        self._rows: dict[tuple[str, ...], Row] = {}
        if not path.exists():
            return
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)
        reader = csv.DictReader(io.StringIO(content[:whole].decode("utf-8"), newline=""))
        if whole and tuple(reader.fieldnames or ()) != self.columns:
            raise ValueError(
                f"{path} holds other columns than this version writes; name another folder, or move the file away"
            )
        for row in reader:
            self._rows[self._key(row)] = row

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
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(text)
            file.flush()
            os.fsync(file.fileno())
        self._rows[self._key(text)] = text
        return text

    def _key(self, row: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(row[name] for name in self.key)
