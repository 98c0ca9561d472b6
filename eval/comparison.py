"""Several evaluations side by side: a row a prompt, a column a model, as LinGen's supplement shows its comparisons.

On top stand the figures with differences to the first run, their uncertainty, and what was not measured alike.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.comparison_assets import SCRIPT, STYLE
from eval.paired import DRAWS, FEW, Difference, Key, by_prompt, key_of, mean_difference, other_networks, unlike
from eval.report_parts import (
    as_json,
    breakable,
    figure_names,
    is_picture,
    link,
    lower_is_better,
    number,
    places,
    plural,
    poster,
    suite_name,
    values_of,
)
from lingen_kit.data.media import UnreadableVideo
from lingen_kit.page import escape, page, write

__all__ = ["write_comparison"]

Run = tuple[str, Mapping[str, Any], Path | None]
"""A name, the content of a `scores.json`, and the folder of its videos."""

_POSTERS = 150  # cells with a poster frame; the browser shows the first frame of the others when they come into view
_LISTED = 12


def write_comparison(runs: Sequence[Run], out: Path) -> Path:
    """Write the page that shows runs beside each other.

    Args:
        runs: At least two; differences are to the first. Without a folder a run has figures but no players.
        out: The HTML file.

    Returns:
        The page.

    Raises:
        ValueError: If there are fewer than two runs, two of one name, none in common, or a folder is none.
    """
    labels = [label for label, _, _ in runs]
    if len(runs) < 2:
        raise ValueError(f"a comparison needs two runs or more, got {len(runs)}; `evaluate` writes the page of one")
    if len(set(labels)) != len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ValueError(f"two runs are called {twice!r}; give each a name of its own")
    for label, _, folder in runs:
        if folder is not None and not folder.is_dir():
            raise ValueError(f"{folder}, the videos of {label}, is no folder; name theirs, or None for no players")
    rows = _rows(runs)
    others = {name for _, content, _ in runs[1:] for name in figure_names(content)}
    common = [name for name in figure_names(runs[0][1]) if name in others]
    body = [
        f"<style>{STYLE}:root {{ --models: {len(runs)}; }}</style>",
        _lead(runs, rows),
        _warning(runs),
        _table(runs, common),
        _missing(runs, rows),
        _side_by_side(labels, common),
        f'<script type="application/json" id="data">{_data(runs, rows, common, out)}</script>',
        f"<script>{SCRIPT}</script>",
    ]
    write(out, page(" / ".join(labels), "\n".join(filter(None, body))))
    return out


@dataclass(frozen=True)
class _Row:
    key: Key
    sample: int  # which video of its prompt, from 1 on; 0 where no run has more than one
    cells: tuple[Mapping[str, Any] | None, ...]  # a video a run


def _grouped(content: Mapping[str, Any]) -> dict[Key, list[Mapping[str, Any]]]:
    """The videos of each prompt, in the order of their names."""
    groups: dict[Key, list[Mapping[str, Any]]] = {}
    for video in sorted(content["videos"], key=lambda video: video["name"]):
        groups.setdefault(key_of(video), []).append(video)
    return groups


def _rows(runs: Sequence[Run]) -> list[_Row]:
    groups = [_grouped(content) for _, content, _ in runs]
    keys = dict.fromkeys(key for group in groups for key in group)
    rows = []
    for key in keys:
        most = max(len(group.get(key, ())) for group in groups)
        for at in range(most):
            cells = tuple(group[key][at] if at < len(group.get(key, ())) else None for group in groups)
            rows.append(_Row(key, at + 1 if most > 1 else 0, cells))
    return rows


def _lead(runs: Sequence[Run], rows: Sequence[_Row]) -> str:
    keys = {row.key for row in rows}
    everywhere = set.intersection(*({row.key for row in rows if row.cells[at]} for at in range(len(runs))))
    noun = "prompt" if any(kind == "prompt" for kind, _ in keys) else "video"
    suites = ", ".join(dict.fromkeys(suite_name(content) for _, content, _ in runs))
    return (
        f'<p class="lead"><b>{len(runs)} runs</b> of <b>{plural(len(keys), noun)}</b>, {len(everywhere):,} of them in'
        f' every run. Suite: {escape(suites)}. <a href="#side">Side by side</a></p>'
    )


def _warning(runs: Sequence[Run]) -> str:
    """What keeps the runs from being the same measurement."""
    (first, content, _), *others = runs
    notes = []
    for label, other, _ in others:
        lines = unlike({"suite": suite_name(content)}, {"suite": suite_name(other)})
        options = [
            {name: v for name, v in c["suite"].items() if name not in ("suite", "metrics")} for c in (content, other)
        ]
        lines += unlike(*options)
        lines += [f"{name}: {line}" for name, unlike in other_networks(content, other).items() for line in unlike]
        lines += unlike(*({f"version of {n}": v for n, v in c.get("versions", {}).items()} for c in (content, other)))
        for one, two, side in ((first, content, other), (label, other, content)):
            only = [name for name in figure_names(two) if name not in figure_names(side)]
            lines += [f"only {one} has {', '.join(only)}"] if only else []
        if lines:
            shown = "".join(f"<li>{escape(line)}</li>" for line in lines[:_LISTED])
            rest = "".join(f"<li>{escape(line)}</li>" for line in lines[_LISTED:])
            more = f"<details><summary>{len(lines) - _LISTED} more</summary><ul>{rest}</ul></details>" if rest else ""
            notes.append(f"<p>{escape(first)} / {escape(label)}</p><ul>{shown}</ul>{more}")
    if not notes:
        return ""
    return (
        '<div class="warn" role="note"><b>Not measured alike.</b> Only figures that both have are compared, and what'
        f" is named here may be why they differ.{''.join(notes)}</div>"
    )


def _table(runs: Sequence[Run], common: Sequence[str]) -> str:
    """Figures by models, with differences to the first."""
    contents = [content for _, content, _ in runs]
    heads = "".join(
        f'<th scope="col" class="number{"" if at else " first"}">{escape(label)}</th>'
        for at, (label, _, _) in enumerate(runs)
    )
    rows = [_total(contents, name) for name in contents[0].get("totals", {})]
    rows += [_figure(contents, name) for name in common]
    if not rows:
        return '<p class="bad">The runs have no figure in common: there is nothing to compare.</p>'
    return (
        f'<h2>Figures</h2><div class="table"><table id="figures"><thead><tr><th scope="col">figure</th>{heads}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="muted">Below a value: the mean difference to {escape(runs[0][0])} over the prompts that both have,'
        " in the scale of single videos, and its 95% interval from drawing the prompts again"
        f" ({DRAWS:,} times). An interval that includes 0 is no sign of a difference; with fewer than"
        f" {FEW} prompts it is too narrow.</p>"
    )


def _figure(contents: Sequence[Mapping[str, Any]], name: str) -> str:
    lower = lower_is_better(name, contents[0])
    values = [content["figures"].get(name) for content in contents]
    found = [value for value in values if value is not None]
    best, shown = _best(found, lower), places(found)
    own = [by_prompt(content, name) for content in contents]
    digits = places(value for group in own for each in group.values() for value in each)
    cells = [f'<td class="number first">{_value(values[0], shown, best)}</td>']
    for at, content in enumerate(contents[1:], 1):
        if name not in figure_names(content):
            cells.append('<td class="number missing">&ndash;</td>')
            continue
        if own[0] and own[at]:
            gap = _gap(mean_difference(own[0], own[at]), digits, lower)
        else:  # a figure of a whole set, such as a distance of distributions
            gap = _plain_gap(values[0], values[at], shown) + '<div class="rest">of the sets, no interval</div>'
        other = name in other_networks(contents[0], content)
        mark = ' <span class="mark" title="made by something else, see above">!</span>' if other else ""
        cells.append(f'<td class="number">{_value(values[at], shown, best)}{mark}{gap}</td>')
    note = '<div class="rest">lower is better</div>' if lower else ""
    return f'<tr><th scope="row">{breakable(name)}{note}</th>{"".join(cells)}</tr>'


def _total(contents: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [content.get("totals", {}).get(name) for content in contents]
    found = [value for value in values if value is not None]
    cells = []
    for at, value in enumerate(values):
        gap = _plain_gap(values[0], value, places(found)) if at else ""
        reason = contents[at].get("refused", {}).get(name)
        refused = f'<div class="diff bad">not given</div><div class="rest">{escape(reason)}</div>' if reason else ""
        shown = refused or _value(value, places(found), _best(found, False)) + gap
        cells.append(f'<td class="number{"" if at else " first"}">{shown}</td>')
    return (
        f'<tr><th scope="row">{breakable(name)}<div class="rest">combined, no interval</div></th>{"".join(cells)}</tr>'
    )


def _best(values: Sequence[float], lower: bool) -> float | None:
    """The best of some values; None if they are all the same."""
    return (min if lower else max)(values) if len(set(values)) > 1 else None


def _value(value: float | None, digits: int, best: float | None) -> str:
    return f"<b{' class=best' if value is not None and value == best else ''}>{number(value, digits)}</b>"


def _plain_gap(first: float | None, value: float | None, digits: int) -> str:
    if first is None or value is None:
        return ""
    return f'<div class="diff">{number(value - first, digits, sign=True)}</div>'


def _gap(gap: Difference | None, digits: int, lower: bool) -> str:
    if gap is None:
        return '<div class="diff">no prompt in common</div>'
    mean = number(gap.mean, digits, sign=True)
    if gap.low is None or gap.high is None:
        return f'<div class="diff">{mean}</div><div class="rest">one prompt, no interval</div>'
    interval = f"[{number(gap.low, digits, sign=True)}, {number(gap.high, digits, sign=True)}]"
    zero = gap.low <= 0 <= gap.high
    kind = "" if zero else " bad" if (gap.mean > 0) == lower else " good"
    said = ", includes 0" if zero else ""
    return (
        f'<div class="diff{kind}">{mean}</div>'
        f'<div class="rest">{interval}{said}<br>{plural(gap.prompts, "prompt")}</div>'
    )


def _missing(runs: Sequence[Run], rows: Sequence[_Row]) -> str:
    """What each run lacks beside the others."""
    parts = []
    for at, (label, content, _) in enumerate(runs):
        there = {row.key for row in rows if row.cells[at]}
        lost = list(dict.fromkeys(row.key for row in rows if row.key not in there))
        fewer = sum(row.cells[at] is None and row.key in there for row in rows)
        out = content.get("excluded", ())
        said = [f"{plural(len(lost), 'prompt')} missing"] if lost else []
        said += [f"{plural(fewer, 'video')} fewer of prompts that it has"] if fewer else []
        said += [f"{plural(len(out), 'video')} left out"] if out else []
        if not said:
            continue
        lines = "".join(f"<li>{escape(text)}</li>" for _, text in lost)
        lines += "".join(f"<li>{escape(row['name'])}: {escape(row['reason'])}</li>" for row in out)
        summary = f"<b>{escape(label)}</b>: {', '.join(said)}"
        parts.append(
            f"<details><summary>{summary}</summary><ul>{lines}</ul></details>" if lines else f"<p>{summary}</p>"
        )
    return f"<h2>Missing</h2>{''.join(parts)}" if parts else ""


def _side_by_side(labels: Sequence[str], common: Sequence[str]) -> str:
    orders = "".join(f'<option value="{at}">most apart: {escape(name)}</option>' for at, name in enumerate(common))
    models = "".join(f'<div title="{escape(label)}">{escape(label)}</div>' for label in labels)
    return f"""<h2 id="side">Side by side</h2>
<div class="bar"><input type="search" id="search" placeholder="prompt" aria-label="search by prompt">
<select id="order" aria-label="order"><option value="">in the order of the prompts</option>{orders}</select>
<span class="grow"></span><div class="pager" id="pager"></div></div>
<div class="tools"><div class="bar"><button type="button" id="all" title="space">Play all</button>
<button type="button" id="back" title="one frame back (,)" aria-label="all one frame back">&lsaquo;</button>
<button type="button" id="on" title="one frame on (.)" aria-label="all one frame on">&rsaquo;</button>
<select id="rate" aria-label="speed"><option value="0.25">1/4 speed</option><option value="0.5">1/2 speed</option>
<option value="1" selected>speed 1</option><option value="2">speed 2</option></select></div>
<div class="cells models">{models}</div></div>
<div id="rows"></div>
<noscript><p>The players need the page's script.</p></noscript>"""


def _data(runs: Sequence[Run], rows: Sequence[_Row], common: Sequence[str], out: Path) -> str:
    """What the script needs."""
    first = runs[0][1]
    figures = []
    for name in common:
        values = [value for _, content, _ in runs for value, _ in values_of(content, name)]
        figures.append({"name": name, "decimals": places(values), "lower": lower_is_better(name, first)})
    left = _POSTERS
    entries = []
    for row in rows:
        cells: list[dict[str, Any] | None] = []
        for (_, _, folder), video in zip(runs, row.cells, strict=True):
            cells.append(None if video is None else _cell(video, folder, common, out, posters=left > 0))
            left -= video is not None
        entries.append({"prompt": row.key[1], "sample": row.sample, "cells": cells})
    return as_json({"figures": figures, "runs": [label for label, _, _ in runs], "rows": entries})


def _cell(
    video: Mapping[str, Any], folder: Path | None, common: Sequence[str], out: Path, *, posters: bool
) -> dict[str, Any]:
    scores = [video["scores"].get(name) for name in common]
    cell = {name: video[name] for name in ("name", "height", "width", "fps")}
    cell["values"] = [score and score["value"] for score in scores]
    cell["why"] = {str(at): score["why"] for at, score in enumerate(scores) if score and score["value"] is None}
    if folder is None or not (folder / video["name"]).is_file():
        why = "the page was made without its videos" if folder is None else "the file is not in the folder"
        return cell | {"src": None, "note": why}
    cell |= {"src": link(folder / video["name"], out), "picture": is_picture(video["name"])}
    if posters and not cell["picture"]:
        with suppress(UnreadableVideo):  # the player says that it cannot be played
            cell["poster"] = poster(folder / video["name"], video["height"], video["width"])
    return cell
