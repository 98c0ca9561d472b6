"""Measures of a video that need no pretrained network, cheap enough for every validation.

Each metric is a small object: feed it frames one at a time with `update`, read `(name, value)` pairs from
`compute`. Memory does not grow with the length of the video. A metric that has seen too few frames to say
anything (one frame has no motion) yields nothing rather than a number that means nothing.

None of these is a VBench score. `temporal_flickering_unfiltered` is VBench's formula (Huang et al., VBench,
arXiv 2311.17982) without its choice of static videos; the others stand in for what VBench asks networks.

Letters: T frames, H height, W width, N displacements, R rows and K columns of blocks.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BlockMotion",
    "ColorConsistency",
    "FrameInterpolationSmoothness",
    "Metric",
    "Sharpness",
    "TemporalFlickering",
    "score_video",
]

Array = NDArray[np.float32]
Frame = NDArray[np.uint8]

_SEARCH_SIDE = 64  # short side at which blocks are searched; larger frames are averaged down to it
_NOISE = 1.0  # mean difference, in gray levels of 255, below which two blocks count as equal


class Metric(Protocol):
    """What a video metric offers."""

    def update(self, frame: Frame) -> None:
        """Take the next frame, `(H, W, 3)` uint8."""
        ...

    def compute(self) -> Iterator[tuple[str, float]]:
        """Yield the name and value of each figure the frames so far support."""
        ...


class TemporalFlickering:
    """VBench's temporal flickering of any video, static or not: 1 is a still, 0 alternates black and white.

    One minus the mean absolute difference of consecutive frames over 255, at native size. VBench keeps only
    static videos first, because motion lowers this figure as well; here nothing is filtered, hence the name.
    """

    def __init__(self) -> None:
        self._previous: Frame | None = None
        self._total = 0.0
        self._pairs = 0

    def update(self, frame: Frame) -> None:
        """Take the next frame, `(H, W, 3)` uint8."""
        _check_frame(frame, self._previous)
        if self._previous is not None:
            self._total += float(np.abs(frame.astype(np.int16) - self._previous).mean())
            self._pairs += 1
        self._previous = frame

    def compute(self) -> Iterator[tuple[str, float]]:
        """Yield `temporal_flickering_unfiltered` in [0, 1] from two frames on."""
        if self._pairs:
            yield "temporal_flickering_unfiltered", (255 - self._total / self._pairs) / 255


class FrameInterpolationSmoothness:
    """How well every second frame follows from its neighbors: 1 is perfectly smooth motion.

    The scheme of VBench's motion smoothness with block matching where VBench has a network: each odd frame is
    predicted from the even ones around it by moving every block half-way along the displacement at which they
    agree best, and compared with the frame that is there; one minus the mean absolute difference over 255.
    Frames are averaged down to a short side of at most 64 by a whole factor first, and motion of up to an
    eighth of that a frame and axis is followed.
    """

    def __init__(self) -> None:
        self._even: Array | None = None
        self._odd: Array | None = None
        self._previous: Frame | None = None
        self._total = 0.0
        self._predicted = 0

    def update(self, frame: Frame) -> None:
        """Take the next frame, `(H, W, 3)` uint8."""
        _check_frame(frame, self._previous)
        self._previous = frame
        small = _shrink(frame)
        if self._even is None:
            self._even = small
        elif self._odd is None:
            self._odd = small
        else:
            self._total += float(np.abs(_halfway(self._even, small) - self._odd).mean())
            self._predicted += 1
            self._even, self._odd = small, None

    def compute(self) -> Iterator[tuple[str, float]]:
        """Yield `frame_interpolation_smoothness` in [0, 1] from three frames on."""
        if self._predicted:
            yield "frame_interpolation_smoothness", (255 - self._total / self._predicted) / 255


class BlockMotion:
    """How fast the fastest parts move, in short sides of the frame a second, by block matching.

    Frames are averaged down to a short side of at most 64 and compared about eight times a second, as in
    VBench's dynamic degree. Each block of one eighth of the short side, those at the border aside, is
    searched for within one such block around its place in the earlier frame, so motion of up to one short
    side a second and axis is seen. The figure is the mean of the fastest 5% of the blocks, over all pairs,
    good to about a pixel of the small frame. A block counts as moving only if moving explains most of its
    change, so flat areas, flicker and noise read as nearly still.

    Args:
        fps: Frames per second of the video.
    """

    def __init__(self, fps: float) -> None:
        if not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"fps is a positive number of frames per second, got {fps}")
        self._stride = max(1, round(fps / 8))
        self._rate = fps / self._stride
        self._seen = 0
        self._previous: Frame | None = None
        self._compared: Array | None = None
        self._total = 0.0
        self._pairs = 0

    def update(self, frame: Frame) -> None:
        """Take the next frame, `(H, W, 3)` uint8."""
        _check_frame(frame, self._previous)
        self._previous = frame
        self._seen += 1
        if (self._seen - 1) % self._stride:
            return
        luma = _luma(_shrink(frame))
        if self._compared is not None:
            # What enters at the border came from outside: only blocks that can be found again are asked.
            lengths = np.sort(np.hypot(*_block_displacements(self._compared, luma))[1:-1, 1:-1].ravel())
            if lengths.size:
                fastest = lengths[-max(1, round(0.05 * lengths.size)) :]
                self._total += float(fastest.mean()) / min(luma.shape) * self._rate
                self._pairs += 1
        self._compared = luma

    def compute(self) -> Iterator[tuple[str, float]]:
        """Yield `motion_short_sides_per_second` from two compared frames on."""
        if self._pairs:
            yield "motion_short_sides_per_second", self._total / self._pairs


class ColorConsistency:
    """How far the colors stay those of the first frame: 1 is the same mix of colors throughout.

    The Bhattacharyya coefficient (the cosine of the square roots) of 8x8x8 color histograms, of each frame
    with the first, on average. It does not mind motion; it falls when an object changes its color, appears
    or fades away.
    """

    _BINS = 8

    def __init__(self) -> None:
        self._previous: Frame | None = None
        self._first: NDArray[np.float64] | None = None
        self._total = 0.0
        self._compared = 0

    def update(self, frame: Frame) -> None:
        """Take the next frame, `(H, W, 3)` uint8."""
        _check_frame(frame, self._previous)
        self._previous = frame
        root = np.sqrt(self._histogram(frame))
        if self._first is None:
            self._first = root
        else:
            self._total += min(1.0, float(self._first @ root))
            self._compared += 1

    def compute(self) -> Iterator[tuple[str, float]]:
        """Yield `color_consistency` in [0, 1] from two frames on."""
        if self._compared:
            yield "color_consistency", self._total / self._compared

    def _histogram(self, frame: Frame) -> NDArray[np.float64]:
        """Share each pixel among the eight nearest bins: one gray level more is then a small change."""
        place = frame.reshape(-1, 3).astype(np.float32) * ((self._BINS - 1) / 255)
        low = np.minimum(place.astype(np.int64), self._BINS - 2)
        upper = place - low  # share of the upper of two bins, per channel
        counts = np.zeros(self._BINS**3)
        for corner in np.ndindex(2, 2, 2):
            bins = (low + corner) @ np.array([self._BINS**2, self._BINS, 1])
            counts += np.bincount(bins, np.where(corner, upper, 1 - upper).prod(1), minlength=counts.size)
        return counts / len(place)


class Sharpness:
    """How much fine detail the frames hold: the mean magnitude of the brightness' Laplacian over 255.

    It depends on what is shown, and noise raises it: compare it with that of real clips of the same kind.
    """

    def __init__(self) -> None:
        self._previous: Frame | None = None
        self._total = 0.0
        self._frames = 0

    def update(self, frame: Frame) -> None:
        """Take the next frame, `(H, W, 3)` uint8."""
        _check_frame(frame, self._previous)
        self._previous = frame
        luma = np.pad(_luma(frame.astype(np.float32)), 1, mode="edge")
        middle = luma[1:-1, 1:-1]
        around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
        self._total += float(np.abs(around - 4 * middle).mean()) / 255
        self._frames += 1

    def compute(self) -> Iterator[tuple[str, float]]:
        """Yield `sharpness`, at least 0, from one frame on."""
        if self._frames:
            yield "sharpness", self._total / self._frames


def score_video(frames: Iterable[Frame], fps: float) -> dict[str, float]:
    """Score one video with every metric of this file, in one pass.

    Args:
        frames: `(H, W, 3)` uint8 each, all of one size; a generator that decodes a file will do.
        fps: Frames per second.

    Returns:
        Name to value. Figures that need more frames than there are, are absent.

    Raises:
        TypeError: A frame that is not uint8.
        ValueError: No frame at all, frames of different sizes, a bad rate.
    """
    metrics: list[Metric] = [
        TemporalFlickering(),
        FrameInterpolationSmoothness(),
        BlockMotion(fps),
        ColorConsistency(),
        Sharpness(),
    ]
    empty = True
    for frame in frames:
        empty = False
        for metric in metrics:
            metric.update(frame)
    if empty:
        raise ValueError("the video has no frames")
    return dict(pair for metric in metrics for pair in metric.compute())


def _check_frame(frame: NDArray[Any], previous: Frame | None) -> None:
    if frame.dtype != np.uint8:
        # Casting a NaN to uint8 gives an ordinary color, so floating point is refused before it can.
        raise TypeError(f"a frame is (H, W, 3) uint8, got {frame.dtype}; convert it, refusing NaN, first")
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise ValueError(f"a frame is (H, W, 3) uint8 and not empty, got shape {frame.shape}")
    if previous is not None and frame.shape != previous.shape:
        raise ValueError(f"all frames of a video have one size, got {frame.shape} after {previous.shape}")


def _luma(rgb: NDArray[Any]) -> Array:
    return rgb @ np.array([0.299, 0.587, 0.114], np.float32)


def _shrink(frame: Frame) -> Array:
    """Average a frame down by the whole factor that brings its short side to at most `_SEARCH_SIDE`."""
    factor = math.ceil(min(frame.shape[:2]) / _SEARCH_SIDE)
    rows, columns = (side // factor for side in frame.shape[:2])
    cut = frame[: rows * factor, : columns * factor].astype(np.float32)
    return cut.reshape(rows, factor, columns, factor, 3).mean((1, 3))


def _displacements(radius: int) -> NDArray[np.int64]:
    """All `(N, 2)` whole displacements within a square, shortest first, so that ties go to the shortest."""
    side = np.arange(-radius, radius + 1)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    return grid[np.argsort((grid**2).sum(1), kind="stable")]


def _block_means(image: Array, block: int) -> Array:
    """Average over whole blocks; what is left at the bottom and right joins no block."""
    rows, columns = image.shape[0] // block, image.shape[1] // block
    return image[: rows * block, : columns * block].reshape(rows, block, columns, block).mean((1, 3))


def _block_displacements(before: Array, after: Array) -> tuple[Array, Array]:
    """Find whence each block of `after` came: rows and columns, `(R, K)` each, to a part of a pixel."""
    block = max(1, min(after.shape) // 8)
    shifts = _displacements(block)
    padded = np.pad(before, block, mode="edge")
    height, width = after.shape
    costs = np.stack(
        [_block_means(np.abs(padded[block - y :, block - x :][:height, :width] - after), block) for y, x in shifts]
    )  # (N, R, K)
    best = costs.argmin(0)
    # A displacement counts if it explains most of the change: not where noise or a flat area decides, nor
    # where something has come into view that was nowhere before.
    unexplained = costs.min(0) > np.minimum(costs[0] - _NOISE, 0.5 * costs[0])
    best[unexplained] = 0
    lattice = np.full((2 * block + 3, 2 * block + 3, *best.shape), np.inf, np.float32)
    lattice[shifts[:, 0] + block + 1, shifts[:, 1] + block + 1] = costs
    motion = shifts[best].astype(np.float32)  # (R, K, 2)
    rows, columns = np.indices(best.shape)
    for axis in range(2):
        step = np.eye(2, dtype=np.int64)[axis]
        at = [
            lattice[
                shifts[best][..., 0] + block + 1 + side * step[0],
                shifts[best][..., 1] + block + 1 + side * step[1],
                rows,
                columns,
            ]
            for side in (-1, 0, 1)
        ]
        # Absolute differences fall and rise in straight lines around the true place: intersect the two.
        slope = np.maximum(at[0], at[2]) - at[1]
        sharp = (at[1] > _NOISE) & np.isfinite(slope) & (slope > 0)
        motion[..., axis][sharp] += np.clip((at[0] - at[2])[sharp] / slope[sharp] / 2, -0.5, 0.5)
    return motion[..., 0], motion[..., 1]


def _halfway(before: Array, after: Array) -> Array:
    """Predict the frame between two, `(H, W, 3)` each, by moving blocks half-way from either side."""
    height, width = before.shape[:2]
    block = max(1, min(height, width) // 8)
    shifts = _displacements(block)
    margin = ((block, 2 * block), (block, 2 * block), (0, 0))
    first, last = np.pad(before, margin, mode="edge"), np.pad(after, margin, mode="edge")
    tall, wide = -(-height // block) * block, -(-width // block) * block
    lowest = np.full((tall // block, wide // block), np.inf, np.float32)
    middle = np.empty((tall, wide, 3), np.float32)
    for y, x in shifts:
        one = first[block - y :, block - x :][:tall, :wide]
        two = last[block + y :, block + x :][:tall, :wide]
        # Moving costs a little, so that flat areas stay where they are.
        cost = _block_means(np.abs(one - two).mean(2), block) + (_NOISE if y or x else 0.0)
        better = cost < lowest
        lowest[better] = cost[better]
        pixels = better.repeat(block, 0).repeat(block, 1)
        middle[pixels] = ((one + two) / 2)[pixels]
    return middle[:height, :width]
