"""Motion smoothness: how well each second frame is foretold by its neighbors (VBench, arXiv 2311.17982, 4.1).

AMT-S (`eval.metrics.amt`) paints every odd frame anew from the even ones around it:

    value = (255 - mean over odd frames of mean |frame - painted frame|) / 255

with the painted frame cut off, not rounded, to whole gray levels. A last frame with no even one after it is left out.

Letters: N frames of a chunk, H height, W width.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from eval.metric import Frames, Metric, Observer, Score, VideoFacts
from eval.metrics.amt import LEAST_SIDE, amt
from eval.weights import described

__all__ = ["MotionSmoothness", "painted"]

_MULTIPLE = 16  # of which the network wants sides


class MotionSmoothness(Metric):
    """How even motion is.

    On a GPU VBench shrinks what the network sees, by a factor that depends on the card's memory, once a frame has more
    than about 2 (24 GB) to 4 (80 GB) million pixels. Here the network sees frames as they are, as VBench's does on a
    CPU and for smaller frames: a figure does not depend on the card. Below 128 pixels VBench's network divides by zero;
    here those down to 49 are measured by the same formulas.

    Args:
        weights: Folder of weights, see `eval.weights`.
        device: Where the network runs.
    """

    names = ("motion_smoothness",)

    def __init__(self, weights: Path | None = None, device: str = "cpu") -> None:
        self.weights, self.device = weights, device

    def observe(self, video: VideoFacts) -> Observer:
        """Begin a video."""
        return _Watching(self, video)

    def made_by(self) -> dict[str, Any]:
        """The network."""
        return {"network": "AMT-S", "shrunk": False, **described("amt_s", self.weights)}


class _Watching(Observer):
    def __init__(self, metric: MotionSmoothness, video: VideoFacts) -> None:
        self.metric, self.refused = metric, ""
        if min(video.height, video.width) <= LEAST_SIDE - _MULTIPLE:
            self.refused = (
                f"AMT needs frames of {LEAST_SIDE - _MULTIPLE + 1} pixels at least, and these have "
                f"{video.height}x{video.width}"
            )
        self.seen = 0
        self.even: NDArray[np.uint8] | None = None
        self.odd: NDArray[np.uint8] | None = None
        self.total, self.painted = 0.0, 0

    def update(self, frames: Frames) -> None:
        if self.refused:
            return
        for frame in frames:
            if self.seen % 2:
                self.odd = frame
            else:
                if self.even is not None and self.odd is not None:
                    middle = painted(self.even, frame, self.metric.weights, self.metric.device)
                    self.total += float(np.abs(self.odd.astype(np.int16) - middle).mean())
                    self.painted += 1
                self.even = frame
            self.seen += 1

    def scores(self) -> Mapping[str, Score]:
        if self.refused:
            return {"motion_smoothness": Score.none(self.refused)}
        if not self.painted:
            return {"motion_smoothness": Score.none("fewer than three frames have none between two others")}
        return {"motion_smoothness": Score((255 - self.total / self.painted) / 255, details={"painted": self.painted})}


@torch.inference_mode()
def painted(
    first: NDArray[np.uint8], last: NDArray[np.uint8], weights: Path | None = None, device: str = "cpu"
) -> NDArray[np.uint8]:
    """The frame between two, `(H, W, 3)` each.

    Raises:
        ValueError: If the weights are not here and cannot be fetched, or are others.
    """
    height, width = first.shape[:2]
    tall, wide = -height % _MULTIPLE, -width % _MULTIPLE
    edges = (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2)
    pair = [F.pad(_tensor(frame).to(device), edges, mode="replicate") for frame in (first, last)]
    middle = amt(weights, device)(*pair)[0].float().cpu()  # 3 H' W'
    middle = middle[:, edges[2] : edges[2] + height, edges[0] : edges[0] + width]
    return (middle * 255).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


def _tensor(frame: NDArray[np.uint8]) -> Tensor:
    """`(H, W, 3)` uint8 -> `(1, 3, H, W)` in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None] / 255
