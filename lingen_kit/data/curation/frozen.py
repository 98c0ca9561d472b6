"""Pictures that stand still: slides, title cards, a player that hung."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from lingen_kit.data.curation.filter import Candidate, Filter, Limit, Meter

if TYPE_CHECKING:
    from lingen_kit.data.curation.filter import Measured
    from lingen_kit.data.curation.frame import Frame, Pixels

_BLOCK = 16


class Frozen(Filter):
    """Drops clips that stand still for a share of their time.

    Two sampled frames are the same picture when no block of 16 x 16 pixels of the small frame differs by more than
    `change` in its mean. The greatest block, not the mean of the frame: a person who speaks in front of a wall moves
    few pixels, and an encoder's key frames move all of them a little. Real footage scores 0; a still picture 1.
    Animation drawn on twos or threes is no still: frames are compared at `fps`.

    Args:
        max_frozen: Greatest share of sampled frames that repeat the one before.
        change: Greatest mean difference of a block, of 255, in a still picture.
        fps: Frames per second looked at.
    """

    explains: ClassVar[Mapping[str, str]] = {
        "frozen": "share of frames that repeat the one before; 1 is a still picture"
    }
    measured_by = ("fps",)
    packages = ("cv2",)

    def __init__(self, max_frozen: float = 0.2, change: float = 2.0, fps: float = 4.0) -> None:
        self.max_frozen, self.change, self.fps = max_frozen, change, fps

    def meter(self) -> Meter:
        """Compares each sampled frame with the one before."""
        return _FrozenMeter(self.fps)

    def scores(self, clip: Candidate, measured: Measured) -> dict[str, float]:
        """The share of pairs in the clip that do not differ."""
        import numpy as np

        pairs = clip.inside(measured["times"])[1:]  # the first one's partner lies outside
        return {"frozen": float((measured["change"][pairs] <= self.change).mean()) if len(pairs) else np.nan}

    def limits(self) -> Mapping[str, Limit]:
        """Its bound."""
        return {"frozen": (None, self.max_frozen)}


class _FrozenMeter(Meter):
    def __init__(self, fps: float) -> None:
        super().__init__(fps)
        self.times: list[float] = []
        self.changes: list[float] = []
        self.before: Pixels | None = None

    def add(self, frame: Frame) -> None:
        import cv2

        gray = frame.small_gray
        change = 0.0
        if self.before is not None:
            difference = cv2.absdiff(gray, self.before)
            height, width = (max(1, side // _BLOCK) for side in difference.shape)
            change = float(cv2.resize(difference, (width, height), interpolation=cv2.INTER_AREA).max())
        self.before = gray
        self.times.append(frame.time)
        self.changes.append(change)

    def result(self) -> Measured:
        import numpy as np

        return {"times": np.array(self.times), "change": np.array(self.changes, np.float32)}
