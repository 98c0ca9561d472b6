"""Which shape a patch shows, and whether it turns: correlation with every shape at several blurs, scales and angles.

Patches around the object, scaled to unit mass, are correlated as one volume with the templates, upright, tilted and
turning evenly.

Letters: T frames, P side of a patch, K templates, S shapes.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lingen_kit.data.shapes_grammar import SHAPES
from lingen_kit.data.shapes_renderer import distance

__all__ = ["Fit", "Pose", "fit_shape", "patches_around"]

Floats = NDArray[np.float64]

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


def patches_around(alpha: Floats, positions: Floats, sizes: Floats) -> Floats:
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
class Pose:
    """How a shape fits best, still and turning.

    Attributes:
        still: Correlation of the best template, the same in all frames.
        tilt: Its angle in radians.
        turning: Correlation of the best even turn; -1 if none was tried.
        start: Angle of that turn in the first frame, in radians.
        turn: Angle turned over the clip, in radians.
    """

    still: float
    tilt: float
    turning: float
    start: float
    turn: float

    @property
    def turns(self) -> bool:
        """Whether turning fits clearly better."""
        return self.turning > self.still + _TURN_MARGIN

    @property
    def score(self) -> float:
        """Correlation of the better of the two."""
        return self.turning if self.turns else self.still


@dataclass(frozen=True)
class Fit:
    """What patches show.

    Attributes:
        shape: The best fitting shape, None if none fits.
        margin: Its correlation less that of the second best shape.
        turns: Whether it turns.
        amplitude: Of the patches, relative to full coverage.
        poses: Of each shape.
        single: `(T, S)` correlation of each frame alone with each shape at its best.
    """

    shape: str | None
    margin: float
    turns: bool
    amplitude: float
    poses: dict[str, Pose]
    single: Floats


def fit_shape(patches: Floats) -> Fit:
    """Correlate `(T, P, P)` patches as one volume with every template, still or turning evenly."""
    bank = _templates()
    frames = len(patches)
    flat = patches.reshape(frames, -1)
    flat = flat - flat.mean(1, keepdims=True)
    energy = float(np.linalg.norm(flat)) * math.sqrt(frames) + 1e-9
    # T K; a sum over T is a correlation. einsum: threads of a BLAS cost more than so small a product.
    products = np.einsum("tp,kp->tk", flat.astype(np.float32), bank.rows) / energy
    still = products.sum(0)
    course = np.rint(_TURNS[:, None] / _ANGLE_STEP * np.linspace(0, 1, frames)).astype(int)  # turns T
    poses: dict[str, Pose] = {}
    amplitudes: dict[str, float] = {}
    for shape, group in bank.groups.items():
        angles = group.shape[1]
        place = int(still[group].argmax())
        row = int(group.ravel()[place])
        tilt = math.radians(place % angles * _ANGLE_STEP)
        pose = Pose(float(still[row]), tilt, -1.0, tilt, 0.0)
        if angles > 1 and frames > 1:
            group = group[int(products[:, group].max(-1).sum(0).argmax())]  # blur and scale, each frame at its best
            turned = group[(np.arange(angles)[:, None, None] + course) % angles]  # starts turns T
            moving = products[np.arange(frames), turned].sum(-1)
            start, turn = divmod(int(moving.argmax()), len(_TURNS))
            turned_by = math.radians(float(_TURNS[turn]))
            pose = Pose(pose.still, tilt, float(moving[start, turn]), math.radians(start * _ANGLE_STEP), turned_by)
        poses[shape] = pose
        norm = float(bank.norms[group[0] if pose.turns else row])
        amplitudes[shape] = pose.score / norm * energy / frames
    lengths = np.linalg.norm(flat, axis=1) + 1e-9
    single = np.stack([products[:, group.ravel()].max(1) for group in bank.groups.values()], -1)  # T S
    single = single * (energy / lengths)[:, None]
    ranked = sorted(poses, key=lambda shape: poses[shape].score, reverse=True)
    best, second = poses[ranked[0]], poses[ranked[1]]
    if best.score < _LEAST_FIT:
        return Fit(None, 0.0, False, 1.0, poses, single)
    return Fit(ranked[0], best.score - second.score, best.turns, amplitudes[ranked[0]], poses, single)
