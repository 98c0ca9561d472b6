"""From colors and courses to words of the grammar.

Letters: T frames.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lingen_kit.data.shapes_grammar import DIRECTIONS, SIZES, canonical_color
from lingen_kit.data.shapes_motion import CROWDING

__all__ = [
    "VISIBLE",
    "action_word",
    "color_margin",
    "direction_word",
    "line_fit",
    "nearest_word",
    "size_word",
    "strengths_of_actions",
]

Floats = NDArray[np.float64]
Times = NDArray[np.int64]
Palette = Mapping[str, tuple[int, int, int]]

VISIBLE = 0.45
"""Share of the usual extent of an action from which it counts."""

_FARTHEST_COLOR = 90.0  # RGB distance from every color of the palette beyond which a color has no word
# Usual extents: of travel as a share of the frame, of hops (rms) as one of its height, of growth in log size.
_TRAVEL, _HOPS, _GROWTH = 0.26, 0.075, math.log(1.9)


def nearest_word(color: Floats, palette: Palette) -> tuple[str | None, float]:
    """Word of a palette nearest to an RGB color, None if all are far, and the distance."""
    off, word = min((float(np.linalg.norm(color - rgb)), word) for word, rgb in palette.items())
    return (word if off < _FARTHEST_COLOR else None), off


def color_margin(color: Floats, palette: Palette) -> float:
    """How sure the nearest word is: 1 at a color of the palette, 0 half-way between two."""
    words: dict[str, float] = {}
    for word, rgb in palette.items():
        words[canonical_color(word)] = float(np.linalg.norm(color - rgb))
    first, second = sorted(words.values())[:2]
    return (second - first) / max(first + second, 1e-9)


def size_word(radii: Floats, count: int, side: int) -> tuple[str, float]:
    """The word "small" or "large", and how sure that is: 0 half-way between the two, 1 at either.

    Args:
        radii: `(T,)` in pixels; NaN where the object is not seen.
        count: Of the objects that share the frame: the more, the smaller.
        side: Shorter side of the frame in pixels.
    """
    mean = float(np.exp(np.log(radii[np.isfinite(radii)]).mean()))
    share = mean / side / CROWDING[min(count, len(CROWDING)) - 1]
    above = math.log(share / math.sqrt(SIZES["small"] * SIZES["large"]))
    usual = 0.5 * math.log(SIZES["large"] / SIZES["small"])
    return ("large" if above > 0 else "small"), min(1.0, abs(above) / usual)


def line_fit(times: NDArray[np.int64], values: Floats) -> tuple[float, Floats]:
    """Least-squares line through (time, value): the change from first to last time, and the fitted values."""
    if len(times) < 2:
        return 0.0, values
    centered = times - times.mean()
    slope = float(centered @ values / (centered @ centered))
    return slope * float(times[-1] - times[0]), values.mean() + slope * centered


def direction_word(times: Times, positions: Floats, height: int, width: int) -> tuple[str | None, float]:
    """The direction of travel, if it is clear, and travel along it less any across, as a share of the frame."""
    travel = _travel(times, positions, height, width)
    axis = int(np.abs(travel).argmax())
    along, across = abs(float(travel[axis])), abs(float(travel[1 - axis]))
    if along < VISIBLE * _TRAVEL or along < 1.5 * across:
        return None, along - across
    step = (int(np.sign(travel[0])), 0) if axis == 0 else (0, int(np.sign(travel[1])))
    return next(word for word, direction in DIRECTIONS.items() if direction == step), along - across


def strengths_of_actions(
    times: Times, positions: Floats, sizes: Floats, turns: float, height: int, width: int
) -> dict[str, float]:
    """How much of each kind of motion there is, 1 for what the dataset shows at least.

    Args:
        times: `(T,)` frames in which the object is seen.
        positions: `(T, 2)` its centers in pixels.
        sizes: `(T,)` its size, linear, in any unit.
        turns: Whether it turns, or how much of the usual turn it makes.
        height: Of the frame.
        width: Of the frame.
    """
    _, course = line_fit(times, positions[:, 1])
    growth = float(np.log(sizes[-1] / sizes[0]))
    return {
        "travels": float(np.abs(_travel(times, positions, height, width)).max()) / _TRAVEL,
        "bounces": float(np.sqrt(np.mean((positions[:, 1] - course) ** 2))) / height / _HOPS,
        "grows" if growth > 0 else "shrinks": abs(growth) / _GROWTH,
        "rotates": float(turns),
    }


def action_word(times: Times, positions: Floats, sizes: Floats, turns: float, height: int, width: int) -> str | None:
    """The strongest kind of motion; None if it travels in no clear direction. Arguments as above."""
    strengths = strengths_of_actions(times, positions, sizes, turns, height, width)
    strongest = max(strengths, key=lambda name: strengths[name])
    if strengths[strongest] < VISIBLE:
        return "stays"
    return direction_word(times, positions, height, width)[0] if strongest == "travels" else strongest


def _travel(times: Times, positions: Floats, height: int, width: int) -> Floats:
    """Linear change of x and y over the clip, as shares of the frame."""
    changes = [line_fit(times, positions[:, axis])[0] for axis in (0, 1)]
    return np.array(changes) / (width, height)
