"""A decoded frame as every meter gets it, with what several of them derive from it computed once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Pixels = np.ndarray[Any, np.dtype[Any]]

SMALL = 128
"""Shorter side of `Frame.small` in pixels."""


class Frame:
    """One frame of the pass over a file.

    Args:
        time: Seconds from the first frame of the file.
        rgb: `(H, W, 3)` uint8, upright, already scaled to the shorter side of the pass.
    """

    def __init__(self, time: float, rgb: Pixels) -> None:
        self.time = time
        self.rgb = rgb

    @cached_property
    def gray(self) -> Pixels:
        """Luma, `(H, W)` uint8."""
        import cv2

        return cv2.cvtColor(self.rgb, cv2.COLOR_RGB2GRAY)

    @cached_property
    def small(self) -> Pixels:
        """The frame scaled down once more, to a shorter side of `SMALL`: `(h, w, 3)` uint8."""
        return shrink(self.rgb, SMALL)

    @cached_property
    def small_gray(self) -> Pixels:
        """Luma of `small`, `(h, w)` uint8."""
        import cv2

        return cv2.cvtColor(self.small, cv2.COLOR_RGB2GRAY)


def shrink(image: Pixels, shorter_side: int) -> Pixels:
    """Scale an image down to a shorter side, each pixel the mean of those that it stands for; never up."""
    import cv2

    height, width = image.shape[:2]
    scale = shorter_side / min(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
