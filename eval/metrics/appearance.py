"""Appearance style: how near each frame is to the words of a style, by CLIP (VBench, arXiv 2311.17982, 4.2).

    value = mean over frames of cos(CLIP ViT-B/32 of the frame, CLIP ViT-B/32 of the style)

Letters: N frames of a chunk, D features (512).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.nn import functional as F

from eval.metric import Frames, Metric, Observer, Score, VideoFacts
from eval.metrics.features import ClipFeatures, clip_text

__all__ = ["AppearanceStyle"]


class AppearanceStyle(Metric):
    """Whether a video has the style that its prompt names, such as `Van Gogh style`.

    Args:
        weights: Folder of weights, see `eval.weights`.
        device: Where the network runs.
    """

    names = ("appearance_style",)

    def __init__(self, weights: Path | None = None, device: str = "cpu") -> None:
        self.weights, self.device = weights, device
        self.features = ClipFeatures("clip_b32", weights, device)

    def observe(self, video: VideoFacts) -> Observer:
        """Begin a video; `info` holds the style as VBench's list of prompts does."""
        return _Watching(self, str(video.info.get("appearance_style", "")))

    def made_by(self) -> dict[str, Any]:
        """CLIP."""
        return self.features.made_by()


class _Watching(Observer):
    def __init__(self, metric: AppearanceStyle, style: str) -> None:
        self.metric, self.total, self.count = metric, 0.0, 0
        self.text = None
        if style:
            self.text = F.normalize(clip_text("clip_b32", metric.weights, metric.device, style).double(), dim=-1)

    def update(self, frames: Frames) -> None:
        if self.text is not None:
            features = F.normalize(self.metric.features(frames).double(), dim=-1)  # N D
            self.total += float((features @ self.text).sum())
            self.count += len(frames)

    def scores(self) -> Mapping[str, Score]:
        if self.text is None:
            return {"appearance_style": Score.none("the prompt names no style")}
        return {"appearance_style": Score(self.total / self.count)}
