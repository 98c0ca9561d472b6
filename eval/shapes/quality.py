"""How well a clip is made, whatever it was asked for: the Quality dimensions, from the geometry that was fitted to it.

They ask what VBench asks (Huang et al., arXiv 2311.17982), but the closed world knows which pixels must not change and
where an object has to be in each frame, so nothing is left to a network. VBench's aesthetic quality has no counterpart.
All are in [0, 1]; 1 is what the renderer paints.

- Subject consistency: whether each object keeps its color, shape and course of size, by VBench's formula: the mean of
  the likeness to the frame before and to the first.
- Background consistency: the same formula on the smoothed pixels of the background.
- Temporal flickering: change from frame to frame of what must not change, single pixels of the background and colors of
  objects.
- Motion smoothness: second differences of the tracks, beyond those of the ideal course of the action that is seen.
- Dynamic degree: share of the objects asked for that move if and only if the prompt says so; details give the amount.
- Imaging quality: sharpness and noise, what is left when the fitted geometry is painted anew and taken away.

Letters: T frames, H height, W width, F frames in which an object is seen.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eval.metric import Score
from eval.shapes.courses import roughness, states
from eval.shapes.match import Pair
from eval.shapes.observation import ObjectObservation, SceneObservation
from eval.shapes.segment import smooth
from lingen_kit.data.shapes_renderer import Track, coverage

__all__ = ["quality"]

Floats = NDArray[np.float64]
Frames = NDArray[np.uint8]
Maps = NDArray[np.bool_]

_WORST = 64.0  # gray levels of 255: a change, or noise, that leaves nothing of a clip's quality
_COLOR_CHANGE = 100.0  # RGB distance at which the likeness of two colors falls to 1/e
_SIZE_CHANGE = 0.3  # change of the logarithm of the radius, beyond its course, at which likeness falls to 1/e
_MARGIN = 3.0  # pixels beside an object that its soft edge may touch
_REACH = 1.3  # radii that every shape stays within

_ONE_FRAME = "a single frame has no course in time"
_NOTHING = "nothing is seen"


def quality(observation: SceneObservation, pairs: Sequence[Pair], frames: Frames) -> dict[str, Score]:
    """The six, by their plain names.

    Args:
        observation: What was seen.
        pairs: Of the scene that was asked for and the observation, by `match`.
        frames: `(T, H, W, 3)` uint8.
    """
    many = len(frames) > 1
    pixels = frames.astype(np.float64)
    empty = _empty(observation, frames.shape)
    return {
        "subject_consistency": _subject(observation) if many else Score.none(_ONE_FRAME),
        "background_consistency": _background(observation, pixels, empty) if many else Score.none(_ONE_FRAME),
        "temporal_flickering": _flickering(observation, pixels, empty) if many else Score.none(_ONE_FRAME),
        "motion_smoothness": _smoothness(observation, frames.shape),
        "dynamic_degree": _dynamic(pairs, frames.shape) if many else Score.none(_ONE_FRAME),
        "imaging_quality": _imaging(observation, pixels, empty),
    }


def _failed() -> Score:
    return Score(0.0, details={"why": _NOTHING})


def _empty(observation: SceneObservation, shape: tuple[int, ...]) -> Maps:
    """`(T, H, W)` pixels that only the background can fill."""
    y, x = np.mgrid[: shape[1], : shape[2]]
    free = np.ones(shape[:3], np.bool_)
    for seen in observation.objects:
        away = np.hypot(x - seen.positions[:, 0, None, None], y - seen.positions[:, 1, None, None])
        free &= ~(away < _REACH * seen.radii[:, None, None] + _MARGIN)  # a comparison with NaN is false
    return free


def _subject(observation: SceneObservation) -> Score:
    if not observation.objects:
        return _failed()
    each = [_identity(seen) for seen in observation.objects]
    return Score(float(np.mean(each)), details={"objects": [round(value, 4) for value in each]})


def _identity(seen: ObjectObservation) -> float:
    """Mean over the frames from the second of the likeness to the one before and to the first in which it is seen."""
    times = np.flatnonzero(seen.present)
    size = np.log(seen.radii[times])
    course = np.polyval(np.polyfit(times, size, 1), times) if len(times) > 1 else size
    off = np.full(len(seen.present), np.nan)
    off[times] = size - course

    def likeness(one: NDArray[np.int64], other: NDArray[np.int64]) -> Floats:
        color = np.exp(-np.linalg.norm(seen.colors[one] - seen.colors[other], axis=-1) / _COLOR_CHANGE)
        shape = np.sqrt(seen.shapes[one] * seen.shapes[other]).sum(-1)  # Bhattacharyya's coefficient
        growth = np.exp(-np.abs(off[one] - off[other]) / _SIZE_CHANGE)
        return np.nan_to_num(color * shape * growth, nan=0.0)  # an object that is not there is like nothing

    later = np.arange(1, len(seen.present))
    return float(0.5 * (likeness(later, later - 1) + likeness(later, np.full_like(later, times[0]))).mean())


def _background(observation: SceneObservation, pixels: Floats, empty: Maps) -> Score:
    if observation.background_rgb is None:
        return _failed()
    smoothed = smooth(smooth(pixels))

    def likeness(one: int, other: int) -> float | None:
        both = empty[one] & empty[other]
        if not both.any():
            return None
        return max(0.0, 1.0 - float(np.abs(smoothed[one] - smoothed[other])[both].mean()) / _WORST)

    found = [likeness(t, other) for t in range(1, len(pixels)) for other in (t - 1, 0)]
    values = [value for value in found if value is not None]
    return Score(float(np.mean(values))) if values else Score.none("no pixel is background in two frames")


def _flickering(observation: SceneObservation, pixels: Floats, empty: Maps) -> Score:
    if observation.background_rgb is None:
        return _failed()
    both = empty[1:] & empty[:-1]
    total = float(np.abs(np.diff(pixels, axis=0)).mean(-1)[both].sum())
    count = float(both.sum())
    for seen in observation.objects:
        change = np.abs(np.diff(seen.colors, axis=0)).mean(-1)  # T - 1
        areas = 0.5 * (seen.areas[1:] + seen.areas[:-1])
        there = np.isfinite(change)
        total += float((change * areas)[there].sum())
        count += float(areas[there].sum())
    if not count:
        return Score.none("nothing stays in place for two frames")
    return Score(max(0.0, 1.0 - total / count / _WORST), details={"gray_levels": round(total / count, 4)})


def _smoothness(observation: SceneObservation, shape: tuple[int, ...]) -> Score:
    if shape[0] < 3:
        return Score.none("smoothness takes three frames")
    if not observation.objects:
        return _failed()
    found = [roughness(seen, shape[1], shape[2]) for seen in observation.objects]
    values = [value for value in found if value is not None]
    if not values:
        return Score(0.0, details={"why": "no object is seen in three frames in a row"})
    return Score(float(np.mean([math.exp(-value) for value in values])))


def _dynamic(pairs: Sequence[Pair], shape: tuple[int, ...]) -> Score:
    asked = [(pair.asked.action, pair.seen) for pair in pairs if pair.asked.action]
    if not asked:
        return Score.none("the prompt names no action")
    right = [seen is not None and (seen.action != "stays") == (action != "stays") for action, seen in asked]
    amounts = [_amount(seen, shape) if seen else 0.0 for _, seen in asked]
    return Score(sum(right) / len(right), details={"amounts": [round(amount, 4) for amount in amounts]})


def _amount(seen: ObjectObservation, shape: tuple[int, ...]) -> float:
    """The widest range of the object's state, 1 for what any action changes at least."""
    course = states(seen, shape[1], shape[2])[seen.present]
    return float((course.max(0) - course.min(0)).max())


def _imaging(observation: SceneObservation, pixels: Floats, empty: Maps) -> Score:
    """Falls with two ratios: error to contrast around the objects, and noise of the background to `_WORST`."""
    if observation.background_rgb is None or not observation.objects:
        return _failed()
    still = np.stack(  # T 3: each frame's own, since flickering is another dimension
        [
            np.median(frame[free], axis=0) if free.any() else observation.background_rgb
            for frame, free in zip(pixels, empty, strict=True)
        ]
    )
    ground = np.broadcast_to(still[:, None, None], pixels.shape)
    painted = ground.copy()
    height, width = pixels.shape[1:3]
    for seen in observation.objects:
        times = np.flatnonzero(seen.present)
        track = Track(seen.shape or "circle", (0, 0, 0), seen.positions[times], seen.radii[times], seen.angles[times])
        cover = coverage(track, height, width)[..., None]  # F H W 1
        painted[times] += cover * (seen.colors[times][:, None, None] - painted[times])
    error, contrast = (((image - other) ** 2).mean(-1) for image, other in ((pixels, painted), (painted, ground)))
    around = ~empty
    blur = math.sqrt(float(error[around].sum()) / max(float(contrast[around].sum()), 1e-9))
    noise = math.sqrt(float(error[empty].mean())) / _WORST if empty.any() else 0.0
    edges = [round(seen.blur, 3) for seen in observation.objects]
    return Score(math.exp(-blur - noise), details={"error": round(blur, 4), "noise": round(noise, 4), "blur": edges})
