"""Figures of cost over size: one line a config, both axes logarithmic."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from lingen_kit.analysis.units import duration, exact, memory

# Okabe and Ito's colors, which the color-blind tell apart; markers tell lines apart in gray.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
_INK, _GRID = "#333333", "#DDDDDD"


class Line(NamedTuple):
    """What one config costs.

    Args:
        label: What the legend says.
        sizes: Where it was measured, ascending.
        seconds: Median latency at each size.
        fastest: Least latency at each size.
        slowest: Greatest latency at each size.
        memory: Peak bytes at each size, weights included.
        exhausted: Smallest size at which memory ran out, if any.
    """

    label: str
    sizes: Sequence[float]
    seconds: Sequence[float]
    fastest: Sequence[float]
    slowest: Sequence[float]
    memory: Sequence[float]
    exhausted: float | None


def plot_scaling(
    lines: Sequence[Line], path: Path, *, title: str, subtitle: str, axis: str, crossings: Sequence[float] = ()
) -> None:
    """Write latency and memory over size as a PNG.

    Args:
        lines: One for each config.
        path: The file to write.
        title: What was measured.
        subtitle: What it was measured on.
        axis: What a size is.
        crossings: Sizes to mark in the panel of latencies.
    """
    figure = Figure(figsize=(11, 4.9), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for i, line in enumerate(lines):
        color, marker = _COLORS[i % len(_COLORS)], _MARKERS[i % len(_MARKERS)]
        left.fill_between(line.sizes, line.fastest, line.slowest, color=color, alpha=0.15, linewidth=0)
        for panel, values in ((left, line.seconds), (right, line.memory)):
            panel.plot(line.sizes, values, color=color, marker=marker, markersize=5.5, linewidth=1.8, label=line.label)
            if line.exhausted is not None:
                _mark_exhausted(panel, line, values, color)
    for size in crossings:
        left.axvline(size, color=_INK, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        place = {"xy": (size, 0.02), "xycoords": ("data", "axes fraction"), "xytext": (4, 0)}
        left.annotate(exact(size), **place, textcoords="offset points", color=_INK, fontsize=9)
    sizes = sorted({size for line in lines for size in (*line.sizes, line.exhausted) if size is not None})
    _style(left, "latency (median; shaded: fastest to slowest)", axis, sizes, duration, base=10)
    _style(right, "peak memory, weights included", axis, sizes, memory, base=2)
    left.legend(frameon=False, fontsize=9.5, loc="upper left")
    figure.suptitle(title, fontsize=13, color=_INK, x=0.012, ha="left", fontweight="bold")
    figure.supxlabel(subtitle, fontsize=8.5, color="#777777", x=0.012, ha="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _mark_exhausted(panel: Axes, line: Line, values: Sequence[float], color: str) -> None:
    """A cross on the upper edge: beyond this size there is nothing to draw."""
    assert line.exhausted is not None
    panel.plot([line.exhausted], [0.97], marker="x", markersize=9, markeredgewidth=2.2, color=color, clip_on=False,
               transform=panel.get_xaxis_transform())  # fmt: skip
    panel.annotate("out of memory", (line.exhausted, 0.97), xycoords=("data", "axes fraction"), xytext=(-8, 0),
                   textcoords="offset points", ha="right", va="center", color=color, fontsize=9)  # fmt: skip


def _reach_a_power(panel: Axes, base: int) -> None:
    """Widen the vertical axis to whole powers of `base`, so that it has two labels at least."""
    low, high = panel.get_ylim()
    panel.set_ylim(base ** math.floor(math.log(low, base)), base ** math.ceil(math.log(high, base)))


def _style(
    panel: Axes, title: str, axis: str, sizes: Sequence[float], labels: Callable[[float], str], *, base: int
) -> None:
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_title(title, fontsize=10.5, color=_INK, loc="left")
    panel.set_xlabel(axis, color=_INK)
    # The measured sizes are the ticks; of many, about eight.
    panel.xaxis.set_major_locator(FixedLocator(list(sizes[:: max(1, round(len(sizes) / 8))])))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: exact(x)))
    panel.yaxis.set_major_locator(LogLocator(base, numticks=8))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: labels(y)))
    _reach_a_power(panel, base)
    panel.grid(True, which="major", color=_GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    panel.tick_params(colors=_INK, labelsize=9)
