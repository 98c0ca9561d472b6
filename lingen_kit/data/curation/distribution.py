"""A small histogram of one score: what was kept, what was dropped, and where the limits are."""

import math
from collections.abc import Sequence

from lingen_kit.data.curation.filter import Limit, plain
from lingen_kit.page import escape

_BINS = 24
_WIDTH, _HEIGHT = 240, 70


def histogram(name: str, words: str, kept: Sequence[float], dropped: Sequence[float], limit: Limit) -> str:
    """An HTML figure.

    Args:
        name: Of the score.
        words: What it means.
        kept: Its values for the clips that were kept.
        dropped: For the others. At least one of the two is not empty.
        limit: Least and greatest value of a clip that is kept.
    """
    values = [*kept, *dropped]
    marks = [value for value in limit if value is not None and math.isfinite(value)]
    low, high = min(values), max(values)
    # A limit far away would squeeze the values into a line: it is said below instead.
    near = [mark for mark in marks if low - (high - low) <= mark <= high + (high - low)]
    low, high = min([low, *near]), max([high, *near])
    if low == high:
        low, high = low - 0.5, high + 0.5
    bins = [[0, 0] for _ in range(_BINS)]
    for side, group in enumerate((kept, dropped)):
        for value in group:
            bins[min(_BINS - 1, int((value - low) / (high - low) * _BINS))][side] += 1
    most = max(sum(pair) for pair in bins)
    step = _WIDTH / _BINS
    shapes = []
    for place, pair in enumerate(bins):
        top = float(_HEIGHT)
        for count, kind in zip(pair, ("in", "off"), strict=True):
            tall = count / most * (_HEIGHT - 4)
            if count:
                top -= tall
                shapes.append(
                    f'<rect class="{kind}" x="{place * step + 0.5:.1f}" y="{top:.1f}" width="{step - 1:.1f}"'
                    f' height="{tall:.1f}"/>'
                )
    for mark in near:
        x = (mark - low) / (high - low) * _WIDTH
        shapes.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="-3" y2="{_HEIGHT}"/>')
    said = _said(limit)
    return (
        f'<figure><h3>{escape(name)}</h3><svg viewBox="0 -4 {_WIDTH} {_HEIGHT + 5}" role="img"'
        f' aria-label="{len(kept)} kept and {len(dropped)} dropped clips from {plain(min(values))} to'
        f' {plain(max(values))}{", " + said if said else ""}">{"".join(shapes)}'
        f'<line class="axis" x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/></svg>'
        f'<div class="ends"><span>{plain(low)}</span><span>{said}</span><span>{plain(high)}</span></div>'
        f"<figcaption>{escape(words)}</figcaption></figure>"
    )


def _said(limit: Limit) -> str:
    least, greatest = limit
    parts = [f"at least {plain(least)}"] if least is not None and math.isfinite(least) and least > -math.inf else []
    parts += [f"at most {plain(greatest)}"] if greatest is not None and math.isfinite(greatest) else []
    return ", ".join(parts)
