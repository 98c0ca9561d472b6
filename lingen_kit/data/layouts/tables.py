"""Rows of a table that lists clips: a `.jsonl`, `.csv` or `.parquet` file, read row by row."""

import csv
import json
import math
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from lingen_kit.errors import MissingPackage

SUFFIXES = (".jsonl", ".csv", ".parquet")

NO_VALUE = frozenset(["nan", "none", "null", "<na>"])
"""What programs write, in any case, for a text that they do not have."""

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?")
_NO_NUMBERS = NO_VALUE | {"", "inf", "-inf"}
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}  # spreadsheets write the second where 1,5 is a number


def unit(table: Path) -> str:
    """What the rows of a table are called in messages."""
    return "row" if table.suffix.lower() == ".parquet" else "line"


def read_rows(table: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield (its number from 1, what it says by column) for each row of a table.

    A row that cannot be read is yielded as the reason instead. The cells of a CSV file are strings.

    Args:
        table: A file with one of `SUFFIXES`; of a CSV file the first line names the columns.

    Raises:
        ValueError: If the file is not UTF-8 text, no parquet file, or no table at all.
        OSError: If it cannot be opened.
        MissingPackage: If it is a parquet file and pyarrow is not installed.
    """
    match table.suffix.lower():
        case ".jsonl":
            yield from _read_jsonl(table)
        case ".csv":
            yield from _read_csv(table)
        case ".parquet":
            yield from _read_parquet(table)
        case suffix:
            raise ValueError(f"{table} ends in {suffix!r}; a table of clips is one of {', '.join(SUFFIXES)}")


def first_columns(table: Path) -> list[str]:
    """The columns that the first line of a CSV file names; none if it has no such line."""
    try:
        with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            header = file.readline(1 << 16)
            return next(csv.reader([header], delimiter=_separator(header)), [])
    except csv.Error:
        return []


def plain(value: Any, levels: int = 100) -> Any:
    """A value as plain JSON data; None for NaN, which says that it is not known, and for bytes.

    Args:
        value: What a table or a JSON file says.
        levels: How deep it may be nested.

    Raises:
        RecursionError: If it is nested deeper, and whoever writes it down again might fail.
    """
    if levels < 0:
        raise RecursionError("a value is nested too deeply")
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, dict):
        return {str(key): plain(inner, levels - 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, levels - 1) for inner in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return None
    if hasattr(value, "isoformat"):  # dates and times
        return value.isoformat()
    try:
        return plain(float(value))  # decimal fractions
    except (TypeError, ValueError):
        return str(value)


def number_or_text(cell: str) -> int | float | str | None:
    """What a cell of a CSV file says; None if it is empty or stands for no number.

    Digits with leading zeros are a text: they name something.
    """
    if _WHOLE.fullmatch(cell):
        return int(cell)
    if cell.strip().lower() in _NO_NUMBERS:
        return None
    if _DECIMAL.fullmatch(cell):
        try:
            return plain(float(cell))
        except ValueError:  # such as "-" or "."
            return cell
    return cell


def _lines(table: Path) -> Iterator[str]:
    """The lines of a text file, which end at line feeds alone; a byte order mark is left out."""
    start = 0
    with table.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{table} is not UTF-8 text: byte {start + error.start}, in line {number}; save it as UTF-8"
                ) from error
            start += len(line)


def _read_jsonl(table: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    expected = 'expected {"file_name": "clip.mp4", "text": "what the clip shows"}'
    for number, line in enumerate(_lines(table), start=1):
        if line.isspace():
            continue
        try:
            row = json.loads(line.rstrip("\r\n"))
        except json.JSONDecodeError as error:
            yield number, f"it is not valid JSON ({error.msg}, column {error.colno}); {expected}"
        except (RecursionError, ValueError):  # a number of thousands of digits is a ValueError
            yield number, f"it is no JSON that can be read; {expected}"
        else:
            yield number, row if isinstance(row, dict) else f"it is not a JSON object: {line.strip()[:120]}; {expected}"


def _read_csv(table: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    lines = _lines(table)
    first = next(lines, "")
    separator = _separator(first)
    reader = csv.reader(chain([first], lines), delimiter=separator)
    try:
        header = [sys.intern(name.strip()) for name in next(reader, [])]
    except csv.Error as error:
        raise ValueError(f"{table}, line 1 names no columns ({error})") from error
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # the reader goes on with the next line
            yield number, f"it cannot be read ({error}; is a quotation mark never closed?)"
            continue
        if len(cells) == len(header):
            yield number, dict(zip(header, cells, strict=True))
        elif cells:
            yield (
                number,
                f"it has {len(cells)} cells, for {len(header)} columns; a text with a {_SEPARATORS[separator]} stands"
                " in quotation marks",
            )


def _separator(header: str) -> str:
    """What separates the cells of a CSV file, from its first line."""
    return max(_SEPARATORS, key=header.count)


def _read_parquet(table: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingPackage(f'{table} needs pyarrow: pip install "lingen_kit[parquet]"') from error
    number = 0
    try:
        with parquet.ParquetFile(table) as file:
            columns = [
                field.name
                for field in file.schema_arrow
                if not pyarrow.types.is_nested(field.type) or _small(field.type)
            ]
            for batch in file.iter_batches(batch_size=4096, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pyarrow.ArrowException as error:
        raise ValueError(f"{table} is no parquet file that can be read, row {number + 1}: {error}") from error


def _small(kind: Any) -> bool:
    """Whether a nested column holds no bytes: those of embedded pictures would fill the memory."""
    return "binary" not in str(kind)
