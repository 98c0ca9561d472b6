"""The page of an inspection: what a data set holds, in figures, plots and pictures."""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from lingen_kit.data.survey.inspection import Inspection, kind_of_reason
from lingen_kit.data.survey.units import brief, clock, data_size, plural
from lingen_kit.page import data_uri, escape, page

# Colors that matplotlib is given, to be replaced by the page's own, which follow light and dark.
_INK, _BARS, _LINES = "#010203", "#040506", "#070809"
_ROWS = 12
_CAPTION = 140  # characters of a caption under a picture
_NAME = 48  # characters of a name, counted from its end
_NAMED = 200


def render(inspection: Inspection) -> str:
    """The HTML of the page."""
    summary = inspection.summary
    cards = [
        _card("Length of the clips", _bars(summary["lengths"])),
        _card("Length of the captions", _bars(summary["caption_lengths"])),
        _card("Frames per second", _bars(summary["rates"])),
        _card("Width and height in pixels", _sizes(inspection.clips)),
    ]
    if "buckets" in summary:
        cards.insert(
            0, _card("Sizes that the config cuts them to (frames x height x width)", _bars(summary["buckets"]))
        )
    cards += [
        _card("Aspect ratio", _table(summary["aspects"])),
        _card("Size", _table(summary["sizes"])),
        _card("Codec and pixel format", _table(summary["codecs"])),
        _card("Container", _table(summary["containers"])),
        _card("Most frequent words", _table(summary["words"], rows=20)),
    ]
    body = [
        _figures(summary),
        _trouble(summary),
        f'<h2>Distributions</h2><div class="cards">{"".join(cards)}</div>',
        _pictures(inspection),
    ]
    return page(f"{summary['clips']:,} clips in {summary['data']}", "\n".join(part for part in body if part))


def _figures(summary: Mapping[str, Any]) -> str:
    rows = [
        ("files", f"{summary['files']:,}, {data_size(summary['bytes'])}"),
        ("length in all", clock(summary["seconds"])),
        ("layout", summary["layout"]),
        ("with sound", plural(summary["with_sound"], "file")),
    ]
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows)
    names = list(next((spread for spread in summary["spread"].values() if spread), {}))
    head = "".join(f'<th class="number">{escape(name)}</th>' for name in names)
    lines = ""
    for name, spread in summary["spread"].items():
        if spread:
            numbers = "".join(f'<td class="number">{brief(spread[at])}</td>' for at in names)
            lines += f"<tr><td>{escape(name)}</td>{numbers}</tr>"
    ranks = f'<div class="scroll"><table><tr><th></th>{head}</tr>{lines}</table></div>'
    return f'<div class="scroll"><table>{cells}</table></div><h2>From least to greatest</h2>{ranks}'


def _trouble(summary: Mapping[str, Any]) -> str:
    """What deserves a look, each list folded."""
    silent = summary["without_caption"]
    parts = [
        _fold(
            f"{plural(len(summary['unusable']), 'clip')} in {plural(summary['unusable_files'], 'file')} not usable,"
            f" {silent:,} for want of a caption",
            [(entry["clip"], entry["reason"]) for entry in summary["unusable"]],
        ),
        _fold(
            f"{plural(len(summary.get('dropped', [])), 'clip')} dropped by the config",
            [(entry["clip"], entry["reason"]) for entry in summary.get("dropped", [])],
        ),
        _fold(
            f"{plural(len(summary['duplicates']), 'group')} of files that hold the same bytes",
            [(group[0], "as " + ", ".join(group[1:])) for group in summary["duplicates"]],
        ),
        _fold(
            f"{plural(len(summary['repeated_captions']), 'caption')} that more than one clip has",
            [(f"{count} times", text) for text, count in summary["repeated_captions"].items()],
        ),
        _fold(
            f"{plural(len(summary['ignored']), 'file')} that are no part of the data",
            [(entry["file"], entry["reason"]) for entry in summary["ignored"]],
        ),
    ]
    found = "".join(part for part in parts if part)
    return f"<h2>Worth a look</h2>{found}" if found else '<p class="good">No file is unusable, none occurs twice.</p>'


def _fold(title: str, lines: Sequence[tuple[str, str]]) -> str:
    if not lines:
        return ""
    rows = "".join(f"<tr><td>{escape(a)}</td><td>{escape(b[:300])}</td></tr>" for a, b in lines[:_NAMED])
    more = f'<p class="muted">and {len(lines) - _NAMED:,} more, in report.json</p>' if len(lines) > _NAMED else ""
    return f"<details><summary>{escape(title)}</summary><table>{rows}</table>{more}</details>"


def _pictures(inspection: Inspection) -> str:
    figures = []
    for place, encoded in sorted(inspection.pictures.items()):
        clip = inspection.clips[place]
        info = clip["info"]
        facts = f"{info['width']}x{info['height']}, {brief(clip['seconds'])} s, {brief(info['fps'])} fps"
        fate = f"<br>cut to {escape(clip['size'])}" if "size" in clip else ""
        if "dropped" in clip:
            fate = f'<br><span class="bad">dropped: {escape(kind_of_reason(clip["dropped"]))}</span>'
        caption = clip["caption"] if len(clip["caption"]) <= _CAPTION else clip["caption"][:_CAPTION] + "..."
        name = clip["name"] if len(clip["name"]) <= _NAME else "..." + clip["name"][-_NAME:]
        figures.append(
            f'<figure><img loading="lazy" src="{data_uri(base64.b64decode(encoded), "image/jpeg")}"'
            f' alt="{escape(caption)}"><figcaption><b>{escape(name)}</b><br>{escape(facts)}{fate}'
            f"<br>{escape(caption)}</figcaption></figure>"
        )
    if not figures:
        return ""
    title = "Middle frames" if len(figures) == inspection.summary["clips"] else f"Middle frames of {len(figures)} clips"
    return f'<h2>{title}</h2><div class="grid">{"".join(figures)}</div>'


def _card(title: str, body: str) -> str:
    return f"<section><h3>{escape(title)}</h3>{body}</section>"


def _table(counts: Mapping[str, int], rows: int = _ROWS) -> str:
    """The most frequent values, and how many others there are."""
    shown = list(counts.items())[:rows]
    lines = "".join(f'<tr><td>{escape(name)}</td><td class="number">{count:,}</td></tr>' for name, count in shown)
    rest = len(counts) - len(shown)
    more = f'<p class="muted">and {rest:,} others</p>' if rest else ""
    return f"<table>{lines}</table>{more}"


def _bars(counts: Mapping[str, int]) -> str:
    """Horizontal bars: their labels fit a phone."""
    from matplotlib.figure import Figure

    shown = list(counts.items())[:18]
    figure = Figure(figsize=(4.2, 0.5 + 0.26 * max(1, len(shown))), layout="constrained")
    axes = figure.subplots()
    places = range(len(shown))
    bars = axes.barh(places, [count for _, count in shown], color=_BARS, height=0.72)
    axes.bar_label(bars, [f"{count:,}" for _, count in shown], padding=3, color=_INK, fontsize=9.5)
    axes.set_yticks(places, [name for name, _ in shown], fontsize=9.5)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xticks([])
    axes.margins(x=0.14)
    axes.tick_params(length=0, labelcolor=_INK)
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)
    return _svg(figure)


def _sizes(clips: Sequence[Mapping[str, Any]]) -> str:
    """A spot for each size, its area by the number of clips."""
    from matplotlib.figure import Figure

    counts = Counter((clip["info"]["width"], clip["info"]["height"]) for clip in clips if "info" in clip)
    figure = Figure(figsize=(4.2, 3.4), layout="constrained")
    axes = figure.subplots()
    most = max(counts.values(), default=1)
    axes.scatter(
        [width for width, _ in counts],
        [height for _, height in counts],
        s=[18 + 160 * count / most for count in counts.values()],
        color=_BARS,
        alpha=0.6,
        linewidths=0,
    )
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.margins(0.1)
    axes.set_xlabel("width", color=_INK)
    axes.set_ylabel("height", color=_INK)
    axes.grid(True, color=_LINES, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=_INK, labelsize=9.5)
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)
    return _svg(figure)


def _svg(figure: Any) -> str:
    """A figure as an inline SVG in the page's colors and type."""
    import matplotlib

    text = StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lingen_kit"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    for color, own in ((_INK, "currentColor"), (_BARS, "var(--accent)"), (_LINES, "var(--line)")):
        svg = svg.replace(color, own)
    return svg.replace("<svg ", '<svg class="chart" ', 1)
