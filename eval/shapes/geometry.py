"""Where an object is to a fraction of a pixel: its shape is painted and moved until it matches (Gauss-Newton).

Coverage is 0.5 minus the signed distance to the outline, clipped to [0, 1], as the renderer paints it, blurred by the
heat equation on the grid of pixels, `K = exp(v L / 2)` along each axis, with the discrete Laplacian L and the variance
v (Lindeberg, Scale-space for discrete signals, 1990): exact for every v from 0 on, and its slope with v is `L / 2`.
Center and radius are free in each frame; the blur, the amplitude, and the course of the angle are those of the clip.

Letters: T frames, H height, W width, P side of a window.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lingen_kit.data.shapes_renderer import distance

__all__ = ["AREAS", "Geometry", "Window", "coverage_at", "fit_geometry", "free_angles", "grid"]

Floats = NDArray[np.float64]

AREAS = {"circle": math.pi, "square": 4 * 0.88**2, "triangle": 0.75 * math.sqrt(3) * 1.25**2}
AREAS |= {"ring": math.pi * 0.75, "cross": 8 * 1.08 * 0.36 - 4 * 0.36**2}
"""Of each shape at a radius of 1."""

_MOST_BLUR = 3.0  # variance in squared pixels
_FIRST_BLUR = 0.3  # with which a fit begins: a soft edge is felt from farther away
_REACH, _MARGIN = 0.92, 3  # windows reach so many roots of the area, and pixels, from the center
_SETTLED, _NO_ERROR = 2e-3, 1e-3  # changes of the error, as a share and in squared coverage, that end a fit
_STEP = 0.7  # pixels that a center may move in one step
_SMALL = 1e-3  # pixels, step of the numerical derivative of a distance


@dataclass(frozen=True)
class Geometry:
    """A painted object.

    Attributes:
        shape: Its shape.
        positions: `(T, 2)` centers (x, y) in pixels.
        radii: `(T,)` in pixels.
        angles: `(T,)` in radians.
        blur: Variance of the blur in squared pixels, 0 where edges are as sharp as the renderer paints.
        amplitude: Its coverage where it is full, as a share of that of the color that it was fitted with.
        error: Sum of squared differences to the clip within the window, in squared coverage.
    """

    shape: str
    positions: Floats
    radii: Floats
    angles: Floats
    blur: float = 0.0
    amplitude: float = 1.0
    error: float = math.inf


class Window:
    """The surroundings of an object, cut out of a clip: errors within the same window compare.

    Args:
        alpha: Coverage seen, `(T, H, W)`.
        centers: `(T, 2)` of the object, roughly.
        sizes: `(T,)` square roots of its area, roughly.
        mask: `(T, H, W)`, pixels to look at; all by default.
    """

    def __init__(self, alpha: Floats, centers: Floats, sizes: Floats, mask: NDArray[np.bool_] | None = None) -> None:
        frames, height, width = alpha.shape
        half = math.ceil(_REACH * float(sizes.max())) + _MARGIN
        rows, columns = min(2 * half + 1, height), min(2 * half + 1, width)
        left = np.clip(np.rint(centers[:, 0]).astype(int) - half, 0, width - columns)
        top = np.clip(np.rint(centers[:, 1]).astype(int) - half, 0, height - rows)
        i, j = top[:, None] + np.arange(rows), left[:, None] + np.arange(columns)
        at = (np.arange(frames)[:, None, None], i[:, :, None], j[:, None, :])
        self.alpha = alpha[at]  # T P P
        self.weight = np.ones_like(self.alpha) if mask is None else mask[at].astype(np.float64)
        self.pixels = int(self.weight.sum())
        self.x, self.y = j[:, None, :].astype(np.float64), i[:, :, None].astype(np.float64)


def grid(height: int, width: int) -> tuple[Floats, Floats]:
    """Rows `(1, H, 1)` and columns `(1, 1, W)` of a whole frame's pixels."""
    return np.arange(height, dtype=np.float64)[None, :, None], np.arange(width, dtype=np.float64)[None, None, :]


def coverage_at(geometry: Geometry, x: Floats, y: Floats) -> Floats:
    """Coverage without the amplitude at pixels x `(T, 1, P)` and y `(T, P, 1)`."""
    u, v = _turned(geometry, x, y)
    away = distance(geometry.shape, u, v, geometry.radii[:, None, None])
    return _blurred(np.clip(0.5 - away, 0.0, 1.0), geometry.blur)


def _turned(geometry: Geometry, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    x = x - geometry.positions[:, 0, None, None]
    y = y - geometry.positions[:, 1, None, None]
    cos, sin = np.cos(geometry.angles)[:, None, None], np.sin(geometry.angles)[:, None, None]
    return x * cos + y * sin, y * cos - x * sin


def fit_geometry(
    window: Window, start: Geometry, *, turning: bool = False, tilted: bool = False, steps: int = 6
) -> Geometry:
    """Move, scale, turn and soften the object until it matches.

    Args:
        window: Where it is seen.
        start: First guess.
        turning: Whether the angle may change evenly over the clip.
        tilted: Whether the angle, the same in all frames, is free.
        steps: Of Gauss-Newton.
    """
    frames = len(window.alpha)
    time = np.linspace(-0.5, 0.5, frames)
    now = best = replace(start, blur=max(start.blur, _FIRST_BLUR), error=math.inf)
    last = math.inf
    for step in range(steps + 1):
        painted, slopes, blur_slope = _painted(now, window)  # T P P, 4 T P P, T P P
        weight = window.weight
        amplitude = float((weight * window.alpha * painted).sum() / max(float((weight * painted**2).sum()), 1e-9))
        left = (window.alpha - amplitude * painted) * weight
        error = float((left**2).sum())
        if error < best.error:
            best = replace(now, amplitude=amplitude, error=error)
        if step == steps or amplitude <= 0 or abs(last - error) <= _SETTLED * error + _NO_ERROR:
            break
        last = error
        rows = np.concatenate([slopes, blur_slope[None]]).reshape(5, frames, -1) * amplitude
        rows = rows * weight.reshape(frames, -1)
        flat = left.reshape(frames, -1)
        # Centers and radii, frame by frame.
        normal = np.einsum("atp,btp->tab", rows[:3], rows[:3]) + 1e-3 * np.eye(3)
        pull = np.einsum("atp,tp->ta", rows[:3], flat)
        moves = np.linalg.solve(normal, pull[..., None])[..., 0]
        moves = np.clip(moves, -_STEP, _STEP)
        # What the frames share: the blur, and the course of the angle.
        shared = [rows[4]]
        if tilted or turning:
            shared.append(rows[3])
        if turning:
            shared.append(rows[3] * time[:, None])
        flat_shared = np.stack(shared).reshape(len(shared), -1)
        pair = flat_shared @ flat_shared.T + 1e-3 * np.eye(len(shared))
        change = np.linalg.solve(pair, flat_shared @ flat.ravel())
        turn = np.zeros(frames)
        if tilted or turning:
            turn += np.clip(change[1], -0.2, 0.2)
        if turning:
            turn += np.clip(change[2], -0.4, 0.4) * time
        now = replace(
            now,
            positions=now.positions + moves[:, :2],
            radii=np.maximum(now.radii + moves[:, 2], 0.5),
            angles=now.angles + turn,
            blur=float(np.clip(now.blur + np.clip(change[0], -0.4, 0.4), 0.0, _MOST_BLUR)),
        )
    return best


def free_angles(window: Window, geometry: Geometry, steps: int = 3) -> Floats:
    """Angles `(T,)` that each frame alone would have, close to those of the course."""
    frames, now = len(window.alpha), geometry
    for _ in range(steps):
        painted, slopes, _ = _painted(now, window)
        row = slopes[3].reshape(frames, -1) * geometry.amplitude * window.weight.reshape(frames, -1)
        left = ((window.alpha - geometry.amplitude * painted) * window.weight).reshape(frames, -1)
        # The prior holds a frame that tells nothing on its course.
        pull = (row * left).sum(1) / ((row**2).sum(1) + 0.3)
        now = replace(now, angles=now.angles + np.clip(pull, -0.2, 0.2))
    return now.angles


def _painted(geometry: Geometry, window: Window) -> tuple[Floats, Floats, Floats]:
    """Coverage, its slopes with x, y, radius and angle, and its slope with the variance of the blur."""
    u, v = _turned(geometry, window.x, window.y)
    radius = geometry.radii[:, None, None]
    away = distance(geometry.shape, u, v, radius)
    along_u = (distance(geometry.shape, u + _SMALL, v, radius) - away) / _SMALL
    along_v = (distance(geometry.shape, u, v + _SMALL, radius) - away) / _SMALL
    band = -1.0 * (np.abs(away) < 0.5)
    cos, sin = np.cos(geometry.angles)[:, None, None], np.sin(geometry.angles)[:, None, None]
    maps = np.stack(
        [
            np.clip(0.5 - away, 0.0, 1.0),
            -(along_u * cos - along_v * sin) * band,
            -(along_u * sin + along_v * cos) * band,
            (away - u * along_u - v * along_v) / radius * band,  # distances scale with the object
            (along_u * v - along_v * u) * band,
        ]
    )
    maps = _blurred(maps, geometry.blur)
    painted = maps[0]
    rows, columns = painted.shape[1:]
    laplacian = np.matmul(_laplacian(rows), painted) + np.matmul(painted, _laplacian(columns))
    return painted, maps[1:], 0.5 * laplacian


def _blurred(maps: Floats, variance: float) -> Floats:
    """The last two axes blurred by the discrete heat kernel, with walls that let nothing through."""
    if variance <= 0:
        return maps
    rows, columns = (_heat(size, variance) for size in maps.shape[-2:])
    return np.matmul(np.matmul(rows, maps), columns)


def _heat(size: int, variance: float) -> Floats:
    values, vectors = _modes(size)
    return (vectors * np.exp(0.5 * variance * values)) @ vectors.T


@lru_cache(maxsize=256)
def _modes(size: int) -> tuple[Floats, Floats]:
    values, vectors = np.linalg.eigh(_laplacian(size))
    return values, vectors


@lru_cache(maxsize=256)
def _laplacian(size: int) -> Floats:
    matrix = np.eye(size, k=1) + np.eye(size, k=-1)
    return matrix - np.diag(matrix.sum(1))
