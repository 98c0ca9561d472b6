"""How cost grows: the exponent of a power law through measured points, and where two curves cross.

A cost `y = c x^k` is a straight line of slope k in log-log space. k is fitted by least squares there, and between
measured points a curve is taken to be straight there too.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

Curve = Sequence[tuple[float, float]]
"""Points (size, cost), both above 0, in ascending order of size and no size twice."""


class PowerLaw(NamedTuple):
    """`cost = factor * size ** exponent`."""

    exponent: float
    factor: float


class Crossing(NamedTuple):
    """Where two curves cross: at `size`, and from there on the first is the cheaper one, or the second."""

    size: float
    first_is_cheaper_after: bool


def fit_power_law(curve: Curve) -> PowerLaw:
    """Fit a power law by least squares of log cost over log size.

    Raises:
        ValueError: If there are fewer than two points, or a size or cost is not above 0.
    """
    logs = _logs(curve)
    if len(logs) < 2:
        raise ValueError(f"curve has {len(logs)} points; a power law needs two or more")
    mean_x = math.fsum(x for x, _ in logs) / len(logs)
    mean_y = math.fsum(y for _, y in logs) / len(logs)
    spread = math.fsum((x - mean_x) ** 2 for x, _ in logs)
    exponent = math.fsum((x - mean_x) * (y - mean_y) for x, y in logs) / spread
    return PowerLaw(exponent, math.exp(mean_y - exponent * mean_x))


def crossings(first: Curve, second: Curve) -> list[Crossing]:
    """Sizes at which two curves cross, within the range that both of them were measured in, ascending.

    Raises:
        ValueError: If a curve is empty, not in ascending order, or holds something not above 0.
    """
    a, b = _logs(first), _logs(second)
    # Where the curves touch, the sign is that before: touching is not crossing.
    gaps = [(x, gap) for x in _shared(a, b) if (gap := _at(a, x) - _at(b, x)) != 0]
    found = []
    for (x0, gap0), (x1, gap1) in pairwise(gaps):
        if gap0 * gap1 < 0:
            x = x0 + (x1 - x0) * gap0 / (gap0 - gap1)
            found.append(Crossing(math.exp(x), first_is_cheaper_after=gap1 < 0))
    return found


def mean_ratio(first: Curve, second: Curve) -> float | None:
    """Geometric mean of the first curve's cost over the second's, at the sizes of either that both span; None if none.

    Raises:
        ValueError: As `crossings`.
    """
    a, b = _logs(first), _logs(second)
    gaps = [_at(a, x) - _at(b, x) for x in _shared(a, b)]
    return math.exp(math.fsum(gaps) / len(gaps)) if gaps else None


def _shared(a: Curve, b: Curve) -> list[float]:
    """Sizes of either curve within the range of both."""
    low, high = max(a[0][0], b[0][0]), min(a[-1][0], b[-1][0])
    return sorted({x for x, _ in (*a, *b) if low <= x <= high})


def _logs(curve: Curve) -> list[tuple[float, float]]:
    wrong = [point for point in curve if min(point) <= 0]
    if wrong or not curve or any(x1 <= x0 for (x0, _), (x1, _) in pairwise(curve)):
        raise ValueError(f"curve {list(curve)} must hold points above 0 in ascending order of size, no size twice")
    return [(math.log(x), math.log(y)) for x, y in curve]


def _at(logs: Curve, x: float) -> float:
    """Height at `x`, straight between the points."""
    for (x0, y0), (x1, y1) in pairwise(logs):
        if x0 <= x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return logs[0][1]  # a single point, at its own x
