"""What a video of one moving shape shows, judged from its pixels, and how often that is what was asked for.

The closed world of the moving shapes makes prompt obedience measurable with no network: background, color,
shape and motion are estimated with robust statistics that stand blur, noise and colors that are somewhat off,
as generated videos have them.

1. The background is the mode of all pixels; the object's color comes from the pixels farthest from it.
2. Each pixel's coverage is its projection on the line from background to object color, which cancels noise.
3. The object is followed by a window around its center of mass; its size is the mass in that window.
4. Patches around the object, scaled to unit mass, are correlated as one volume with every shape, at several
   blurs and scales, upright, tilted and turning. The best fit is the shape, and tells whether it turns.
5. The action is the strongest of travel, hops, growth and turning, relative to what the dataset shows.

Letters: T frames, H height, W width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from eval.shapes.segment import background_color, smooth
from eval.shapes.templates import fit_shape, patches_around
from eval.shapes.words import action_word, direction_word, line_fit, nearest_word
from lingen_kit.data.shapes_grammar import BACKGROUNDS, COLORS, DIRECTIONS, Scene, canonical_color

__all__ = ["Observation", "agreement", "frames_of", "grade"]

Floats = NDArray[np.float64]
Frames = NDArray[np.uint8]

_LEAST_CONTRAST = 20.0  # RGB distance from the background below which nothing is an object
_LEAST_AREA = 6.0  # pixels
_STRANGE = 45.0  # smoothed RGB distance from the background that noise hardly reaches
_MOST_ELSEWHERE = 0.3  # contrast beside the object, as a share of its own, beyond which there is no one object


@dataclass(frozen=True)
class Observation:
    """What a clip shows; None for what cannot be told.

    Attributes:
        color: Word of the palette nearest to the object's color; "gray" also for "grey".
        color_distance: From the object's color to that of the word, in RGB of 0 to 255.
        shape: The best fitting shape.
        shape_margin: Its correlation with the video less that of the second best shape.
        action: A word of the grammar.
        direction: The direction of travel, whatever else happens, if there is a clear one.
        direction_margin: Travel along that direction less any across it, as a share of the frame.
        background: Word nearest to the background's color.
        background_distance: Between the two, in RGB of 0 to 255.
        positions: `(T, 2)` centers (x, y) in pixels, NaN where no object is seen.
        areas: `(T,)` in pixels, NaN where no object is seen.
    """

    color: str | None
    color_distance: float
    shape: str | None
    shape_margin: float
    action: str | None
    direction: str | None
    direction_margin: float
    background: str | None
    background_distance: float
    positions: Floats
    areas: Floats


def frames_of(video: torch.Tensor) -> Frames:
    """Turn a video `(3, T, H, W)` in [-1, 1] into `(T, H, W, 3)` uint8 frames; NaN becomes gray.

    Raises:
        ValueError: The video has another shape.
    """
    if video.ndim != 4 or video.shape[0] != 3:
        raise ValueError(f"a video is (3, T, H, W), got {tuple(video.shape)}")
    pixels = torch.nan_to_num(video.detach().float(), nan=0.0).clamp(-1, 1).add(1).mul(127.5).round()
    return pixels.to(torch.uint8).permute(1, 2, 3, 0).cpu().numpy()


def grade(video: Frames) -> Observation:
    """Observe the object of a single-object clip.

    Args:
        video: `(T, H, W, 3)` uint8 frames; `frames_of` makes them from a tensor.

    Raises:
        ValueError: The array has another type or shape.
    """
    if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or 0 in video.shape:
        raise ValueError(f"give (T, H, W, 3) uint8 frames, got {video.dtype} {video.shape}")
    pixels = video.astype(np.float64)
    nothing = np.full(len(pixels), np.nan)
    background = background_color(pixels)
    if background is None:
        return _blank(nothing, None, math.inf)
    word, off = nearest_word(background, BACKGROUNDS)
    difference = pixels - background
    contrast = np.linalg.norm(smooth(difference), axis=-1)  # T H W
    color = _object_color(pixels, contrast)
    if color is None:
        return _blank(nothing, word, off)
    line = color - background
    alpha = np.einsum("thwc,c->thw", difference, line / (line @ line))
    positions, areas, elsewhere = _follow(alpha, contrast)
    seen = np.isfinite(areas)
    if 2 * seen.sum() < len(seen) or elsewhere > _MOST_ELSEWHERE:
        return _blank(nothing, word, off)
    times = np.flatnonzero(seen)
    sizes = np.exp(line_fit(times, 0.5 * np.log(areas[seen]))[1])  # one smooth course: single frames are noisy
    fit = fit_shape(patches_around(alpha[seen], positions[seen], sizes))
    named, color_off = nearest_word(background + line * fit.amplitude, COLORS)
    _, height, width, _ = pixels.shape
    direction, margin = direction_word(times, positions[seen], height, width)
    return Observation(
        color=canonical_color(named) if named else None,
        color_distance=color_off,
        shape=fit.shape,
        shape_margin=fit.margin,
        action=action_word(times, positions[seen], sizes, fit.turns, height, width) if fit.shape else None,
        direction=direction,
        direction_margin=margin,
        background=word,
        background_distance=off,
        positions=positions,
        areas=areas,
    )


def agreement(observations: Sequence[Observation], scenes: Sequence[Scene]) -> dict[str, float]:
    """Share of clips that show what their scene says.

    Args:
        observations: What was seen.
        scenes: What was asked for, one object each, in the same order.

    Returns:
        `color`, `shape`, `direction` (over the scenes that travel), `action` and `all` (color, shape and
        action) as shares, with `clips` and `clips_with_direction` as counts. A share over no clips is NaN.

    Raises:
        ValueError: The lengths differ, or a scene has several objects.
    """
    if len(observations) != len(scenes):
        raise ValueError(f"{len(observations)} observations for {len(scenes)} scenes; give one for each")
    hits: dict[str, list[bool]] = {name: [] for name in ("color", "shape", "direction", "action", "all")}
    for observation, scene in zip(observations, scenes, strict=True):
        if len(scene.objects) != 1:
            raise ValueError(f"only scenes of one object can be graded, got {scene.caption()!r}")
        truth = scene.objects[0].combination
        right = {
            "color": observation.color == truth.color,
            "shape": observation.shape == truth.shape,
            "action": observation.action == truth.action,
        }
        for name, hit in right.items():
            hits[name].append(hit)
        hits["all"].append(all(right.values()))
        if truth.action in DIRECTIONS:
            hits["direction"].append(observation.direction == truth.action)
    shares = {name: float(np.mean(values)) if values else math.nan for name, values in hits.items()}
    return shares | {"clips": float(len(scenes)), "clips_with_direction": float(len(hits["direction"]))}


def _blank(nothing: Floats, background: str | None, off: float) -> Observation:
    positions = np.stack([nothing, nothing], -1)
    return Observation(None, math.inf, None, 0.0, None, None, 0.0, background, off, positions, nothing)


def _object_color(pixels: Floats, contrast: Floats) -> Floats | None:
    # Most pixels are background, so the median contrast is noise: 5 times its scale is beyond its reach.
    threshold = max(_LEAST_CONTRAST, 5 * float(np.median(contrast)) / 1.54)
    peaks = contrast[contrast > threshold]
    if peaks.size < _LEAST_AREA:
        return None
    core = contrast > max(threshold, 0.75 * float(np.quantile(peaks, 0.95)))
    return np.median(pixels[core], axis=0)


def _follow(alpha: Floats, contrast: Floats) -> tuple[Floats, Floats, float]:
    """Follow the object through coverages `(T, H, W)`.

    Args:
        alpha: Coverage by the object, `(T, H, W)`.
        contrast: RGB distance from the background, smoothed, `(T, H, W)`.

    Returns:
        Center and mass in each frame, NaN where there is none, and the contrast elsewhere as a share of that
        here.
    """
    _, height, width = alpha.shape
    y, x = np.mgrid[:height, :width].astype(np.float64)
    firm = np.clip(smooth(alpha) - 0.35, 0.0, 1.0)
    broad = smooth(smooth(smooth(firm)))
    peak = broad.reshape(len(alpha), -1).argmax(1)
    centers = np.stack([peak % width, peak // width], -1).astype(np.float64)  # T 2
    reach = np.full(len(alpha), 0.4 * min(height, width))
    mass = total = np.zeros(len(alpha))
    away = np.zeros_like(alpha)
    for _ in range(5):
        away = np.hypot(x - centers[:, 0, None, None], y - centers[:, 1, None, None])  # T H W
        near = away < reach[:, None, None]
        weights = firm * near
        total = weights.sum((1, 2))
        safe = np.maximum(total, 1e-9)
        centers = np.stack([(weights * x).sum((1, 2)), (weights * y).sum((1, 2))], -1) / safe[:, None]
        mass = (alpha * near).sum((1, 2))
        reach = 2.0 * np.sqrt(np.maximum(mass, _LEAST_AREA) / math.pi) + 1.5
    strange = np.clip(contrast - _STRANGE, 0.0, _STRANGE)
    radius = np.sqrt(np.maximum(mass, _LEAST_AREA) / math.pi)[:, None, None]
    here = float((strange * (away < 1.6 * radius + 1.0)).sum())  # the corners of a triangle are at 1.56
    lost = (mass < _LEAST_AREA) | (total <= 0)
    centers[lost], mass[lost] = np.nan, np.nan
    return centers, mass, (float(strange.sum()) - here) / max(here, 1e-9)
