"""Whether the cheap setting of a search ranks candidates as a longer training does.

A search is worth what its proxy is worth. After it, the best candidates and some drawn from the others are trained for
longer, or larger, and Kendall's rank correlation (tau-b, Biometrika 1945) tells how well the two rankings agree. Few
candidates make a wide interval; it is a bootstrap's, over the candidates.
"""

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lingen_kit.search.records import Record, best_first
from lingen_kit.search.settings import Direction, Proxy, Search

DRAWS = 2000


class Agreement(NamedTuple):
    """How two rankings agree.

    Attributes:
        tau: Kendall's tau-b, from -1 (reversed) over 0 (unrelated) to 1 (the same).
        low: Lower end of its 95% interval.
        high: Upper end.
        candidates: How many were ranked.
    """

    tau: float
    low: float
    high: float
    candidates: int


def kendall_tau(x: ArrayLike, y: ArrayLike) -> float:
    """Kendall's tau-b of two lists of numbers; NaN where one of them is constant."""
    a, b = np.asarray(x, float), np.asarray(y, float)
    upper = np.triu_indices(len(a), 1)
    dx, dy = np.sign(a[:, None] - a)[upper], np.sign(b[:, None] - b)[upper]
    untied = math.sqrt(float((dx**2).sum() * (dy**2).sum()))
    return float((dx * dy).sum()) / untied if untied else math.nan


def agreement(short: Sequence[float], long: Sequence[float], seed: int = 0) -> Agreement:
    """How the ranking of the cheap setting agrees with that of the longer training.

    Args:
        short: Figures of the candidates in the cheap setting.
        long: Their figures after the longer training, in the same order.
        seed: Of the bootstrap.

    Raises:
        ValueError: If there are fewer than three candidates.
    """
    if len(short) < 3:
        raise ValueError(f"a rank correlation needs 3 candidates or more, not {len(short)}")
    a, b, generator = np.asarray(short, float), np.asarray(long, float), np.random.default_rng(seed)
    draws = generator.integers(len(a), size=(DRAWS, len(a)))
    taus = np.array([kendall_tau(a[draw], b[draw]) for draw in draws])
    low, high = np.nanpercentile(taus, [2.5, 97.5]) if not np.isnan(taus).all() else (math.nan, math.nan)
    return Agreement(kendall_tau(a, b), float(low), float(high), len(a))


def chosen(records: Sequence[Record], search: Search) -> list[int]:
    """Numbers of the candidates that are trained for longer: the best ones, and some drawn from the others."""
    proxy = search.proxy
    if proxy is None or not search.logged:
        return []
    complete = [record for record in records if record.state == "complete"]
    objective = {search.logged[0]: search.objectives[search.logged[0]]}
    ranked = [record.number for record in best_first(complete, objective)]
    top, others = ranked[: proxy.top], sorted(ranked[proxy.top :])
    return top + random.Random(search.seed).sample(others, min(proxy.random, len(others)))


class Pair(NamedTuple):
    """What candidates that were trained for longer had before and after.

    Attributes:
        name: What the search ranks by.
        longer: What the longer training ranks by.
        numbers: Numbers of the candidates.
        before: Their figures in the search's setting.
        after: Their figures after the longer training.
        same_way: Whether more of one means more of the other where the rankings agree.
    """

    name: str
    longer: str
    numbers: list[int]
    before: list[float]
    after: list[float]
    same_way: bool

    def agreement(self) -> Agreement:
        """How the two rankings agree; 1 if they are the same, whatever is better."""
        return agreement(self.before, self.after if self.same_way else [-value for value in self.after])

    def first(self, direction: Direction) -> tuple[int, float]:
        """Number and figure of the best after the longer training; `direction` is that of the search's own figure."""
        pick = max if (direction == "maximize") == self.same_way else min
        value, number = pick(zip(self.after, self.numbers, strict=True))
        return number, value


def pairs(records: Sequence[Record], search: Search) -> list[Pair]:
    """The figures to compare: each logged objective with itself, or the first with the figure that the proxy names."""
    assert search.proxy is not None
    figure, both = search.proxy.figure, [record for record in records if record.longer]
    names = [(name, name, True) for name in search.logged]
    if figure is not None:
        names = [(search.logged[0], figure, search.objectives[search.logged[0]] == search.proxy.mode)]
    return [
        Pair(
            name,
            longer,
            [record.number for record in both],
            [record.mean(name) for record in both],
            [record.mean_longer(longer) for record in both],
            same_way,
        )
        for name, longer, same_way in names
    ]


def verdict(found: Agreement, proxy: Proxy, name: str, longer: str) -> str:
    """What the agreement means, in a sentence or two; it begins with `Warning` where the proxy is not to be trusted."""
    told = (
        f"Kendall's tau between {name} in the search's setting and {longer} after the longer training is "
        f"{found.tau:.2f} "
        f"(95% interval {found.low:.2f} to {found.high:.2f}, {found.candidates} candidates)"
    )
    if not found.tau >= proxy.warn_below:
        return f"Warning: {told}, below {proxy.warn_below:g}: the search's ranking says little of longer trainings."
    if not found.low > 0:
        return f"Warning: {told}: with so few candidates, the two rankings may as well be unrelated."
    return f"{told}."
