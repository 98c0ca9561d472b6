"""Lists of prompts: text files with one a line, and tables."""

import csv
import json
from pathlib import Path

__all__ = ["read_prompts"]

COLUMNS = ("prompt", "text", "caption", "prompt_en")
"""Names of the column that holds the prompts of a table, the first that is there."""


def read_prompts(path: Path) -> list[str]:
    """Read a list of prompts, in order.

    Args:
        path: `.txt` with one prompt a line (as Movie Gen Bench's), `.csv` or `.jsonl` with a column `prompt`, `text` or
            `caption`, or `.json` with a list of texts or of objects with such a key. Blank lines are passed over.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is of another kind, holds no prompt, or a line is none; the message names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"prompts {path} {'is a folder' if path.is_dir() else 'does not exist'}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"prompts {path} is not UTF-8 text: {error}") from error
    readers = {".txt": _lines, ".csv": _table, ".jsonl": _json_lines, ".json": _json}
    if path.suffix.lower() not in readers:
        raise ValueError(f"prompts {path} is no list of prompts: choose out of {', '.join(readers)}")
    found = readers[path.suffix.lower()](path, text)
    prompts = []
    for where, prompt in found:
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(f"prompts {path}, {where}: {prompt!r} is no prompt")
        if not prompt.strip().isprintable():
            raise ValueError(f"prompts {path}, {where}: {prompt!r} holds characters that are no text")
        prompts.append(prompt.strip())
    if not prompts:
        raise ValueError(f"prompts {path} holds no prompt; write one a line")
    return prompts


Found = list[tuple[str, object]]


def _lines(path: Path, text: str) -> Found:
    return [(f"line {number}", line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _table(path: Path, text: str) -> Found:
    reader = csv.DictReader(text.splitlines())
    column = _column(path, list(reader.fieldnames or ()))
    return [(f"line {reader.line_num}", row[column]) for row in reader]


def _json_lines(path: Path, text: str) -> Found:
    found: Found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            found.append((f"line {number}", _of_object(path, f"line {number}", _parsed(path, f"line {number}", line))))
    return found


def _json(path: Path, text: str) -> Found:
    entries = _parsed(path, "the file", text)
    if not isinstance(entries, list):
        raise ValueError(f"prompts {path} is no list: write a JSON list of texts, or of objects with a key prompt")
    return [(f"entry {number}", _of_object(path, f"entry {number}", entry)) for number, entry in enumerate(entries, 1)]


def _parsed(path: Path, where: str, text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"prompts {path}, {where} is no JSON: {error}") from error


def _of_object(path: Path, where: str, entry: object) -> object:
    if not isinstance(entry, dict):
        return entry
    return entry[_column(f"{path}, {where}", list(entry))]


def _column(path: object, columns: list[str]) -> str:
    for name in COLUMNS:
        if name in columns:
            return name
    found = ", ".join(columns) or "none"
    raise ValueError(f"prompts {path} has no column {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}; its columns: {found}")
