"""Results of VBench's own scripts as ours, and ours in their form.

VBench writes `{"dimension": [figure, [{"video_path": ..., "video_results": ...}, ...]], ...}`, one file for one or many
dimensions (`..._eval_results.json`); VBench-2.0 writes the same with dimensions of its own. What was computed elsewhere
says so in its provenance, and nothing of it is checked.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.aggregation import QUALITY, SEMANTIC
from eval.suites.vbench import with_totals

__all__ = ["read_official", "to_official"]

_KNOWN = {*QUALITY, *SEMANTIC}


def read_official(paths: Sequence[Path]) -> dict[str, Any]:
    """Read result files of VBench or VBench-2.0 as the content of a `scores.json`.

    Args:
        paths: Files, or folders of them.

    Raises:
        FileNotFoundError: If one does not exist, or a folder holds none.
        ValueError: If one is no such file, or a dimension stands in two; the message names it.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    if not files:
        raise FileNotFoundError(f"{paths[0]} holds no result file (*_eval_results.json)")
    figures: dict[str, float] = {}
    videos: dict[str, dict[str, Any]] = {}
    for file in files:
        for dimension, (figure, entries) in _read(file).items():
            name = dimension if dimension in _KNOWN else f"vbench2/{dimension}"
            if name in figures:
                raise ValueError(f"{file}: {dimension} stands in another of the files, too; give one of them")
            figures[name] = figure
            for entry in entries:
                path, value = _of_video(file, dimension, entry)
                row = videos.setdefault(path, {"name": path, "prompt": _prompt(path), **_UNKNOWN, "scores": {}})
                row["scores"][name] = {"value": value, "weight": 1.0, "why": "", "details": {}}
    summary = with_totals(figures) if set(figures) & _KNOWN else None
    return {
        "format": 1,
        "suite": {"suite": "official results", "computed": "elsewhere", "files": [file.name for file in files]},
        "versions": {},
        "figures": figures,
        "totals": dict(summary.totals) if summary else {},
        "refused": dict(summary.refused) if summary else {},
        "excluded": [],
        "videos": [videos[name] for name in sorted(videos)],
    }


def to_official(content: Mapping[str, Any]) -> dict[str, Any]:
    """Our scores in VBench's form: the dimensions that bear its names, and no others.

    Args:
        content: Of a `scores.json`.

    Raises:
        ValueError: If none of the figures bears a name of VBench's.
    """
    found: dict[str, Any] = {}
    for name, value in content["figures"].items():
        if name not in _KNOWN or value is None:
            continue
        entries = [
            {"video_path": video["name"], "video_results": video["scores"][name]["value"]}
            for video in content["videos"]
            if video["scores"].get(name, {}).get("value") is not None
        ]
        found[name] = [value, entries]
    if not found:
        raise ValueError("none of the figures is VBench's: those of other extractors have no place in its files")
    return found


_UNKNOWN = {"frames": None, "fps": None, "height": None, "width": None}


def _read(file: Path) -> dict[str, tuple[float, list[Any]]]:
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{file} is no result file of VBench: it should hold dimensions by name")
    found = {}
    for dimension, value in content.items():
        pair = isinstance(value, list) and len(value) == 2 and isinstance(value[1], list)
        if not pair or isinstance(value[0], bool) or not isinstance(value[0], int | float) or value[0] != value[0]:
            raise ValueError(f"{file}: {dimension} should be [figure, list of videos], and is {str(value)[:60]!r}")
        found[dimension] = (float(value[0]), value[1])
    return found


def _of_video(file: Path, dimension: str, entry: Any) -> tuple[str, float]:
    try:
        path, value = str(entry["video_path"]), float(entry["video_results"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file}: {dimension} has a video without video_path and video_results: {str(entry)[:60]!r}"
        ) from error
    if value != value:
        raise ValueError(f"{file}: {dimension} of {path} is NaN: it was computed wrongly; leave it out or repeat it")
    return path, value


def _prompt(path: str) -> str:
    """The prompt that a file's name states, as VBench reads it."""
    stem, _, number = Path(path).stem.rpartition("-")
    return stem if number.isdecimal() and stem else Path(path).stem
