"""Consistency of subject and background: how alike the features of frames stay (VBench, arXiv 2311.17982, 4.1).

Each frame from the second on is compared with the one before and with the first; negative cosines count as 0:

    value = mean over i >= 1 of (max(0, cos(f_i, f_(i-1))) + max(0, cos(f_i, f_0))) / 2

A set of videos is the mean over all frames, so a long video counts more than a short one.

Letters: N frames of a chunk, D features.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor

from eval.metric import Frames, Metric, Observer, Score, VideoFacts

__all__ = ["Consistency", "Extractor"]


class Extractor(Protocol):
    """Features of frames. Plain options that can be pickled; the network is loaded at the first call, once a process.

    Attributes:
        name: Of the network.
    """

    name: str

    def made_by(self) -> dict[str, Any]:
        """The network, the hash of its weights, and what frames go through before it."""
        ...

    def __call__(self, frames: Frames) -> Tensor:
        """Frames `(N, H, W, 3)` uint8 -> features `(N, D)` float32 on the CPU."""
        ...


class Consistency(Metric):
    """The formula on the features of an extractor.

    Args:
        name: Of the figure.
        extractor: What sees the frames.
    """

    def __init__(self, name: str, extractor: Extractor) -> None:
        self.names = (name,)
        self.extractor = extractor

    def observe(self, video: VideoFacts) -> Observer:
        """Begin a video."""
        return _Comparing(self.names[0], self.extractor)

    def made_by(self) -> dict[str, Any]:
        """The extractor."""
        return self.extractor.made_by()


class _Comparing(Observer):
    def __init__(self, name: str, extractor: Extractor) -> None:
        self.name, self.extractor = name, extractor
        self.first: Tensor | None = None
        self.before: Tensor | None = None
        self.total, self.count = 0.0, 0

    def update(self, frames: Frames) -> None:
        for feature in F.normalize(self.extractor(frames).double(), dim=-1):  # D
            if self.first is None or self.before is None:
                self.first = feature
            else:
                near, far = (max(0.0, float(feature @ other)) for other in (self.before, self.first))
                self.total += (near + far) / 2
                self.count += 1
            self.before = feature

    def scores(self) -> Mapping[str, Score]:
        if not self.count:
            return {self.name: Score.none("a single frame has nothing to be consistent with")}
        return {self.name: Score(self.total / self.count, weight=self.count)}
