"""What a person decided on the review page: clips kept and dropped, and captions written by hand."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lingen_kit.data.clip import printable
from lingen_kit.data.layouts.collect import flaw_of_caption

FORMAT = "lingen_kit curation decisions 1"


@dataclass(frozen=True)
class Decision:
    """On one clip.

    Attributes:
        keep: What becomes of the clip; None leaves that to the filters.
        text: Its new caption; None for the old one.
    """

    keep: Literal["keep", "drop"] | None = None
    text: str | None = None


def read_decisions(paths: Sequence[Path]) -> dict[str, Decision]:
    """Decisions by the names of clips, out of the files that the review page saves; later files win.

    Raises:
        ValueError: If a file is none of those.
        FileNotFoundError: If it does not exist.
    """
    decisions: dict[str, Decision] = {}
    for path in paths:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no file that the review page saved: {error}") from error
        entries = content.get("decisions") if isinstance(content, dict) and content.get("format") == FORMAT else None
        if not isinstance(entries, dict):
            raise ValueError(f"{path} is no file that the review page saved; its format must be {FORMAT!r}")
        decisions |= {name: _decision(entry, f"{path}, {name}") for name, entry in entries.items()}
    return decisions


def _decision(entry: Any, where: str) -> Decision:
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected an object, not {entry!r}")
    keep, text = entry.get("decision"), entry.get("text")
    if keep not in ("keep", "drop", None):
        raise ValueError(f"{where}: the decision {keep!r} must be keep, drop or null")
    if text is not None and not (isinstance(text, str) and text.strip()):
        raise ValueError(f"{where}: the text {text!r} must be a caption or null")
    text = text.strip() if text else None
    if text is not None and (flaw := flaw_of_caption(text)):
        raise ValueError(printable(f"{where}: the text {flaw}; write the caption anew on the page, or mend the file"))
    return Decision(keep, text)
