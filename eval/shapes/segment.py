"""From pixels to blobs: the background, what stands out from it, and which pixels of a frame belong together.

A frame is cut along its valleys: each pixel climbs the contrast with the background to a summit, and summits between
which the ridge hardly dips are one blob, unless their colors are not of one mixture with the background: a watershed,
in steps that are vectorized over the clip.

Letters: T frames, H height, W width.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_AREA", "Blob", "background_color", "blobs", "leveled", "noise_level", "smooth"]

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

LEAST_AREA = 5.0
"""Pixels, below which a blob is noise."""

_NEAR = 60.0  # RGB distance within which a pixel can be background, noise included
_LEAST_BACKGROUND = 0.35  # share of pixels that must be background, or there is none
_MOST_FLICKER = 120.0  # RGB distance of a frame's background from the clip's beyond which it is another one
_LEAST_CONTRAST = 20.0  # RGB distance from the background below which nothing is an object
_RIDGE = 0.75  # how far the ridge between two summits may dip, as a share of the lower one, within one blob
_ONE_MIXTURE = 35.0  # RGB distance from the line between background and a color within which a pixel is their mixture
_CORE = 0.85  # share of a summit's contrast from which pixels bear the blob's color
_LEFT = 0.375  # share of the noise that is left after smoothing
_MOST_BLOBS = 6  # of a frame, the largest


def background_color(pixels: Floats) -> Floats | None:
    """Mode of the pixels `(..., 3)` in RGB, None if too few are near one color."""
    flat = pixels.reshape(-1, 3)
    center = np.median(flat, axis=0)
    for _ in range(3):
        near = np.linalg.norm(flat - center, axis=1) < _NEAR
        if near.mean() < _LEAST_BACKGROUND:
            return None
        center = np.median(flat[near], axis=0)
    return center


def smooth(maps: Floats) -> Floats:
    """Weights 1, 2, 1 along H and W of `(T, H, W, ...)`, edges repeated."""
    for axis in (1, 2):
        padding = [(1, 1) if index == axis else (0, 0) for index in range(maps.ndim)]
        padded = np.pad(maps, padding, mode="edge")
        size = maps.shape[axis]
        first, middle, last = (padded.take(range(k, k + size), axis) for k in range(3))
        maps = 0.25 * (first + last) + 0.5 * middle
    return maps


def leveled(pixels: Floats) -> tuple[Floats, Floats, Floats] | None:
    """Take a changing light off a clip, as far as the background shows it.

    Returns:
        The pixels with every frame's background at that of the clip, the clip's background `(3,)`, and what was taken
        off each frame `(T, 3)`; None if fewer than half of the frames have a background.
    """
    own = [background_color(frame) for frame in pixels]
    known = [color for color in own if color is not None]
    if 2 * len(known) < len(own) or not known:
        return None
    background = np.median(known, axis=0)
    offsets = np.array([np.zeros(3) if color is None else color - background for color in own])
    offsets[np.linalg.norm(offsets, axis=1) > _MOST_FLICKER] = 0.0
    return pixels - offsets[:, None, None], background, offsets


def noise_level(pixels: Floats, background: Floats) -> float:
    """Standard deviation of a channel's noise, from the pixels that can only be background."""
    near = np.linalg.norm(pixels - background, axis=-1) < _NEAR
    return 1.4826 * float(np.median(np.abs(pixels[near] - background)))


@dataclass(frozen=True)
class Blob:
    """What belongs together in one frame.

    Attributes:
        color: `(3,)`, 0 to 255, of its most contrasted pixels.
        center: `(2,)`, (x, y) in pixels.
        mass: Its contrast over that of its summit: about its area in pixels.
        label: Its value in the map of labels.
    """

    color: Floats
    center: Floats
    mass: float
    label: int


def blobs(pixels: Floats, background: Floats, noise: float) -> tuple[list[list[Blob]], Labels]:
    """Cut a clip into blobs.

    Args:
        pixels: `(T, H, W, 3)`, 0 to 255.
        background: `(3,)`.
        noise: Standard deviation of a channel's noise.

    Returns:
        For each frame its blobs, largest first, and their labels `(T, H, W)`, -1 elsewhere.
    """
    smoothed = smooth(pixels - background)
    contrast = np.linalg.norm(smoothed, axis=-1)  # T H W
    # Most pixels are background, so the median contrast is noise: 5 times its scale is beyond its reach.
    threshold = max(_LEAST_CONTRAST, 5 * float(np.median(contrast)) / 1.54)
    labels = _merged(_summits(contrast, threshold), contrast, smoothed, _LEFT * noise)
    found: list[list[Blob]] = [[] for _ in pixels]
    height, width = contrast.shape[1:]
    flat, colors, strength = labels.ravel(), pixels.reshape(-1, 3), contrast.ravel()
    places = np.flatnonzero(flat >= 0)
    order = places[np.argsort(flat[places], kind="stable")]
    cuts = np.flatnonzero(np.diff(flat[order])) + 1
    for group in np.split(order, cuts) if order.size else ():
        label, here = int(flat[group[0]]), strength[group]
        mass = float(here.sum() / here.max())
        if mass < LEAST_AREA:
            flat[group] = -1
            continue
        core = group[here >= _CORE * here.max()]
        center = np.array([(group % width) @ here, (group // width % height) @ here]) / here.sum()
        found[label // (height * width)].append(Blob(np.median(colors[core], axis=0), center, mass, label))
    for blob_list in found:
        blob_list.sort(key=lambda blob: -blob.mass)
        for blob in blob_list[_MOST_BLOBS:]:
            flat[flat == blob.label] = -1
        del blob_list[_MOST_BLOBS:]
    return found, flat.reshape(labels.shape)


def _summits(contrast: Floats, threshold: float) -> Labels:
    """For each pixel above the threshold the flat index of the summit that it climbs to, -1 elsewhere."""
    _, height, width = contrast.shape
    index = np.arange(contrast.size).reshape(contrast.shape)
    # Plateaus are equal but for rounding; there the climb follows the index, so that it never runs in a circle.
    steep = np.round(contrast, 3) + index * (1e-4 / contrast.size)
    padded = np.pad(steep, ((0, 0), (1, 1), (1, 1)), constant_values=-1.0)
    best, goal = steep.copy(), index.copy()
    for down in (0, 1, 2):
        for right in (0, 1, 2):
            there = padded[:, down : down + height, right : right + width]
            higher = there > best
            best[higher] = there[higher]
            goal[higher] = index[higher] + (down - 1) * width + right - 1
    flat = goal.ravel()
    while not np.array_equal(flat, flat[flat]):
        flat = flat[flat]
    return np.where(contrast > threshold, flat.reshape(contrast.shape), -1)


def _merged(labels: Labels, contrast: Floats, smoothed: Floats, noise: float) -> Labels:
    """Join summits between which the ridge hardly dips; labels of `(T, H, W)` stay flat indices of summits."""
    ridges: list[NDArray[np.float64]] = []
    _, height, width = labels.shape
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = (slice(None), slice(0, height - down), slice(max(0, -right), width - max(0, right)))
        there = (slice(None), slice(down, height), slice(max(0, right), width - max(0, -right)))
        a, b = labels[here], labels[there]
        meet = (a != b) & (a >= 0) & (b >= 0)
        dip = np.minimum(contrast[here][meet], contrast[there][meet])
        ridges.append(np.stack([np.minimum(a[meet], b[meet]), np.maximum(a[meet], b[meet]), dip]))
    pairs = np.concatenate(ridges, axis=1)
    pairs = pairs[:, np.argsort(-pairs[2], kind="stable")]
    heights, colors = contrast.ravel(), smoothed.reshape(-1, 3)
    parent: dict[int, int] = {}

    def root(label: int) -> int:
        while parent.get(label, label) != label:
            label = parent[label]
        return label

    for first, second, dip in pairs.T:
        one, other = root(int(first)), root(int(second))
        if one == other:
            continue
        low, high = sorted((one, other), key=lambda label: heights[label])
        line = colors[high] / heights[high]
        beside = float(np.linalg.norm(colors[low] - (colors[low] @ line) * line))
        if dip >= _RIDGE * heights[low] - 3 * noise and beside < _ONE_MIXTURE + 3 * noise:
            parent[low] = high
    if parent:
        known = np.array(sorted(parent))
        roots = np.array([root(int(label)) for label in known])
        at = np.searchsorted(known, labels).clip(max=len(known) - 1)
        labels = np.where(known[at] == labels, roots[at], labels)
    return labels
