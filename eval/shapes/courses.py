"""The course of an object through a clip, beside the course that its action has in the world of the shapes.

A state is (x, y, log size, angle), each as a share of what its action changes at least: a travel of 0.26 of the frame,
a growth by 1.9, a turn by 90 degrees. So states of all actions compare in one unit. An ideal course has the form of the
action (even travel, two parabolas of a bouncing ball, even growth in the logarithm, even turning) and the amplitude,
within what the action allows, that comes nearest to what is seen.

Letters: T frames, F frames in which an object is seen.
"""

import math

import numpy as np
from numpy.typing import NDArray

from eval.shapes.observation import ObjectObservation
from lingen_kit.data.shapes_grammar import DIRECTIONS
from lingen_kit.data.shapes_motion import LEAST_TRAVEL, MOST_TRAVEL

__all__ = ["accord", "deviations", "roughness", "states", "time_of", "usual_turn"]

Floats = NDArray[np.float64]

_GROWTH, _TURN = math.log(1.9), math.radians(90.0)
_MOST_TURN = 150.0 / 90.0
_SLACK = 1.1  # factor by which amplitudes may leave the range of the dataset
_RANGES = {"grows": (1.0, 1.0), "shrinks": (1.0, 1.0), "rotates": (1.0, _MOST_TURN)}
_TRAVELS = (1.0, MOST_TRAVEL / LEAST_TRAVEL)


def time_of(frames: int) -> Floats:
    """`(T,)` from 0 to 1."""
    return np.linspace(0.0, 1.0, frames)


def usual_turn(frames: int) -> float:
    """What a rotating object turns at least over a clip, in radians: never so fast that a frame could be mistaken."""
    return min(_TURN, math.radians(30.0) * (frames - 1))


def states(seen: ObjectObservation, height: int, width: int) -> Floats:
    """`(T, 4)` the object's state in each frame, NaN where it is not seen."""
    positions = seen.positions / np.array([width, height]) / LEAST_TRAVEL
    return np.column_stack([positions, np.log(seen.radii) / _GROWTH, seen.angles / _TURN])


def _form(action: str, time: Floats) -> Floats:
    """`(F, 4)` ideal course of amplitude 1."""
    form = np.zeros((len(time), 4))
    if action in DIRECTIONS:
        form[:, :2] = time[:, None] * np.array(DIRECTIONS[action])
    elif action == "bounces":
        hop = (2 * time) % 1.0
        form[:, 1] = -4 * hop * (1 - hop)
    elif action in ("grows", "shrinks"):
        form[:, 2] = time if action == "grows" else -time
    elif action == "rotates":
        form[:, 3] = time
    return form


def _ideal(action: str, course: Floats, time: Floats, frames: int) -> Floats:
    """The ideal course nearest to a centered course `(F, 4)`, itself centered."""
    form = _form(action, time)
    form -= form.mean(0)
    size = float((form**2).sum())
    if not size:
        return form
    amplitude = float((form * course).sum()) / size
    least, most = _RANGES.get(action, _TRAVELS)
    if action == "rotates":  # either way round
        least = usual_turn(frames) / _TURN
        sign = -1.0 if amplitude < 0 else 1.0
        return form * sign * float(np.clip(abs(amplitude), least / _SLACK, most * _SLACK))
    return form * float(np.clip(amplitude, least / _SLACK, most * _SLACK))


def deviations(seen: ObjectObservation, action: str | None, height: int, width: int) -> Floats:
    """`(T, 4)` how far the state is from the nearest ideal course of an action, NaN where the object is not seen.

    Args:
        seen: The object.
        action: Whose course; None for even travel in any direction.
        height: Of the frame.
        width: Of the frame.
    """
    course = states(seen, height, width)
    present, frames = seen.present, len(course)
    time = time_of(frames)[present]
    centered = course[present] - course[present].mean(0)
    if action is None:
        even = time - time.mean()
        size = float(even @ even)
        ideal = np.zeros_like(centered)
        if size:
            ideal[:, :2] = even[:, None] * (even @ centered[:, :2]) / size
    else:
        ideal = _ideal(action, centered, time, frames)
    result = np.full_like(course, np.nan)
    result[present] = centered - ideal
    return result


def accord(seen: ObjectObservation, action: str, height: int, width: int) -> float:
    """How nearly the course is that of the action: 1 is exact, 0 as far away as an object that does not do it at all.

    For "stays" 0 is as far away as an object that travels.
    """
    off = deviations(seen, action, height, width)[seen.present]
    time = time_of(len(seen.present))[seen.present]
    whole = _form("moves right" if action == "stays" else action, time)
    usual = math.sqrt(float(((whole - whole.mean(0)) ** 2).sum(1).mean()))
    if not usual:
        return 0.0
    return max(0.0, 1.0 - math.sqrt(float((off**2).sum(1).mean())) / usual)


def roughness(seen: ObjectObservation, height: int, width: int) -> float | None:
    """Root mean square of the second differences of what its own action does not explain; None below three frames."""
    off = deviations(seen, seen.action, height, width)
    bend = off[2:] - 2 * off[1:-1] + off[:-2]
    bend = bend[np.isfinite(bend).all(1)]
    return math.sqrt(float((bend**2).sum(1).mean())) if len(bend) else None
