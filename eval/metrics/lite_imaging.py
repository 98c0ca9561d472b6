"""Imaging quality without a network: how sharp, well exposed, free of noise and free of blocks frames are.

Four figures of a frame's brightness, each from 0 (bad) to 1, and their geometric mean:

    sharpness  1 - left / change: root mean squares of the differences of neighboring pixels, after and before a blur of
               9 pixels (after Crete et al., The blur effect, SPIE 6492, 2007), less what noise adds to either; of the
               two directions the smaller
    exposure   sqrt(range / 255) * (1 - clipped)^2: range from the 5th to the 95th percentile of means of 8 x 8 pixels,
               clipped the share of pixels within 5 gray levels, and two deviations of the noise, of black or white
    noise      1 / (1 + (sigma / 10)^2), sigma the deviation of the noise in gray levels (Immerkaer, Fast noise variance
               estimation, CVIU 1996) in the calmest fifth of the blocks of 16 x 16 pixels
    blocks     1 - excess / sum of the mean changes across and within the 8-pixel grid of codecs (after Wang, Sheikh,
               Bovik, No-reference perceptual quality assessment of JPEG, ICIP 2002)

Frames with a longer side above 1024 are first averaged down by a whole factor, which leaves noise white; blocks are
looked for at native size. A video's value is the mean over its frames, from 0 to 1. What is shown matters too: compare
videos of the same kind.

Letters: N frames of a chunk, H height, W width, h height, w width of a reduced one.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.metric import Frames, Metric, Observer, Score, VideoFacts

__all__ = ["LiteImagingQuality", "imaging_figures"]

_LONGEST = 1024
_LUMA = (0.299, 0.587, 0.114)
_BLUR = 9  # pixels of the blur that sharp changes do not survive
_CLIPPED = 5.0  # gray levels from black and white
_NOISE = 10.0  # deviation, in gray levels, that halves the figure
_CALM = 0.2  # share of the blocks that noise is read from: texture fills the others
_BLOCK = 16
_GRID = 8
_LEAST_SIDE = 2 * _BLOCK
_FIGURES = ("sharpness", "exposure", "noise", "blocks")


class LiteImagingQuality(Metric):
    """`imaging_quality/lite`: the geometric mean of the four figures, which stand in the details."""

    names = ("imaging_quality/lite",)

    def observe(self, video: VideoFacts) -> Observer:
        """Begin a video."""
        return _Averaging(self.names[0], video)

    def made_by(self) -> dict[str, Any]:
        """The figures and the size they are read at."""
        return {"figures": list(_FIGURES), "longest_side": _LONGEST}


def imaging_figures(frame: Frames) -> dict[str, float]:
    """The four figures of a frame `(H, W, 3)` uint8, by name."""
    luma = torch.from_numpy(np.ascontiguousarray(frame)).float() @ torch.tensor(_LUMA)  # (H, W)
    factor = math.ceil(max(luma.shape) / _LONGEST)
    small = luma if factor == 1 else F.avg_pool2d(luma[None], factor)[0]  # (h, w)
    sigma = _noise(small)
    return {
        "sharpness": min(_sharpness(small, sigma), _sharpness(small.T, sigma)),
        "exposure": _exposure(small, sigma),
        "noise": 1 / (1 + (sigma / _NOISE) ** 2),
        "blocks": min(_blocks(luma), _blocks(luma.T)),
    }


def _sharpness(luma: Tensor, sigma: float) -> float:
    """How little of the change along the rows of `(h, w)` outlives a blur along them; 0 if only noise changes."""
    blurred = F.avg_pool1d(F.pad(luma[None], (_BLUR // 2, _BLUR // 2), mode="replicate"), _BLUR, 1)[0]
    change, left = (float(image.diff(dim=1).square().mean()) for image in (luma, blurred))
    # A difference of two pixels has twice the variance of the noise, and after the blur that over 9 squared.
    change, left = max(0.0, change - 2 * sigma**2), max(0.0, left - 2 * (sigma / _BLUR) ** 2)
    return max(0.0, 1 - math.sqrt(left / change)) if change else 0.0


def _exposure(luma: Tensor, sigma: float) -> float:
    """Range of brightness `(h, w)` in use, less what is clipped."""
    darkest, brightest = torch.quantile(F.avg_pool2d(luma[None], _GRID).flatten(), torch.tensor([0.05, 0.95])).tolist()
    margin = _CLIPPED + 2 * sigma
    clipped = float(((luma <= margin) | (luma >= 255 - margin)).float().mean())
    return math.sqrt((brightest - darkest) / 255) * (1 - clipped) ** 2


def _noise(luma: Tensor) -> float:
    """Deviation of the noise of `(h, w)` in gray levels, in its calmest blocks."""
    curved = luma.diff(n=2, dim=0).diff(n=2, dim=1).abs()  # second difference down of the one across
    means = F.avg_pool2d(curved[None], _BLOCK).flatten()
    # Where black or white cut the noise off it cannot be read.
    ends = torch.maximum(-luma, luma - 255)[None, 1:-1, 1:-1]
    whole = F.max_pool2d(ends, _BLOCK).flatten() < 0
    calmest = (means[whole] if whole.any() else means).sort().values
    calmest = calmest[: max(1, round(_CALM * len(calmest)))]
    # White noise of deviation 1 becomes one of deviation 6, whose mean size is 6 sqrt(2 / pi).
    return float(calmest.mean()) * math.sqrt(math.pi / 2) / 6


def _blocks(luma: Tensor) -> float:
    """1 where the columns of the 8-pixel grid of `(H, W)` change no more than others, 0 where nothing else changes."""
    change = luma.diff(dim=1).abs().mean(0)  # (W - 1)
    across = torch.arange(1, len(change) + 1) % _GRID == 0
    between, within = float(change[across].mean()), float(change[~across].mean())
    return 1 - max(0.0, between - within) / (between + within) if between else 1.0


class _Averaging(Observer):
    def __init__(self, name: str, video: VideoFacts) -> None:
        self.name, self.video = name, video
        self.refused = min(video.height, video.width) < _LEAST_SIDE
        self.totals = dict.fromkeys((*_FIGURES, "quality"), 0.0)
        self.count = 0

    def update(self, frames: Frames) -> None:
        if self.refused:
            return
        for frame in frames:
            figures = imaging_figures(frame)
            quality = math.prod(figures.values()) ** (1 / len(figures))
            for name, value in (figures | {"quality": quality}).items():
                self.totals[name] += value
            self.count += 1

    def scores(self) -> Mapping[str, Score]:
        if self.refused:
            size = f"{self.video.height}x{self.video.width}"
            return {self.name: Score.none(f"frames of {_LEAST_SIDE} pixels at least, and these have {size}")}
        if not self.count:
            return {self.name: Score.none("no frame")}
        means = {name: total / self.count for name, total in self.totals.items()}
        return {self.name: Score(means.pop("quality"), details=means)}
