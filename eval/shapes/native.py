"""The pixels that a model drew, out of a file in which each of them is a square of several.

Small videos are written enlarged by a whole factor, so that a person can see them and the codec's halved color channels
do not smear them. A judge wants the pixels themselves.

Letters: T frames, H height, W width.
"""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["pixel_side", "reduce_frames"]

Frames = NDArray[np.uint8]

# Mean square of changes inside squares as a share of that across their borders. Squares that H.264 went over have 0.2
# at most, unless color alone tells object from background; pixels that are pixels have 0.5 and more.
_FLAT = 0.3
_MOST_SIDE = 64  # short side at which shapes are judged; larger frames are averaged down to it


def pixel_side(frames: Frames) -> int:
    """How many pixels of the file make one of the model: the side of the squares that the frames consist of.

    Args:
        frames: `(T, H, W, 3)` uint8.

    Returns:
        The side that divides height and width and inside whose squares the least changes; 1 if as much changes there as
        elsewhere, or nothing anywhere. Where object and background are equally bright, only the color channels tell
        them apart, which the codec halves: their squares may not be found.
    """
    _, height, width, _ = frames.shape
    shown = frames[:4].astype(np.float32)  # T H W 3
    # How much the picture changes from one column, or row, to the next.
    columns = np.square(np.diff(shown, axis=2)).mean((0, 1, 3))
    rows = np.square(np.diff(shown, axis=1)).mean((0, 2, 3))
    common, ratios = math.gcd(height, width), {1: _FLAT}
    for side in range(2, min(common, 32) + 1):
        if common % side or min(height, width) // side < 16:
            continue
        inside = across = 0.0
        for changes in (columns, rows):
            border = np.arange(1, len(changes) + 1) % side == 0
            inside += float(changes[~border].mean())
            across += float(changes[border].mean())
        if across > 0:
            ratios[side] = inside / across
    return min(ratios, key=lambda side: ratios[side])


def reduce_frames(frames: Frames, side: int) -> Frames:
    """Average frames over squares, and further until their short side is at most 64.

    Args:
        frames: `(T, H, W, 3)` uint8.
        side: Of the squares, see `pixel_side`.

    Returns:
        `(T, H', W', 3)` uint8; rows and columns that fill no square are left out.
    """
    factor = side * max(1, math.ceil(min(frames.shape[1:3]) / side / _MOST_SIDE))
    if factor == 1:
        return frames
    count, height, width, _ = frames.shape
    rows, columns = height // factor, width // factor
    cut = frames[:, : rows * factor, : columns * factor].reshape(count, rows, factor, columns, factor, 3)
    return np.rint(cut.mean((2, 4), dtype=np.float32)).astype(np.uint8)
