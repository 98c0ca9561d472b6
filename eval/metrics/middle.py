"""The frames that VBench looks at where it does not look at all: the middles of n equal stretches.

    k = min(n, N),    bound(i) = i N // k,    frame i = (bound(i) + bound(i + 1) - 1) // 2

A video of fewer than n frames is filled up to n with its last one. How many frames there are is known before the first
goes by, so the chosen ones are picked while they pass.

Letters: N frames of the video or of a chunk, n frames chosen, H height, W width.
"""

from itertools import pairwise

import numpy as np

from eval.metric import Frames

__all__ = ["MiddleFrames", "middle_indices"]


def middle_indices(count: int, frames: int) -> list[int]:
    """Which frames are looked at, in order; a short video's last one more than once.

    Args:
        count: How many are asked for, n.
        frames: How many there are, N.
    """
    if frames < 1:
        raise ValueError(f"a video has one frame at least, got {frames}")
    stretches = min(count, frames)
    bounds = [place * frames // stretches for place in range(stretches + 1)]
    chosen = [(low + high - 1) // 2 for low, high in pairwise(bounds)]
    return chosen + chosen[-1:] * (count - len(chosen))


class MiddleFrames:
    """Picks the chosen frames out of chunks that pass in order.

    Args:
        count: How many are asked for, n.
        frames: How many will pass, N.
    """

    def __init__(self, count: int, frames: int) -> None:
        self.indices = np.array(middle_indices(count, frames))
        self.frames = frames
        self.passed = 0

    def pick(self, frames: Frames) -> Frames:
        """The chosen ones of the next chunk `(N, H, W, 3)`, a copy; it may be empty, or hold the last one often."""
        places = self.indices - self.passed
        self.passed += len(frames)
        return frames[places[(places >= 0) & (places < len(frames))]]

    def check(self) -> None:
        """Make sure that all have passed.

        Raises:
            ValueError: If there were fewer or more frames than announced: then other ones should have been chosen.
        """
        if self.passed != self.frames:
            raise ValueError(f"{self.passed} frames went by where {self.frames} were announced")
