"""The judge by formulas: what a clip of one to three moving shapes shows, read from its pixels with no network.

1. `segment`: the background is the mode of all pixels; what stands out from it is cut into blobs.
2. `follow`: blobs of all frames become objects.
3. Each pixel's coverage by an object is its projection on the line from the background's to the object's color, which
   cancels noise; what the other objects paint there is taken away first.
4. `templates`: patches around each object are correlated with every shape, still and turning.
5. `geometry`: the best shapes are painted and moved until they match; the one that matches best is the object's.
6. `words`: colors, sizes and courses become words, each with a confidence from the margin to the next best.

Letters: T frames, H height, W width, S shapes.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eval.shapes.fit import Painted, Sight, elsewhere, paint_objects, unmixed
from eval.shapes.follow import objects_of
from eval.shapes.geometry import AREAS, Geometry, Window, coverage_at, free_angles, grid
from eval.shapes.observation import ObjectObservation, SceneObservation
from eval.shapes.segment import blobs, leveled, noise_level
from eval.shapes.words import (
    VISIBLE,
    action_word,
    color_margin,
    line_fit,
    nearest_word,
    size_word,
    strengths_of_actions,
)
from lingen_kit.data.shapes_grammar import BACKGROUNDS, COLORS, canonical_color

__all__ = ["check_frames", "observe"]

Floats = NDArray[np.float64]
Frames = NDArray[np.uint8]

_LEAST_OBJECT = 40.0  # RGB distance from the background: half of the least that a word of the grammar has
_MOST_ELSEWHERE = 0.5  # strange contrast beside the objects, as a share of all, beyond which a clip is in disorder
_SHARPNESS = 0.03  # correlation that makes a frame's shape e times as likely as another


def check_frames(video: Frames) -> None:
    """Refuse what is no clip.

    Raises:
        ValueError: The array has another type or shape.
    """
    if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or 0 in video.shape:
        raise ValueError(f"give (T, H, W, 3) uint8 frames, got {video.dtype} {video.shape}")


def observe(video: Frames) -> SceneObservation:
    """Observe a clip.

    Args:
        video: `(T, H, W, 3)` uint8 frames.

    Raises:
        ValueError: The array has another type or shape.
    """
    check_frames(video)
    level = leveled(video.astype(np.float64))
    if level is None:
        return SceneObservation(None, math.inf, None, (), {"background": 0.0})
    pixels, background, light = level
    word, off = nearest_word(background, BACKGROUNDS)
    sure = {"background": color_margin(background, BACKGROUNDS) if word else 0.0}
    nothing = SceneObservation(word, off, background, (), sure)
    noise = noise_level(pixels, background)
    found, labels = blobs(pixels, background, noise)
    tracks = objects_of(found, max(video.shape[1:3]))
    if not tracks:
        return nothing
    sights = [Sight.of(track, labels) for track in tracks]
    difference = pixels - background
    if elsewhere(difference, sights, noise) > _MOST_ELSEWHERE:
        return nothing
    painted = paint_objects(difference, background, sights, noise)
    kept = [(sight, fit) for sight, fit in painted if fit and _counts(sight, fit, background, len(video))]
    objects = tuple(_object(sight, fit, background, light, difference, len(kept)) for sight, fit in kept)
    return replace(nothing, objects=objects)


def _counts(sight: Sight, result: Painted, background: Floats, frames: int) -> bool:
    """Whether something is an object, and no smudge beside one such as models leave: faint, or there now and then."""
    contrast = float(np.linalg.norm(result.rgb - background))
    return contrast >= _LEAST_OBJECT and 2 * len(sight.times) >= frames


def _object(
    sight: Sight, result: Painted, background: Floats, light: Floats, difference: Floats, count: int
) -> ObjectObservation:
    """Words and courses of one object; `light` is what was taken off each frame, `(T, 3)`."""
    frames, height, width, _ = difference.shape
    geometry, times = result.geometry, sight.times
    word, off = nearest_word(result.rgb, COLORS)
    color = canonical_color(word) if word else None
    turns = float(result.turns)
    sizes = np.exp(line_fit(times, np.log(geometry.radii))[1])
    strengths = strengths_of_actions(times, geometry.positions, sizes, turns, height, width)
    action = action_word(times, geometry.positions, sizes, turns, height, width)
    ranked = sorted([*strengths.values(), VISIBLE])
    size, size_sure = size_word(geometry.radii, count, min(height, width))
    angles = geometry.angles
    if result.turns and geometry.shape not in ("circle", "ring"):
        alpha = unmixed(difference[times], result.lines)
        window = Window(alpha, geometry.positions, geometry.radii * math.sqrt(AREAS[geometry.shape]))
        angles = free_angles(window, replace(geometry, amplitude=1.0))
    likely = np.exp((result.fit.single - result.fit.single.max(1, keepdims=True)) / _SHARPNESS)
    return ObjectObservation(
        color=color,
        shape=geometry.shape,
        size=size,
        action=action,
        confidence={
            "color": color_margin(result.rgb, COLORS) if word else 0.0,
            "shape": min(1.0, result.margin / 0.5),
            "size": size_sure,
            "action": min(1.0, (ranked[-1] - ranked[-2]) / VISIBLE) if action else 0.0,
        },
        rgb=result.rgb,
        color_distance=off if word else math.inf,
        present=_spread(np.ones(len(times)), times, frames) == 1,
        positions=_spread(geometry.positions, times, frames),
        radii=_spread(geometry.radii, times, frames),
        areas=_spread(AREAS[geometry.shape] * geometry.radii**2, times, frames),
        angles=_spread(angles, times, frames),
        colors=_spread(_colors(difference[times], geometry) + background + light[times], times, frames),
        shapes=_spread(likely / likely.sum(1, keepdims=True), times, frames),
        blur=math.sqrt(geometry.blur),
    )


def _colors(seen: Floats, geometry: Geometry) -> Floats:
    """Color of the object over the background's in each frame, `(F, 3)`: least squares over the coverage."""
    y, x = grid(seen.shape[1], seen.shape[2])
    cover = coverage_at(geometry, x, y)
    return np.einsum("thw,thwc->tc", cover, seen) / np.maximum((cover**2).sum((1, 2)), 1e-9)[:, None]


def _spread(values: Floats, times: NDArray[np.int64], frames: int) -> Floats:
    """Values of the frames in which an object is seen among all frames, NaN elsewhere."""
    spread = np.full((frames, *values.shape[1:]), np.nan)
    spread[times] = values
    return spread
