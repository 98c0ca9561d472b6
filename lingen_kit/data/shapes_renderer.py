"""From objects in motion to pixels and masks.

Shapes are signed distance functions (negative inside, in pixels), evaluated only on a box around the object;
coverage is 0.5 minus the distance, clipped to [0, 1], which is the usual one-pixel anti-aliasing.

Letters: T frames, H height, W width, N objects. Positions are (x, y) in pixels; the center of the pixel in
    row i and
column j is (j, i), so the mean of a mask's indices is a position. Angles are radians, clockwise on the
screen.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SQUARE = 0.88  # half side
_TRIANGLE = 1.25  # circumradius
_ARM, _ARM_WIDTH = 1.08, 0.36  # of the cross: half length and half width
_HOLE = 0.5  # inner radius of the ring

REACH = {"circle": 1.0, "ring": 1.0, "square": _SQUARE, "triangle": _TRIANGLE, "cross": _ARM}
"""How far an upright shape reaches from its center along an axis, in radii."""

REACH_TURNED = REACH | {"square": _SQUARE * math.sqrt(2.0), "cross": math.hypot(_ARM, _ARM_WIDTH)}
"""The same at any angle."""


@dataclass(frozen=True)
class Track:
    """One object through time.

    Attributes:
        shape: Its shape.
        rgb: Its color, 0 to 255.
        positions: `(T, 2)` centers (x, y) in pixels.
        radii: `(T,)` in pixels; the circle's radius, and about that of the others.
        angles: `(T,)` in radians, 0 upright.
    """

    shape: str
    rgb: tuple[int, int, int]
    positions: Floats
    radii: Floats
    angles: Floats


def distance(shape: str, x: Floats, y: Floats, radius: Floats) -> Floats:
    """Signed distance to the outline of an upright shape around the origin, negative inside.

    Args:
        shape: A word of the grammar.
        x: Offsets to the right, any shape that broadcasts with `y` and `radius`.
        y: Offsets downwards.
        radius: The object's radius, in the unit of `x` and `y`.
    """
    return _DISTANCES[shape](x, y, radius)


def _circle(x: Floats, y: Floats, radius: Floats) -> Floats:
    return np.sqrt(x * x + y * y) - radius


def _ring(x: Floats, y: Floats, radius: Floats) -> Floats:
    return np.abs(np.sqrt(x * x + y * y) - (1 + _HOLE) / 2 * radius) - (1 - _HOLE) / 2 * radius


def _square(x: Floats, y: Floats, radius: Floats) -> Floats:
    return np.maximum(np.abs(x), np.abs(y)) - _SQUARE * radius


def _triangle(x: Floats, y: Floats, radius: Floats) -> Floats:
    return np.maximum(y, math.sqrt(0.75) * np.abs(x) - 0.5 * y) - 0.5 * _TRIANGLE * radius


def _cross(x: Floats, y: Floats, radius: Floats) -> Floats:
    x, y = np.abs(x), np.abs(y)
    along, across = np.maximum(x, y), np.minimum(x, y)
    return np.maximum(along - _ARM * radius, across - _ARM_WIDTH * radius)


_DISTANCES: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "ring": _ring,
}


def coverage(track: Track, height: int, width: int) -> NDArray[np.float32]:
    """Share of each pixel that the object covers: `(T, H, W)` in [0, 1]."""
    frames = len(track.radii)
    box = math.ceil(2 * REACH_TURNED[track.shape] * float(track.radii.max())) + 3
    rows, columns = min(box, height), min(box, width)
    left = np.clip(np.rint(track.positions[:, 0]).astype(int) - columns // 2, 0, width - columns)
    top = np.clip(np.rint(track.positions[:, 1]).astype(int) - rows // 2, 0, height - rows)
    x = (left - track.positions[:, 0])[:, None, None] + np.arange(columns)[None, None, :]  # T 1 columns
    y = (top - track.positions[:, 1])[:, None, None] + np.arange(rows)[None, :, None]  # T rows 1
    if track.angles.any():
        cos, sin = np.cos(track.angles)[:, None, None], np.sin(track.angles)[:, None, None]
        x, y = x * cos + y * sin, y * cos - x * sin  # T rows columns
    inside = np.clip(0.5 - distance(track.shape, x, y, track.radii[:, None, None]), 0.0, 1.0)
    result = np.zeros((frames, height, width), np.float32)
    for frame, (i, j) in enumerate(zip(top.tolist(), left.tolist(), strict=True)):
        result[frame, i : i + rows, j : j + columns] = inside[frame]
    return result


def render(
    tracks: Sequence[Track], background: tuple[int, int, int], height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Paint tracks over a background, the last in front.

    Args:
        tracks: N objects of T frames each.
        background: RGB, 0 to 255.
        height: Of the frame, in pixels.
        width: Of the frame, in pixels.

    Returns:
        The clip, `(3, T, H, W)` of whole numbers from 0 to 255, and the objects' visible pixels, `(N, T, H,
        W)`.
    """
    frames = len(tracks[0].radii)
    video = np.empty((3, frames, height, width), np.float32)
    video[:] = np.asarray(background, np.float32)[:, None, None, None]
    masks = np.empty((len(tracks), frames, height, width), np.bool_)
    for index, track in enumerate(tracks):
        inside = coverage(track, height, width)
        video += inside * (np.asarray(track.rgb, np.float32)[:, None, None, None] - video)
        np.greater(inside, 0.5, out=masks[index])
        masks[:index] &= ~masks[index]
    return np.rint(video, out=video), masks
