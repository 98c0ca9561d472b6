"""What pages of an evaluation are made of: links to videos, poster frames, numbers, histograms, leaderboards, trees.

Videos stay where they are: a page names them by the way from its own folder, so that page and videos can move together.
"""

import json
import math
import os
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lingen_kit.data.decode import stream
from lingen_kit.data.media import UnreadableVideo
from lingen_kit.page import data_uri, escape, jpeg

__all__ = [
    "as_json",
    "breakable",
    "figure_names",
    "histogram",
    "is_picture",
    "leaderboard",
    "link",
    "lower_is_better",
    "made_by",
    "number",
    "places",
    "plural",
    "poster",
    "sorter",
    "suite_name",
    "tree",
    "values_of",
]

_PICTURES = frozenset({".gif", ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif"})  # what `img` shows and `video` not
_LOWER = re.compile(r"(^|[_/])(drift|error|errors|distance|fvd|jedi|loss|artifacts)([_/]|$)")
_POSTER_SIDE = 240
_BINS = 24
_WIDTH, _HEIGHT = 240, 64


def link(file: Path, page: Path) -> str:
    """The address of a file as seen from a page: relative, or a file URI where no relative way leads to it.

    Args:
        file: What to link to.
        page: The page's file. Both are taken as they are named, links not followed, as a browser does.
    """
    try:
        way = os.path.relpath(os.path.abspath(file), os.path.abspath(page.parent))
    except ValueError:  # Windows: another drive
        return Path(os.path.abspath(file)).as_uri()
    return "/".join(part if part == ".." else quote(os.fsencode(part), safe="") for part in Path(way).parts)


def is_picture(name: str) -> bool:
    """Whether a browser shows the file as an image rather than plays it."""
    return Path(name).suffix.lower() in _PICTURES


def poster(file: Path, height: int, width: int) -> str:
    """The first frame as an address that holds a JPEG; a small video keeps its pixels.

    Args:
        file: A video or an image.
        height: Of the video, in pixels.
        width: Of the video, in pixels.

    Raises:
        UnreadableVideo: If the file is missing or no frame can be decoded.
    """
    frames = stream(file, shorter_side=min(_POSTER_SIDE, height, width))
    try:
        first = next(frames, None)
    finally:
        frames.close()  # type: ignore[attr-defined]  # a generator
    if first is None:
        raise UnreadableVideo(file, "it contains no frame")
    return data_uri(jpeg(first[1], 92 if min(height, width) < 100 else 78), "image/jpeg")


def as_json(data: Any) -> str:
    """Data for a `script` element: no `<` can end it."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def breakable(name: str) -> str:
    """A figure's name as HTML that may break after its underscores and slashes."""
    return re.sub(r"([_/+])", r"\1<wbr>", escape(name))


def plural(count: int, noun: str) -> str:
    """Such as `1 video` and `2 videos`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def places(values: Iterable[float]) -> int:
    """Decimals that show the greatest of some numbers to four digits."""
    greatest = max((abs(value) for value in values), default=0.0)
    return min(6, max(0, 4 - math.ceil(math.log10(greatest)))) if greatest > 0 else 2


def number(value: float | None, decimals: int, sign: bool = False) -> str:
    """A number as HTML, a dash if there is none."""
    if value is None:
        return "&ndash;"
    return f"{value:{'+' if sign else ''},.{decimals}f}"


def suite_name(content: Mapping[str, Any]) -> str:
    """The suite that made some scores."""
    return str(content["suite"]["suite"])


def figure_names(content: Mapping[str, Any]) -> list[str]:
    """All figures of some scores, those of the table first and in its order."""
    names = dict.fromkeys(content["figures"])
    for video in content["videos"]:
        names |= dict.fromkeys(video["scores"])
    return list(names)


def values_of(content: Mapping[str, Any], figure: str) -> list[tuple[float, Mapping[str, Any]]]:
    """Values of a figure with their videos, in the order of the videos; those without one are left out."""
    found = ((video["scores"].get(figure, {}).get("value"), video) for video in content["videos"])
    return [(value, video) for value, video in found if value is not None]


def lower_is_better(figure: str, content: Mapping[str, Any]) -> bool:
    """Whether less of a figure is better.

    What made the figure may say so (`better: lower` in `made_by`); else a name that has drift, error, distance, fvd,
    jedi, loss or artifacts as one of its words does.
    """
    said = made_by(content).get(figure, {}).get("better")
    if said not in (None, "lower", "higher"):
        raise ValueError(f"{figure} says better={said!r}; it is 'lower' or 'higher'")
    return said == "lower" if said else bool(_LOWER.search(figure.lower()))


def made_by(content: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What each figure rests on."""
    metrics: Mapping[str, Mapping[str, Any]] = content["suite"].get("metrics", {})
    return {name: rests for names, rests in metrics.items() for name in names.split("+")}


def tree(data: Any) -> str:
    """Plain data as HTML: mappings and lists become lists within lists."""
    if isinstance(data, Mapping):
        if not data:
            return '<span class="muted">nothing</span>'
        rows = "".join(f"<li><span>{breakable(str(name))}</span> {tree(value)}</li>" for name, value in data.items())
        return f'<ul class="tree">{rows}</ul>'
    if isinstance(data, Sequence) and not isinstance(data, str):
        if all(not isinstance(value, Mapping | list | tuple) for value in data):
            return f"<b>{escape(', '.join(map(str, data)))}</b>"
        return f'<ul class="tree">{"".join(f"<li>{tree(value)}</li>" for value in data)}</ul>'
    return f"<b>{escape(data)}</b>"


def histogram(figure: str, values: Sequence[float]) -> str:
    """How often a figure takes which value, as an SVG in the page's colors; a tick marks the mean.

    Args:
        figure: Its name.
        values: At least one.
    """
    low, high, mean = min(values), max(values), statistics.fmean(values)
    decimals = places(values)
    counts = [0] * _BINS
    for value in values:
        share = (value - low) / (high - low) if high > low else 0.5
        counts[min(_BINS - 1, int(share * _BINS))] += 1
    step, most = _WIDTH / _BINS, max(counts)
    bars = "".join(
        f'<rect x="{place * step + 0.5:.1f}" y="{_HEIGHT - tall:.1f}" width="{step - 1:.1f}" height="{tall:.1f}"/>'
        for place, count in enumerate(counts)
        if (tall := max(1.5, count / most * (_HEIGHT - 6)) if count else 0)
    )
    at = _WIDTH * ((mean - low) / (high - low) if high > low else 0.5)
    return (
        f'<div class="histogram"><svg viewBox="0 0 {_WIDTH} {_HEIGHT + 6}" role="img" aria-label="{escape(figure)}:'
        f" {plural(len(values), 'value')} from {number(low, decimals)} to {number(high, decimals)}, mean"
        f' {number(mean, decimals)}">{bars}<line x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>'
        f'<path d="M{at:.1f} {_HEIGHT + 0.5} l3 5 h-6 z"/></svg><div class="ends"><span>{number(low, decimals)}</span>'
        f"<span>mean {number(mean, decimals)}</span><span>{number(high, decimals)}</span></div></div>"
    )


def leaderboard(board: Sequence[Mapping[str, Any]] | None) -> str:
    """A leaderboard with our row in it, as HTML; nothing without rows.

    Args:
        board: Rows with `name`, `figures` (a mapping from name to value or None) and `ours`.

    Raises:
        ValueError: If a row lacks one of them.
    """
    if not board:
        return ""
    for row in board:
        if not isinstance(row.get("figures"), Mapping) or not {"name", "ours"} <= set(row):
            raise ValueError(f"a row of the board has name, figures (name to value) and ours, got {dict(row)}")
    names = list(dict.fromkeys(name for row in board for name in row["figures"]))
    columns = {name: [v for row in board if (v := row["figures"].get(name)) is not None] for name in names}
    head = "".join(sorter(breakable(name), place, "number") for place, name in enumerate(names))
    rows = []
    for row in board:
        cells = []
        for name in names:
            value, others = row["figures"].get(name), columns[name]
            best = value is not None and value == (min if lower_is_better(name, {"suite": {}}) else max)(others)
            shown = number(value, 2 if max(map(abs, others), default=0) > 1.5 else 4)
            raw = "" if value is None else f' data-value="{value}"'
            cells.append(f'<td class="number{" best" if best and len(others) > 1 else ""}"{raw}>{shown}</td>')
        mark = ' class="ours"' if row["ours"] else ""
        rows.append(f'<tr{mark}><th scope="row">{escape(row["name"])}</th>{"".join(cells)}</tr>')
    return (
        '<h2>Leaderboard</h2><div class="table"><table id="board"><thead><tr><th scope="col">model</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        '<p class="muted">Best value of a column in green; the marked row is this evaluation.</p>'
    )


def sorter(title: str, column: int, kind: str) -> str:
    """The head of a column that sorts; `title` is HTML, `column` is what the script knows it by."""
    return (
        f'<th scope="col" data-column="{column}"{f" class={kind}" if kind else ""}>'
        f'<button type="button" class="sorter">{title}</button></th>'
    )
