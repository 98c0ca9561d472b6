"""The geometry of every object that blobs show: its coverage is unmixed, its shape found, and painted until it matches.

Letters: T frames, F frames in which an object is seen, H height, W width.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eval.shapes.courses import time_of, usual_turn
from eval.shapes.geometry import AREAS, Geometry, Window, coverage_at, fit_geometry, grid
from eval.shapes.segment import LEAST_AREA, Blob
from eval.shapes.templates import Fit, Pose, fit_shape, patches_around
from eval.shapes.words import VISIBLE, line_fit
from lingen_kit.data.shapes_grammar import SHAPES

__all__ = ["Painted", "Sight", "elsewhere", "paint_objects", "unmixed"]

Floats = NDArray[np.float64]
Maps = NDArray[np.bool_]

_STRANGE = 45.0  # RGB distance from the background that noise hardly reaches
_CHANGED = 60.0  # RGB distance from the line to the object's color beyond which a frame shows another color
_LEAST_SHARE = 0.3  # or the share of the way along that line
_FINALISTS = 2  # shapes that are painted to the end
_FROM_BEST = 0.12  # correlation below that of the best at which a shape is not worth painting
_HOPELESS = 0.03  # correlation that turning lacks when it is not even tried
_TURN_GAIN = 0.12  # share of the error beyond noise that turning must take away before it is believed
_TURN_CHANCE = 15.0  # and the least fall of the error, in variances of the noise


@dataclass(frozen=True)
class Sight:
    """Where an object is seen, before its shape is known.

    Attributes:
        times: `(F,)` frames in which it is seen.
        centers: `(F, 2)` x, y.
        masses: `(F,)`.
        color: `(3,)`, where it is large.
        colors: `(F, 3)` of its blobs, mixed with the background's where it is small.
        region: `(T, H, W)` pixels of its blobs.
    """

    times: NDArray[np.int64]
    centers: Floats
    masses: Floats
    color: Floats
    colors: Floats
    region: Maps

    @classmethod
    def of(cls, track: list[Blob | None], labels: NDArray[np.int64]) -> "Sight":
        """What a track of blobs amounts to; `labels` is the map in which they were found."""
        seen = [(t, blob) for t, blob in enumerate(track) if blob]
        colors = np.array([blob.color for _, blob in seen])
        masses = np.array([blob.mass for _, blob in seen])
        # Where the object is large its color is least mixed with the background's.
        large = masses >= np.median(masses)
        return cls(
            np.array([t for t, _ in seen]),
            np.array([blob.center for _, blob in seen]),
            masses,
            np.median(colors[large], axis=0),
            colors,
            np.isin(labels, [blob.label for _, blob in seen]),
        )

    def lines(self, background: Floats) -> Floats:
        """`(F, 3)` from the background's color to the object's: one for all frames, but where it is another color."""
        line = self.color - background
        own = self.colors - background
        shares = own @ line / (line @ line)
        beside = np.linalg.norm(own - shares[:, None] * line, axis=1)
        changed = (beside > _CHANGED) | (shares < _LEAST_SHARE)
        return np.where(changed[:, None], own, line)


@dataclass(frozen=True)
class Painted:
    """An object's geometry and color, the lines `(F, 3)` from the background's to it, and what the templates say."""

    geometry: Geometry
    rgb: Floats
    lines: Floats
    fit: Fit
    margin: float
    turns: bool


def _near(sight: Sight, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Distance of each pixel to the object's center in its frames, `(F, H, W)`, and the object's radius `(F, 1, 1)`."""
    y, x = np.mgrid[: shape[1], : shape[2]].astype(np.float64)
    away = np.hypot(x - sight.centers[:, 0, None, None], y - sight.centers[:, 1, None, None])
    return away, np.sqrt(np.maximum(sight.masses, LEAST_AREA) / math.pi)[:, None, None]


def elsewhere(difference: Floats, sights: list[Sight], noise: float) -> float:
    """Strange contrast beside all objects, as a share of all of it."""
    strange = np.linalg.norm(difference, axis=-1) - max(_STRANGE, 4 * noise * math.sqrt(3))
    strange = np.clip(strange, 0, _STRANGE)
    total = float(strange.sum())
    for sight in sights:
        away, radius = _near(sight, strange.shape)
        strange[sight.times] *= away > 1.7 * radius + 2.0
    return float(strange.sum()) / max(total, 1e-9)


def _domains(sights: list[Sight], shape: tuple[int, ...]) -> list[Maps]:
    """For each object the pixels that are nearer to it than to others and in no other's blob, `(F, H, W)` each."""
    nearest = np.full(shape[:3], np.inf)
    relative = []
    for sight in sights:
        away, radius = _near(sight, shape)
        relative.append(away / radius)
        nearest[sight.times] = np.minimum(nearest[sight.times], relative[-1])
    domains = []
    for sight, here in zip(sights, relative, strict=True):
        others = np.zeros(shape[:3], np.bool_)
        for other in sights:
            if other is not sight:
                others |= other.region
        domains.append((here <= nearest[sight.times]) & ~others[sight.times] | sight.region[sight.times])
    return domains


def paint_objects(
    difference: Floats, background: Floats, sights: list[Sight], noise: float
) -> list[tuple[Sight, Painted | None]]:
    """The geometry of every object, fitted on its own and then once more without what the others paint."""
    domains = _domains(sights, difference.shape)
    first = [
        _first_fit(difference, background, sight, domain, noise) for sight, domain in zip(sights, domains, strict=True)
    ]
    if len(sights) == 1:
        return [(sights[0], first[0])]
    layers = [
        _layer(result, sight, difference.shape) if result else None for sight, result in zip(sights, first, strict=True)
    ]
    second: list[tuple[Sight, Painted | None]] = []
    for index, (sight, result) in enumerate(zip(sights, first, strict=True)):
        if result is None:
            second.append((sight, None))
            continue
        rest = difference[sight.times].copy()
        for other, layer in enumerate(layers):
            if other != index and layer is not None:
                rest -= layer[sight.times]
        second.append((sight, _second_fit(rest, background, result)))
    return second


def _layer(result: Painted, sight: Sight, shape: tuple[int, ...]) -> Floats:
    """What an object adds to the background, `(T, H, W, 3)`."""
    layer: Floats = np.zeros(shape)
    y, x = grid(shape[1], shape[2])
    layer[sight.times] = coverage_at(result.geometry, x, y)[..., None] * result.lines[:, None, None]
    return layer


def _first_fit(difference: Floats, background: Floats, sight: Sight, domain: Maps, noise: float) -> Painted | None:
    seen = difference[sight.times]
    line, lines = sight.color - background, sight.lines(background)
    alpha = unmixed(seen, lines)
    alpha = np.where(domain, alpha, 0.0)
    centers, masses = sight.centers, sight.masses
    y, x = np.mgrid[: alpha.shape[1], : alpha.shape[2]].astype(np.float64)
    for _ in range(3):
        away = np.hypot(x - centers[:, 0, None, None], y - centers[:, 1, None, None])
        near = away < 2.0 * np.sqrt(np.maximum(masses, LEAST_AREA) / math.pi)[:, None, None] + 1.5
        firm = np.clip(alpha - 0.15, 0.0, 1.0) * near
        total = np.maximum(firm.sum((1, 2)), 1e-9)
        centers = np.stack([(firm * x).sum((1, 2)), (firm * y).sum((1, 2))], -1) / total[:, None]
        masses = np.maximum((alpha * near).sum((1, 2)), 1.0)
    sizes = np.exp(line_fit(sight.times, 0.5 * np.log(masses))[1])
    fit = fit_shape(patches_around(alpha, centers, sizes))
    if fit.shape is None:
        return None
    variance = (noise / float(np.linalg.norm(line))) ** 2  # of the noise in a pixel's coverage
    window = Window(alpha, centers, sizes, domain)
    best = max(pose.score for pose in fit.poses.values())
    tried = [
        _best_pose(window, _started(fit.poses[shape], shape, centers, sizes), fit.poses[shape], variance, 3)
        for shape in SHAPES
        if fit.poses[shape].score >= best - _FROM_BEST
    ]
    tried.sort(key=lambda result: result[0].error)
    results = [
        _best_pose(window, geometry, fit.poses[geometry.shape], variance, 6) for geometry, _ in tried[:_FINALISTS]
    ]
    results.sort(key=lambda result: result[0].error)
    geometry, turns = results[0]
    margin = 1.0 - geometry.error / max(results[1][0].error, 1e-9) if len(results) > 1 else 1.0
    rgb, lines = background + line * geometry.amplitude, lines * geometry.amplitude
    return Painted(geometry, rgb, lines, fit, margin, turns)


def _started(pose: Pose, shape: str, centers: Floats, sizes: Floats) -> Geometry:
    return Geometry(shape, centers, sizes / math.sqrt(AREAS[shape]), np.full(len(sizes), pose.tilt))


def _best_pose(window: Window, start: Geometry, pose: Pose, variance: float, steps: int) -> tuple[Geometry, bool]:
    """Paint one shape still, and turning where it can; turning has to explain clearly more than noise would."""
    frames = len(window.alpha)
    level = replace(start, angles=np.full(frames, pose.tilt))
    if start.shape in ("circle", "ring"):
        return fit_geometry(window, level, steps=steps), False
    still = fit_geometry(window, level, tilted=True, steps=steps)
    if frames == 1 or pose.turning < pose.still - _HOPELESS:
        return still, False
    angles = pose.start + pose.turn * time_of(frames)
    turning = fit_geometry(window, replace(start, angles=angles), turning=True, steps=steps)
    gain = still.error - turning.error
    floor = variance * window.pixels
    turn = abs(float(turning.angles[-1] - turning.angles[0])) / usual_turn(frames)
    believed = gain > _TURN_GAIN * max(still.error - floor, 0.0) and gain > _TURN_CHANCE * variance and turn > VISIBLE
    return (turning, True) if believed else (still, False)


def unmixed(seen: Floats, lines: Floats) -> Floats:
    """Coverage `(F, H, W)` of each pixel `(F, H, W, 3)` over the background: its share of the way along the line."""
    return np.einsum("thwc,tc->thw", seen, lines / (lines**2).sum(1, keepdims=True))


def _second_fit(rest: Floats, background: Floats, result: Painted) -> Painted:
    """Once more on what the other objects leave."""
    alpha = unmixed(rest, result.lines)
    old = result.geometry
    geometry = fit_geometry(
        Window(alpha, old.positions, old.radii * math.sqrt(AREAS[old.shape])),
        old,
        turning=result.turns,
        tilted=old.shape not in ("circle", "ring"),
        steps=4,
    )
    rgb = background + (result.rgb - background) * geometry.amplitude
    return replace(result, geometry=geometry, rgb=rgb, lines=result.lines * geometry.amplitude)
