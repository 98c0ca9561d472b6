"""One evaluation as a page: the figures, how they spread, the best and the worst videos, and a table of all.

The page holds numbers and poster frames; it plays the videos from where they lie and asks for nothing else.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from eval.report_assets import REPORT_SCRIPT, REPORT_STYLE
from eval.report_parts import (
    as_json,
    breakable,
    figure_names,
    histogram,
    is_picture,
    leaderboard,
    link,
    lower_is_better,
    number,
    places,
    plural,
    poster,
    sorter,
    suite_name,
    tree,
    values_of,
)
from lingen_kit.data.media import UnreadableVideo
from lingen_kit.page import escape, page, write

__all__ = ["write_report"]

_LISTED = 20  # left-out videos that are listed open; the others are folded
_REASONS = 4
_TABLES = {"videos", "figures", "totals", "refused", "excluded"}  # of scores.json; the rest is provenance


def write_report(
    content: Mapping[str, Any],
    out: Path,
    videos: Path | None,
    board: Sequence[Mapping[str, Any]] | None = None,
    *,
    n_best: int = 3,
) -> Path:
    """Write the page of one evaluation.

    Args:
        content: Of a `scores.json`, as `eval.run.read_scores` returns it.
        out: The HTML file.
        videos: The folder that the names of the videos are relative to; None writes a page without players.
        board: Rows of a leaderboard: `name`, `figures` (a mapping from name to value or None) and `ours`.
        n_best: Players for the best and for the worst videos of each figure.

    Returns:
        The page.

    Raises:
        ValueError: If the content has no video, `videos` is no folder, or a row of the board is none.
    """
    if not content["videos"]:
        raise ValueError("the scores hold no video; there is nothing to report")
    if videos is not None and not videos.is_dir():
        raise ValueError(f"{videos} is no folder; give the one that was scored, or None for a page without players")
    if n_best < 0:
        raise ValueError(f"n_best is {n_best}; it is a number of players from 0 on")
    names = figure_names(content)
    scored = [name for name in names if any(name in video["scores"] for video in content["videos"])]
    players = _Players(content, out, videos)
    parts = [
        f"<style>{REPORT_STYLE}</style>",
        _lead(content),
        _tiles(content),
        _excluded(content),
        _overview(content, names),
        leaderboard(board),
        "".join(_figure(content, name, place, players, n_best) for place, name in enumerate(names)),
        _videos_table(content, scored),
        _provenance(content),
        '<dialog id="one"><button type="button" class="close" aria-label="close">&times;</button>'
        '<div id="detail"></div></dialog>',
        f'<script type="application/json" id="data">{_data(content, scored, players)}</script>',
        f"<script>{REPORT_SCRIPT}</script>",
    ]
    write(
        out, page(f"{suite_name(content)}: {plural(len(content['videos']), 'video')}", "\n".join(filter(None, parts)))
    )
    return out


class _Players:
    """Where each video lies as seen from the page, and its poster, decoded once."""

    def __init__(self, content: Mapping[str, Any], out: Path, folder: Path | None) -> None:
        self.places = {video["name"]: place for place, video in enumerate(content["videos"])}
        self._out, self._folder = out, folder
        self._posters: dict[str, tuple[str, str]] = {}  # address, or why there is none

    def source(self, name: str) -> tuple[str | None, str]:
        """Address of a video, or why there is none."""
        if self._folder is None:
            return None, "the page was made without the videos"
        file = self._folder / name
        return (link(file, self._out), "") if file.is_file() else (None, "the file is not in the folder")

    def figure(self, video: Mapping[str, Any], caption: str) -> str:
        """A player with a caption."""
        name = escape(video["name"])
        source, why = self.source(video["name"])
        if source is None:
            frame = f'<div class="nothing">{escape(why)}</div>'
        else:
            frame = f'<div class="frame">{self._frame(video, source)}</div>'
        return (
            f'<figure>{frame}<figcaption>{caption}<button type="button" class="plain" title="{name}"'
            f' data-video="{self.places[video["name"]]}">'
            f'<span class="two">{breakable(video["name"])}</span></button></figcaption></figure>'
        )

    def _frame(self, video: Mapping[str, Any], source: str) -> str:
        name = escape(video["name"])
        size = f'width="{video["width"]}" height="{video["height"]}"'
        pixels = ' class="pixels"' if min(video["width"], video["height"]) < 200 else ""
        if is_picture(video["name"]):
            return f'<img src="{escape(source)}" {size}{pixels} loading="lazy" alt="{name}">'
        address, why = self._poster(video)
        shown = f' poster="{address}"' if address else f' title="no frame to show: {escape(why)}"'
        return (
            f'<video src="{escape(source)}" {size}{pixels}{shown} preload="none" muted loop playsinline></video>'
            f'<button type="button" class="go" aria-pressed="false" aria-label="play {name}"></button>'
        )

    def _poster(self, video: Mapping[str, Any]) -> tuple[str, str]:
        name = video["name"]
        if name not in self._posters:
            assert self._folder is not None
            try:
                self._posters[name] = poster(self._folder / name, video["height"], video["width"]), ""
            except UnreadableVideo as error:
                self._posters[name] = "", str(error)
        return self._posters[name]


def _lead(content: Mapping[str, Any]) -> str:
    count, out = len(content["videos"]), len(content.get("excluded", ()))
    prompts = len({video["prompt"] for video in content["videos"] if video["prompt"]})
    parts = [f"<b>{plural(count, 'video')}</b>" + (f" of {plural(prompts, 'prompt')}" if prompts else "")]
    parts += [f"scored for <b>{plural(len(figure_names(content)), 'figure')}</b> of {escape(suite_name(content))}"]
    if out:
        parts += [f'<a href="#excluded">{plural(out, "video")} left out</a>']
    version = content.get("versions", {}).get("lingen_kit")
    made = f" by lingen_kit {escape(version)}" if version else ""
    return f'<p class="lead">{", ".join(parts)}{made}. <a href="#provenance">What made the scores</a></p>'


def _tiles(content: Mapping[str, Any]) -> str:
    """Combined scores, and those that are refused."""
    totals, refused = content.get("totals", {}), content.get("refused", {})
    tiles = [
        f'<div class="tile"><span>{breakable(name)}</span><b>{number(value, places([value]))}</b></div>'
        for name, value in totals.items()
    ]
    tiles += [
        f'<div class="tile refused"><span>{breakable(name)}</span><b class="bad">not given</b>'
        f"<p>{escape(reason)}</p></div>"
        for name, reason in refused.items()
    ]
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _excluded(content: Mapping[str, Any]) -> str:
    rows = content.get("excluded", ())
    if not rows:
        return ""
    lines = [f"<tr><td>{escape(row['name'])}</td><td>{escape(row['reason'])}</td></tr>" for row in rows]
    head = '<thead><tr><th scope="col">video</th><th scope="col">why</th></tr></thead>'
    table = f'<div class="table"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'
    if len(rows) > _LISTED:
        table = f"<details><summary>all {len(rows):,}</summary>{table}</details>"
    counts = Counter(row["reason"] for row in rows).most_common(_REASONS)
    common = "; ".join(f"{escape(reason)} ({count:,})" for reason, count in counts) if len(rows) > _LISTED else ""
    return f'<h2 id="excluded">Left out: {plural(len(rows), "video")}</h2>{f"<p>{common}</p>" if common else ""}{table}'


def _overview(content: Mapping[str, Any], names: Sequence[str]) -> str:
    """A row a figure."""
    heads = ["value", "videos", "without", "least", "median", "greatest"]
    head = "".join(f'<th scope="col" class="number">{each}</th>' for each in heads)
    rows = []
    for place, name in enumerate(names):
        values = [value for value, _ in values_of(content, name)]
        value = content["figures"].get(name)
        asked = sum(name in video["scores"] for video in content["videos"])
        spread = [min(values), median(values), max(values)] if values else [None] * 3
        own = [] if value is None else [value]
        cells = [
            f"<b>{number(value, places(own))}</b>",
            f"{len(values):,}",
            f"{asked - len(values):,}" if asked > len(values) else "",
            *(number(each, places(values)) for each in spread),
        ]
        note = '<div class="rest">lower is better</div>' if lower_is_better(name, content) else ""
        shown = f'<a href="#figure-{place}">{breakable(name)}</a>' if asked else breakable(name)
        note += '<div class="rest">no video was asked for it</div>' if not asked and value is None else ""
        line = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        rows.append(f'<tr><th scope="row">{shown}{note}</th>{line}</tr>')
    return (
        '<h2>Figures</h2><div class="table"><table><thead><tr><th scope="col">figure</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _figure(content: Mapping[str, Any], name: str, place: int, players: _Players, n_best: int) -> str:
    """How one figure spreads, and the videos at its ends."""
    scores = [video["scores"][name] for video in content["videos"] if name in video["scores"]]
    if not scores:
        return ""
    found = values_of(content, name)
    values = [value for value, _ in found]
    decimals, lower = places(values), lower_is_better(name, content)
    why = Counter(score["why"] for score in scores if score["value"] is None)
    said = "; ".join(f"{escape(reason)} ({count:,})" for reason, count in why.most_common(_REASONS))
    without = f'<p class="muted why">{plural(why.total(), "video")} without: {said}</p>' if why else ""
    parts = [f'<div class="spread">{histogram(name, values) if values else ""}{without}</div>']
    if len(values) > 1 and min(values) == max(values):
        parts.append(f'<p class="muted">All {len(values):,} have the same value.</p>')
    elif values and n_best:
        ranked = sorted(found, key=lambda pair: pair[0] if lower else -pair[0])
        best = ranked[: min(n_best, (len(ranked) + 1) // 2)]
        worst = ranked[::-1][: min(n_best, len(ranked) // 2)]
        for title, group in (("Best", best), ("Worst", worst)) if worst else (("The only one", best),):
            cards = "".join(players.figure(video, f"<b>{number(value, decimals)}</b> ") for value, video in group)
            parts.append(f'<div><h4>{title}</h4><div class="players" style="--n:{n_best}">{cards}</div></div>')
    value = content["figures"].get(name)
    shown = f"<b>{number(value, places([] if value is None else [value]))}</b>"
    note = '<span class="muted">lower is better</span>' if lower else ""
    header = f"<header><h3>{breakable(name)}</h3>{shown}{note}</header>"
    return f'<section class="one" id="figure-{place}">{header}{"".join(parts)}</section>'


def _videos_table(content: Mapping[str, Any], names: Sequence[str]) -> str:
    """The head of the table of all videos; its rows are made by the script, a page of them at a time."""
    heads = [sorter("video", -2, "")]
    if any(video["prompt"] for video in content["videos"]):
        heads.append(sorter("prompt", -1, ""))
    heads += [sorter(breakable(name), place, "number") for place, name in enumerate(names)]
    return (
        '<h2>All videos</h2><div class="bar"><input type="search" id="search" placeholder="name or prompt"'
        ' aria-label="search by name or prompt"><span class="grow"></span><div class="pager" id="pager"></div></div>'
        f'<div class="table"><table id="videos"><thead><tr>{"".join(heads)}</tr></thead><tbody></tbody></table></div>'
        "<noscript><p>The table needs its script; scores.csv holds the same numbers.</p></noscript>"
    )


def _provenance(content: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in content.items() if name not in _TABLES}
    return (
        '<h2 id="provenance">What made the scores</h2><details><summary>Suite, networks and their hashes, versions'
        f"</summary>{tree(rest)}</details>"
    )


def _data(content: Mapping[str, Any], names: Sequence[str], players: _Players) -> str:
    """What the script needs: all videos with all values."""
    figures = []
    for name in names:
        values = [value for value, _ in values_of(content, name)]
        ends = {"low": min(values), "high": max(values)} if values else {"low": 0, "high": 0}
        figures.append({"name": name, "decimals": places(values), **ends})
    videos = []
    for at, video in enumerate(content["videos"]):
        source, note = players.source(video["name"])
        scores = [video["scores"].get(name) for name in names]
        why = {str(place): score["why"] for place, score in enumerate(scores) if score and score["value"] is None}
        entry: dict[str, Any] = {
            "at": at,
            "src": source,
            "note": note,
            "picture": is_picture(video["name"]),
            "why": why,
        }
        entry["values"] = [score and score["value"] for score in scores]
        facts = ("name", "prompt", "frames", "fps", "height", "width")
        videos.append(entry | {fact: video[fact] for fact in facts})
    prompts = any(video["prompt"] for video in content["videos"])
    return as_json({"figures": figures, "videos": videos, "prompts": prompts})
