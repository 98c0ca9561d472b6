"""Imaging quality: MUSIQ (Ke et al., arXiv 2108.05997), trained on SPAQ, of each frame (VBench, arXiv 2311.17982, 4.1).

A video's value is the mean over its frames, from 0 to 100; that of a set is the mean of the videos' over 100. The
network comes from pyiqa, whose licence allows no commercial use; so it is in no extra but its own.

Letters: N frames of a chunk, H height, W width.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize

from eval.metric import Frames, Metric, Observer, Score, VideoFacts, weighted_mean
from eval.weights import described, weights_file
from lingen_kit.errors import MissingPackage

__all__ = ["ImagingQuality", "musiq_frames"]

_LONGEST = 512


class ImagingQuality(Metric):
    """How sharp, well exposed and free of noise frames are.

    Args:
        weights: Folder of weights, see `eval.weights`.
        device: Where the network runs.
    """

    names = ("imaging_quality",)

    def __init__(self, weights: Path | None = None, device: str = "cpu") -> None:
        self.weights, self.device = weights, device

    def observe(self, video: VideoFacts) -> Observer:
        """Begin a video."""
        return _Watching(self)

    def corpus(self, name: str, scores: Sequence[Score]) -> float | None:
        """The mean over 100: a video's value is from 0 to 100."""
        mean = weighted_mean(scores)
        return None if mean is None else mean / 100

    def made_by(self) -> dict[str, Any]:
        """Network and weights."""
        return {"network": "musiq-spaq", **described("musiq_spaq", self.weights)}


def musiq_frames(frames: Frames) -> Tensor:
    """`(N, H, W, 3)` uint8 -> `(N, 3, h, w)` in [0, 1], a longer side above 512 made 512, bilinear."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    height, width = pixels.shape[-2:]
    if max(height, width) > _LONGEST:
        scale = _LONGEST / max(height, width)
        size = [int(scale * height), int(scale * width)]
        pixels = resize(pixels, size, InterpolationMode.BILINEAR, antialias=False)
    return pixels.float() / 255


class _Watching(Observer):
    def __init__(self, metric: ImagingQuality) -> None:
        self.metric, self.total, self.count = metric, 0.0, 0

    @torch.inference_mode()
    def update(self, frames: Frames) -> None:
        network = _network(self.metric.weights, self.metric.device)
        for frame in musiq_frames(frames):
            self.total += float(network(frame[None].to(self.metric.device)))
        self.count += len(frames)

    def scores(self) -> Mapping[str, Score]:
        return {"imaging_quality": Score(self.total / self.count)}


@cache
def _network(folder: Path | None, device: str) -> Any:
    try:
        from pyiqa.archs.musiq_arch import MUSIQ
    except ImportError as error:
        raise MissingPackage(
            f"imaging_quality needs pyiqa, which cannot be imported ({error}); its licence allows no commercial use: "
            'pip install "lingen_kit[noncommercial]"'
        ) from error
    return MUSIQ(pretrained_model_path=str(weights_file("musiq_spaq", folder))).to(device).eval()
