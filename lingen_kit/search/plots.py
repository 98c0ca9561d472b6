"""Pictures of a search: what it found over time, objectives against each other, which choices matter, who had what."""

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import optuna
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lingen_kit.search.dimensions import Choice, Dimension, Pattern
from lingen_kit.search.proxy import Agreement, Pair
from lingen_kit.search.records import Record, pareto
from lingen_kit.search.sampling import distributions
from lingen_kit.search.settings import Direction, Search
from lingen_kit.search.space import short_names

_BLUE, _ORANGE, _GREEN, _GRAY, _INK, _GRID = "#0072B2", "#D55E00", "#009E73", "#B8BDC6", "#333333", "#E3E5E9"
_DPI = 130


def plot_history(records: Sequence[Record], search: Search, path: Path) -> None:
    """The first objective of every candidate in the order of their numbers, and the best so far."""
    name, direction = next(iter(search.objectives.items()))
    done = [record for record in records if record.state == "complete"]
    values = np.array([record.mean(name) for record in done])
    best = np.minimum.accumulate(values) if direction == "minimize" else np.maximum.accumulate(values)
    figure, panel = _figure(7.2, 3.6)
    numbers = [record.number for record in done]
    panel.scatter(numbers, values, color=_BLUE, s=22, label="candidate")
    _bars(panel, numbers, values.tolist(), [record.error(name) for record in done])
    panel.step(numbers, best, where="post", color=_ORANGE, linewidth=1.8, label="best so far")
    for record in (r for r in done if r.baseline):
        panel.axhline(record.mean(name), color=_INK, linestyle=(0, (4, 3)), linewidth=1, label="baseline")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set(xlabel="trial", ylabel=name)
    panel.legend(frameon=False, fontsize=8.5)
    _save(figure, path)


def plot_pareto(records: Sequence[Record], search: Search, path: Path) -> None:
    """Two objectives against each other; the candidates that no other one beats are joined."""
    (first, way), (second, other) = (*search.objectives.items(), *costs_that_count(search))[:2]
    done = [record for record in records if record.state == "complete"]
    front = sorted(pareto(done, {first: way, second: other}), key=lambda record: record.mean(second))
    figure, panel = _figure(7.2, 4.2)
    rest = [record for record in done if record not in front]
    panel.scatter([r.mean(second) for r in rest], [r.mean(first) for r in rest], color=_GRAY, s=22, label="beaten")
    xs, ys = [r.mean(second) for r in front], [r.mean(first) for r in front]
    panel.plot(xs, ys, color=_BLUE, marker="o", markersize=5, linewidth=1.4, label="Pareto front")
    _bars(panel, xs, ys, [r.error(first) for r in front])
    for record in front:
        place = (record.mean(second), record.mean(first))
        panel.annotate(str(record.number), place, (4, 4), textcoords="offset points", fontsize=8, color=_INK)
    for record in (r for r in done if r.baseline):
        panel.scatter(
            record.mean(second), record.mean(first), marker="*", s=170, color=_ORANGE, zorder=3, label="baseline"
        )
    panel.set(xlabel=f"{second} ({other})", ylabel=f"{first} ({way})")
    panel.legend(frameon=False, fontsize=8.5)
    _save(figure, path)


def costs_that_count(search: Search) -> list[tuple[str, Direction]]:
    """Costs that are bounded and no objectives: less of them is better."""
    return [(cost, "minimize") for cost in search.constraints if cost not in search.objectives]


def importances(records: Sequence[Record], search: Search) -> dict[str, dict[str, float]]:
    """How much each choice matters to the first objective, as shares that add up to 1, by PED-ANOVA (arXiv 2304.10255).

    Choices that are part of a candidate under one condition only are weighed among the candidates that have them.

    Returns:
        By condition (empty for none): importance of each name. Conditions with fewer than eight candidates have none.
    """
    done, every = [record for record in records if record.state == "complete"], distributions(search.space)
    name, direction = next(iter(search.objectives.items()))
    found: dict[str, dict[str, float]] = {}
    for condition, names in _by_condition(search).items():
        having = [record for record in done if all(n in record.params for n in names)]
        varied = [n for n in names if len({record.params[n] for record in having}) > 1]
        if len(having) < 8 or not varied:
            continue
        study = optuna.create_study(direction=direction)
        for record in having:
            study.add_trial(
                optuna.trial.create_trial(
                    params={n: record.params[n] for n in varied},
                    distributions={n: every[n] for n in varied},
                    value=record.mean(name),
                )
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            found[condition] = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return found


def plot_importances(found: Mapping[str, Mapping[str, float]], objective: str, path: Path) -> None:
    """Bars of how much each choice matters, a panel for each condition."""
    rows = [max(1, len(names)) for names in found.values()]
    figure = Figure(figsize=(7.2, 0.55 * len(rows) + 0.32 * sum(rows) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(found), 1, squeeze=False, height_ratios=rows)[:, 0]
    for panel, (condition, names) in zip(panels, found.items(), strict=True):
        _plain(panel)
        shown = dict(sorted(names.items(), key=lambda item: item[1]))
        panel.barh([_tail(name) for name in shown], list(shown.values()), color=_BLUE, height=0.65)
        panel.set_xlim(0, 1)
        panel.set_title(f"where {condition}" if condition else "all candidates", fontsize=9.5, loc="left", color=_INK)
    panels[-1].set_xlabel(f"importance for {objective} (share)", fontsize=9)
    _save(figure, path)


def plot_parallel(records: Sequence[Record], search: Search, path: Path) -> None:
    """Every candidate as a line through its choices, colored by the first objective; the best lines lie on top."""
    done = [record for record in records if record.state == "complete"]
    name, direction = next(iter(search.objectives.items()))
    axes = [(n, d) for d in search.space.dimensions for n in d.names() if len({r.params.get(n) for r in done}) > 1]
    values = np.array([record.mean(name) for record in done])
    span = (values.max() - values.min()) or 1.0
    goodness = (values - values.min()) / span
    goodness = 1 - goodness if direction == "minimize" else goodness
    figure, panel = _figure(max(7.2, 1.15 * (len(axes) + 1)), 4.4)
    panel.grid(False)
    colors = colormaps["viridis_r"]
    for place in np.argsort(goodness):
        record, shade = done[place], goodness[place]
        points = [(i, _height(d, record.params[n])) for i, (n, d) in enumerate(axes) if n in record.params]
        points.append((len(axes), (values[place] - values.min()) / span))
        look = {"color": colors(float(shade)), "alpha": 0.35 + 0.6 * shade}
        for (x, y), (further, height) in pairwise(points):
            beside = further == x + 1  # else the candidate has no part in the choices between
            width, style = (1 + 1.6 * shade, "-") if beside else (0.7, ":")
            panel.plot((x, further), (y, height), linewidth=width, linestyle=style, **look)
    for i, (_, dimension) in enumerate(axes):
        panel.axvline(i, color=_GRAY, linewidth=0.8, zorder=0)
        for text, height in _ticks(dimension):
            panel.annotate(text, (i, height), (3, 0), textcoords="offset points", fontsize=7, va="center", color=_INK)
    panel.axvline(len(axes), color=_INK, linewidth=1, zorder=0)
    for height, value in ((0, values.min()), (1, values.max())):
        place = (len(axes), height)
        panel.annotate(f"{value:.3g}", place, (4, 0), textcoords="offset points", fontsize=8, va="center", color=_INK)
    labels = [*short_names([n for n, _ in axes]).values(), _tail(name)]
    panel.set_xticks(range(len(labels)), labels, rotation=20, ha="right", fontsize=8)
    panel.set_yticks([])
    panel.set_xlim(-0.2, len(axes) + 0.5)
    for side in panel.spines.values():
        side.set_visible(False)
    _save(figure, path)


def plot_proxy(pair: Pair, found: Agreement, path: Path) -> None:
    """A figure in the search's setting against the same after a longer training."""
    figure, panel = _figure(5.2, 4.2)
    panel.scatter(pair.before, pair.after, color=_BLUE, s=28)
    for number, x, y in zip(pair.numbers, pair.before, pair.after, strict=True):
        panel.annotate(str(number), (x, y), (4, 4), textcoords="offset points", fontsize=8, color=_INK)
    panel.set(xlabel=f"{pair.name}, as searched", ylabel=f"{pair.longer}, trained longer")
    panel.set_title(
        f"Kendall's tau {found.tau:.2f}, 95% from {found.low:.2f} to {found.high:.2f}", fontsize=9.5, loc="left"
    )
    _save(figure, path)


def _by_condition(search: Search) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for dimension in search.space.dimensions:
        told = ", ".join(f"{_tail(other)} is {' or '.join(labels)}" for other, labels in dimension.when.items())
        groups.setdefault(told, []).extend(dimension.names())
    return groups


def _height(dimension: Dimension, value: object) -> float:
    """Where a value stands on its axis, from 0 to 1."""
    if isinstance(dimension, Choice | Pattern):
        labels = list(dimension.values)
        return labels.index(str(value)) / max(1, len(labels) - 1)
    assert isinstance(value, int | float)
    low, high = float(dimension.low), float(dimension.high)
    if dimension.log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / ((high - low) or 1)


def _ticks(dimension: Dimension) -> list[tuple[str, float]]:
    if isinstance(dimension, Choice | Pattern):
        return [(label, _height(dimension, label)) for label in dimension.values]
    return [(f"{value:.3g}", _height(dimension, value)) for value in (dimension.low, dimension.high)]


def _tail(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[2]


def _bars(panel: Axes, xs: Sequence[float], ys: Sequence[float], errors: Sequence[float]) -> None:
    """Standard errors of the mean over the seeds, where there are several."""
    known = [place for place, error in enumerate(errors) if not math.isnan(error)]
    if known:
        picked = ([xs[i] for i in known], [ys[i] for i in known], [errors[i] for i in known])
        panel.errorbar(picked[0], picked[1], picked[2], fmt="none", ecolor=_GRAY, elinewidth=1, capsize=2, zorder=0)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    _plain(panel)
    return figure, panel


def _plain(panel: Axes) -> None:
    panel.grid(True, color=_GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(colors=_INK, labelsize=8.5)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)
