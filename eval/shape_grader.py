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

Letters: T frames, H height, W width, P side of a patch, K templates.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from lingen_kit.data.shapes_grammar import BACKGROUNDS, COLORS, DIRECTIONS, SHAPES, Scene, canonical_color
from lingen_kit.data.shapes_renderer import distance

__all__ = ["Observation", "agreement", "frames_of", "grade"]

Floats = NDArray[np.float64]
Frames = NDArray[np.uint8]

_NEAR = 60.0  # RGB distance within which a pixel can be background, noise included
_LEAST_BACKGROUND = 0.35  # share of pixels that must be background, or there is none
_LEAST_CONTRAST = 20.0  # RGB distance from the background below which nothing is an object
_FARTHEST_COLOR = 90.0  # RGB distance from every color of the palette beyond which a color has no word
_LEAST_AREA = 6.0  # pixels
_STRANGE = 45.0  # smoothed RGB distance from the background that noise hardly reaches
_MOST_ELSEWHERE = 0.3  # contrast beside the object, as a share of its own, beyond which there is no one object
_LEAST_FIT = 0.5  # correlation with the best template below which a blob has no shape
_TURN_MARGIN = 0.015  # correlation that turning must add before it is believed
_HALF, _SIDE = 1.15, 31  # patches reach this far from the center, in square roots of the mass
_BLURS = (0.05, 0.1, 0.17, 0.26)  # of the templates, in the same unit
_SCALES = (0.92, 1.0, 1.09)
_ANGLE_STEP = 6  # degrees
_ANGLES = {"circle": 1, "ring": 1} | {
    shape: symmetry // _ANGLE_STEP for shape, symmetry in (("square", 90), ("cross", 90), ("triangle", 120))
}
_TURNS = np.array([sign * total for total in range(48, 193, 12) for sign in (-1, 1)])  # degrees over the clip

_VISIBLE = 0.45  # share of the usual extent of an action from which it counts
# Usual extents: of travel as a share of the frame, of hops (rms) as one of its height, of growth in log size.
_TRAVEL, _HOPS, _GROWTH = 0.26, 0.075, math.log(1.9)


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
    background = _background(pixels)
    if background is None:
        return _blank(nothing, None, math.inf)
    word, off = _nearest(background, BACKGROUNDS)
    difference = pixels - background
    contrast = np.linalg.norm(_smooth(difference), axis=-1)  # T H W
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
    sizes = np.exp(_line_fit(times, 0.5 * np.log(areas[seen]))[1])  # one smooth course: single frames are noisy
    fit = _fit_shape(_patches(alpha[seen], positions[seen], sizes))
    named, color_off = _nearest(background + line * fit.amplitude, COLORS)
    direction, margin = _direction(times, positions[seen], pixels.shape)
    return Observation(
        color=canonical_color(named) if named else None,
        color_distance=color_off,
        shape=fit.shape,
        shape_margin=fit.margin,
        action=_action(times, positions[seen], sizes, fit.turns, pixels.shape) if fit.shape else None,
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


def _background(pixels: Floats) -> Floats | None:
    flat = pixels.reshape(-1, 3)
    center = np.median(flat, axis=0)
    for _ in range(3):
        near = np.linalg.norm(flat - center, axis=1) < _NEAR
        if near.mean() < _LEAST_BACKGROUND:
            return None
        center = np.median(flat[near], axis=0)
    return center


def _nearest(color: Floats, palette: dict[str, tuple[int, int, int]]) -> tuple[str | None, float]:
    off, word = min((float(np.linalg.norm(color - rgb)), word) for word, rgb in palette.items())
    return (word if off < _FARTHEST_COLOR else None), off


def _smooth(maps: Floats) -> Floats:
    """Weights 1, 2, 1 along H and W of `(T, H, W, ...)`, edges repeated."""
    for axis in (1, 2):
        padding = [(1, 1) if index == axis else (0, 0) for index in range(maps.ndim)]
        padded = np.pad(maps, padding, mode="edge")
        size = maps.shape[axis]
        first, middle, last = (padded.take(range(k, k + size), axis) for k in range(3))
        maps = 0.25 * (first + last) + 0.5 * middle
    return maps


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
    firm = np.clip(_smooth(alpha) - 0.35, 0.0, 1.0)
    broad = _smooth(_smooth(_smooth(firm)))
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


def _line_fit(times: NDArray[np.int64], values: Floats) -> tuple[float, Floats]:
    """Least-squares line through (time, value): the change from first to last time, and the fitted values."""
    if len(times) < 2:
        return 0.0, values
    centered = times - times.mean()
    slope = float(centered @ values / (centered @ centered))
    return slope * float(times[-1] - times[0]), values.mean() + slope * centered


def _patches(alpha: Floats, positions: Floats, sizes: Floats) -> Floats:
    """Coverage on a grid around each center, scaled to unit mass, bilinear, 0 outside: `(T, P, P)`."""
    frames, height, width = alpha.shape
    padded = np.pad(alpha, ((0, 0), (1, 1), (1, 1)))
    axis = np.linspace(-_HALF, _HALF, _SIDE)
    x = np.clip(positions[:, 0, None] + sizes[:, None] * axis, -1.0, width - 1e-6) + 1  # T P, in padded pixels
    y = np.clip(positions[:, 1, None] + sizes[:, None] * axis, -1.0, height - 1e-6) + 1
    i, j = y.astype(int)[:, :, None], x.astype(int)[:, None, :]
    v, u = (y % 1)[:, :, None], (x % 1)[:, None, :]
    t = np.arange(frames)[:, None, None]
    upper = padded[t, i, j] * (1 - u) + padded[t, i, j + 1] * u
    lower = padded[t, i + 1, j] * (1 - u) + padded[t, i + 1, j + 1] * u
    return upper * (1 - v) + lower * v


@dataclass(frozen=True)
class _Templates:
    """Every shape at every blur, scale and angle.

    Attributes:
        rows: `(K, P*P)`, each centered and of unit norm.
        norms: `(K,)`, what each was divided by.
        groups: For each shape, the rows of each blur and scale: `(groups, angles)`.
    """

    rows: NDArray[np.float32]
    norms: Floats
    groups: dict[str, NDArray[np.int64]]


@lru_cache(maxsize=1)
def _templates() -> _Templates:
    fine = np.linspace(-_HALF, _HALF, _SIDE)
    x, y = np.meshgrid(fine, fine)
    step = fine[1] - fine[0]
    dense = np.linspace(-2, 2, 401)
    images: list[Floats] = []
    groups: dict[str, NDArray[np.int64]] = {}
    for shape in SHAPES:
        area = float((distance(shape, *np.meshgrid(dense, dense), np.ones(1)) < 0).mean() * 16)
        first = len(images)
        for blur, scale in product(_BLURS, _SCALES):
            for index in range(_ANGLES[shape]):
                angle = math.radians(index * _ANGLE_STEP)
                cos, sin = math.cos(angle), math.sin(angle)
                radius = np.array(scale / math.sqrt(area))
                away = distance(shape, x * cos + y * sin, y * cos - x * sin, radius)
                images.append(_blur(np.clip(0.5 - away / step, 0, 1), blur / step).ravel())
        groups[shape] = np.arange(first, len(images)).reshape(-1, _ANGLES[shape])
    rows = np.stack(images)
    rows -= rows.mean(1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1)
    return _Templates((rows / norms[:, None]).astype(np.float32), norms, groups)


def _blur(image: Floats, sigma: float) -> Floats:
    places = np.arange(_SIDE)
    kernel = np.exp(-0.5 * ((places[:, None] - places) / sigma) ** 2)
    kernel /= kernel.sum(1).max()
    return kernel @ image @ kernel


@dataclass(frozen=True)
class _Fit:
    shape: str | None
    margin: float
    turns: bool
    amplitude: float


def _fit_shape(patches: Floats) -> _Fit:
    """Correlate `(T, P, P)` patches as one volume with every template, still or turning evenly."""
    templates = _templates()
    frames = len(patches)
    flat = patches.reshape(frames, -1)
    flat = flat - flat.mean(1, keepdims=True)
    energy = float(np.linalg.norm(flat)) * math.sqrt(frames) + 1e-9
    # T K; a sum over T is a correlation. einsum: threads of a BLAS cost more than so small a product.
    products = np.einsum("tp,kp->tk", flat.astype(np.float32), templates.rows) / energy
    still = products.sum(0)
    course = np.rint(_TURNS[:, None] / _ANGLE_STEP * np.linspace(0, 1, frames)).astype(int)  # turns T
    best: dict[str, tuple[float, bool, float]] = {}
    for shape, group in templates.groups.items():
        row = int(group.ravel()[still[group].argmax()])
        best[shape] = (float(still[row]), False, float(still[row] / templates.norms[row]))
        angles = group.shape[1]
        if angles == 1 or frames == 1:
            continue
        group = group[int(products[:, group].max(-1).sum(0).argmax())]  # blur and scale, each frame at its best
        turned = group[(np.arange(angles)[:, None, None] + course) % angles]  # starts turns T
        moving = float(products[np.arange(frames), turned].sum(-1).max())
        if moving > still[row] + _TURN_MARGIN:
            best[shape] = (moving, True, moving / float(templates.norms[group[0]]))
    ranked = sorted(best, key=lambda shape: best[shape][0], reverse=True)
    score, turning, amplitude = best[ranked[0]]
    if score < _LEAST_FIT:
        return _Fit(None, 0.0, False, 1.0)
    return _Fit(ranked[0], score - best[ranked[1]][0], turning, amplitude * energy / frames)


def _travel(times: NDArray[np.int64], positions: Floats, shape: tuple[int, ...]) -> Floats:
    """Linear change of x and y over the clip, as shares of the frame."""
    changes = [_line_fit(times, positions[:, axis])[0] for axis in (0, 1)]
    return np.array(changes) / (shape[2], shape[1])


def _direction(times: NDArray[np.int64], positions: Floats, shape: tuple[int, ...]) -> tuple[str | None, float]:
    travel = _travel(times, positions, shape)
    axis = int(np.abs(travel).argmax())
    along, across = abs(float(travel[axis])), abs(float(travel[1 - axis]))
    if along < _VISIBLE * _TRAVEL or along < 1.5 * across:
        return None, along - across
    step = (int(np.sign(travel[0])), 0) if axis == 0 else (0, int(np.sign(travel[1])))
    return next(word for word, direction in DIRECTIONS.items() if direction == step), along - across


def _action(
    times: NDArray[np.int64], positions: Floats, sizes: Floats, turns: bool, shape: tuple[int, ...]
) -> str | None:
    _, course = _line_fit(times, positions[:, 1])
    growth = float(np.log(sizes[-1] / sizes[0]))
    strengths = {
        "travels": float(np.abs(_travel(times, positions, shape)).max()) / _TRAVEL,
        "bounces": float(np.sqrt(np.mean((positions[:, 1] - course) ** 2))) / shape[1] / _HOPS,
        "grows" if growth > 0 else "shrinks": abs(growth) / _GROWTH,
        "rotates": float(turns),
    }
    strongest = max(strengths, key=lambda name: strengths[name])
    if strengths[strongest] < _VISIBLE:
        return "stays"
    return _direction(times, positions, shape)[0] if strongest == "travels" else strongest
