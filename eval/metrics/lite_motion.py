"""Motion without a network: VBench's motion figures (arXiv 2311.17982, 4.1) with classical optical flow in them.

`LiteFlow` stands where VBench asks RAFT: `dynamic_degree/lite` and `temporal_flickering/lite` are VBench's formulas
with it. `motion_smoothness/lite` is VBench's scheme with the same flow where VBench has AMT: every second frame is
dropped, predicted from the two around it, and compared with the one that was there:

    value = (255 - mean over predicted frames of the mean absolute difference of the pixels) / 255

Figures end in `/lite`: they order the same faults as VBench's do, on a scale of their own.

Letters: N frames of a chunk, H height, W width, h height, w width of a reduced frame.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.metric import Frame, Frames, Metric, Observer, Recent, Score, VideoFacts
from eval.metrics.optical_flow import SHORT_SIDE, View, flow_between, sampled, view

__all__ = ["LiteFlow", "LiteMotionSmoothness", "halfway"]

_LEAST_SIDE = 16  # below it a window of the flow is the whole frame
_METHOD = {"method": "pyramid of windowed least squares with smoothness, from half-way", "short_side": SHORT_SIDE}


@cache
def _views() -> Recent[View]:
    """A frame is in several pairs, and in those of several metrics."""
    return Recent(view)


@cache
def _flows() -> Recent[Tensor]:
    """Flow of a pair `(2, h, w)`: at 16 frames a second dynamics and smoothness ask for the same pairs."""
    return Recent(lambda before, after: flow_between(_views()(before), _views()(after)))


def _refusal(height: int, width: int) -> str:
    small = min(height, width) < _LEAST_SIDE
    return f"flow needs frames of {_LEAST_SIDE} pixels at least, and these have {height}x{width}" if small else ""


class LiteFlow:
    """Flow by least squares over windows, at a short side of at most 128, without weights."""

    name = "/lite"

    def made_by(self) -> dict[str, Any]:
        """Method and size."""
        return dict(_METHOD)

    def refuses(self, height: int, width: int) -> str:
        """Frames below 16 pixels."""
        return _refusal(height, width)

    @torch.inference_mode()
    def __call__(self, before: Frame, after: Frame) -> Tensor:
        """Two frames `(H, W, 3)` -> lengths of the flow in pixels of the frame, `(h, w)`."""
        return _in_pixels_of(before, _flows()(before, after)).norm(dim=0)


class LiteMotionSmoothness(Metric):
    """How well every second frame follows from its neighbors: 1 is perfectly smooth motion.

    The last frame of an even number has one neighbor only and is not predicted, as in VBench.
    """

    names = ("motion_smoothness/lite",)

    def observe(self, video: VideoFacts) -> Observer:
        """Begin a video."""
        return _Predicting(self.names[0], _refusal(video.height, video.width))

    def made_by(self) -> dict[str, Any]:
        """The flow that predicts."""
        return {"flow": dict(_METHOD)}


@torch.inference_mode()
def halfway(before: Frame, after: Frame) -> Frame:
    """The frame between two, `(H, W, 3)` each: either is moved half of the flow, and the mean taken of what both show.

    Values are cut off to whole gray levels, as VBench's are.
    """
    height, width = before.shape[:2]
    flow = _in_pixels_of(before, _flows()(before, after))
    way = F.interpolate(flow[None] / 2, (height, width), mode="bilinear")  # (1, 2, H, W)
    total = seen = torch.zeros(1, 1, 1, 1)
    for frame, path in ((before, -way), (after, way)):
        pixels = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float()
        moved, inside = sampled(pixels, path)
        weight = inside + 1e-3  # what neither frame shows is taken from the borders of both
        total, seen = total + weight * moved, seen + weight
    between = (total / seen)[0].permute(1, 2, 0)  # (H, W, 3)
    # Sums of weights are inexact: a value that is whole but for that stays whole.
    return (between + 1e-3).clamp(0, 255).byte().numpy()


def _in_pixels_of(frame: Frame, flow: Tensor) -> Tensor:
    """Flow `(2, h, w)` of reduced frames in pixels of the frame."""
    height, width = flow.shape[1:]
    return flow * torch.tensor([frame.shape[1] / width, frame.shape[0] / height]).view(2, 1, 1)


class _Predicting(Observer):
    def __init__(self, name: str, refused: str) -> None:
        self.name, self.refused = name, refused
        self.even: Frame | None = None
        self.odd: Frame | None = None
        self.total, self.count = 0.0, 0

    def update(self, frames: Frames) -> None:
        if self.refused:
            return
        for frame in frames:
            if self.even is None:
                self.even = frame
            elif self.odd is None:
                self.odd = frame
            else:
                difference = np.abs(halfway(self.even, frame).astype(np.int16) - self.odd)
                self.total += float(difference.mean(dtype=np.float64))
                self.count += 1
                self.even, self.odd = frame, None

    def scores(self) -> Mapping[str, Score]:
        if self.refused:
            return {self.name: Score.none(self.refused)}
        if not self.count:
            return {self.name: Score.none("fewer than three frames: none lies between two others")}
        return {self.name: Score((255 - self.total / self.count) / 255, details={"predicted": self.count})}
