"""What a person decided on the review page: clips kept and dropped, and captions written by hand.

All of it stays in the output folder, so that no later run forgets it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lingen_kit.data.clip import printable
from lingen_kit.data.layouts.collect import flaw_of_caption
from lingen_kit.page import write

FORMAT = "lingen_kit curation decisions 1"
KEPT = "decisions.json"
"""In the output folder, the decisions so far, as the review page saves them."""


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
        entries = _read(path)["decisions"]
        decisions |= {name: _decision(entry, f"{path}, {name}") for name, entry in entries.items()}
    return decisions


def gather_decisions(out: Path, data: str, given: Sequence[Path]) -> dict[str, Decision]:
    """What a person decided on a data set and did not take back: as earlier runs have kept it, then as `given` says.

    Args:
        out: The output folder.
        data: Path of the data set.
        given: Files that the review page saved; later files win.

    Raises:
        ValueError: If a file is none of those, or `out` keeps decisions on another data set.
        FileNotFoundError: If one does not exist.
    """
    kept = out / KEPT
    decisions = read_decisions([kept, *given] if kept.is_file() else given)
    before = _read(kept).get("data") if kept.is_file() else None
    if isinstance(before, str) and Path(before).resolve() != Path(data).resolve():
        raise ValueError(
            f"{kept} holds what a person decided on {before}, and the data is {data}: name another folder with --out."
            " If it is the same data in another place, move that file away and name it with --decisions"
        )
    return {name: each for name, each in decisions.items() if each.keep or each.text}


def keep_decisions(out: Path, data: str, decisions: Mapping[str, Decision]) -> None:
    """Keep decisions for later runs, as `gather_decisions` reads them."""
    entries = {name: as_entry(each) for name, each in decisions.items()}
    if entries or (out / KEPT).is_file():
        content = {"format": FORMAT, "data": str(Path(data).resolve()), "decisions": entries}
        write(out / KEPT, json.dumps(content, indent=1) + "\n")


def as_entry(decision: Decision) -> dict[str, str | None]:
    """A decision as it stands in a file."""
    return {"decision": decision.keep, "text": decision.text}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no file that the review page saved: {error}") from error
    known = isinstance(content, dict) and content.get("format") == FORMAT
    if not known or not isinstance(content.get("decisions"), dict):
        raise ValueError(f"{path} is no file that the review page saved; its format must be {FORMAT!r}")
    found: dict[str, Any] = content
    return found


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
