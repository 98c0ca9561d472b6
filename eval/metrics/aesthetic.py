"""Aesthetic quality: what LAION's predictor makes of CLIP's view of each frame (VBench, arXiv 2311.17982, 4.1).

    value = mean over frames of (w . f / |f| + b) / 10,    f = CLIP ViT-L/14's image features

Letters: N frames of a chunk, D features (768).
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eval.metric import Frames, Metric, Observer, Score, VideoFacts
from eval.metrics.features import ClipFeatures
from eval.weights import described, weights_file

__all__ = ["AestheticQuality"]


class AestheticQuality(Metric):
    """How beautiful frames are.

    Args:
        weights: Folder of weights, see `eval.weights`.
        device: Where the network runs.
    """

    names = ("aesthetic_quality",)

    def __init__(self, weights: Path | None = None, device: str = "cpu") -> None:
        self.weights = weights
        self.features = ClipFeatures("clip_l14", weights, device)

    def observe(self, video: VideoFacts) -> Observer:
        """Begin a video."""
        return _Watching(self)

    def made_by(self) -> dict[str, Any]:
        """CLIP and the predictor."""
        return {"features": self.features.made_by(), "head": described("aesthetic_head", self.weights)}


class _Watching(Observer):
    def __init__(self, metric: AestheticQuality) -> None:
        self.metric, self.total, self.count = metric, 0.0, 0

    def update(self, frames: Frames) -> None:
        weight, bias = _head(self.metric.weights)
        features = F.normalize(self.metric.features(frames).double(), dim=-1)  # N D
        self.total += float(((features @ weight + bias) / 10).sum())
        self.count += len(frames)

    def scores(self) -> Mapping[str, Score]:
        return {"aesthetic_quality": Score(self.total / self.count)}


@cache
def _head(folder: Path | None) -> tuple[Tensor, float]:
    """Weights `(D,)` and bias of the predictor.

    Raises:
        ValueError: If the file is none of it.
    """
    path = weights_file("aesthetic_head", folder)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if set(state) != {"weight", "bias"} or state["weight"].shape != (1, 768):
        raise ValueError(f"{path} holds no linear layer from 768 to 1: it is not the aesthetic predictor's")
    return state["weight"][0].double(), float(state["bias"])
