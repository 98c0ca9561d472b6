"""Overall consistency and temporal style: how near a video is to its prompt, by ViCLIP (VBench, arXiv 2311.17982, 4.2).

    value = cos(ViCLIP of 8 frames, ViCLIP of the prompt)

of the frames in the middles of 8 equal stretches (`eval.metrics.middle`), as CLIP sees frames. Both dimensions are the
same figure; what differs is the prompts, of which those of temporal style name a movement of the camera.

Letters: N frames of a chunk, T frames looked at (8), E features.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eval.metric import Frames, Metric, Observer, Score, VideoFacts
from eval.metrics.features import clip_frames
from eval.metrics.middle import MiddleFrames
from eval.metrics.viclip import FRAMES, tokens_of, viclip
from eval.weights import described

__all__ = ["OverallConsistency", "TemporalStyle", "TextVideo"]


class TextVideo(Metric):
    """The figure under a name of its own.

    Args:
        name: Of the figure.
        weights: Folder of weights, see `eval.weights`.
        device: Where the network runs.
    """

    def __init__(self, name: str, weights: Path | None = None, device: str = "cpu") -> None:
        self.names = (name,)
        self.weights, self.device = weights, device

    def observe(self, video: VideoFacts) -> Observer:
        """Begin a video; its prompt is the text."""
        return _Watching(self, video)

    def made_by(self) -> dict[str, Any]:
        """The network."""
        return {"network": "ViCLIP-L/14", "frames": FRAMES, **described("viclip_l14", self.weights)}


class OverallConsistency(TextVideo):
    """How near a video is to its prompt.

    Args:
        weights: Folder of weights, see `eval.weights`.
        device: Where the network runs.
    """

    def __init__(self, weights: Path | None = None, device: str = "cpu") -> None:
        super().__init__("overall_consistency", weights, device)


class TemporalStyle(TextVideo):
    """How near a video is to a prompt that names a movement of the camera, or a tempo.

    Args:
        weights: Folder of weights, see `eval.weights`.
        device: Where the network runs.
    """

    def __init__(self, weights: Path | None = None, device: str = "cpu") -> None:
        super().__init__("temporal_style", weights, device)


class _Watching(Observer):
    def __init__(self, metric: TextVideo, video: VideoFacts) -> None:
        self.metric, self.prompt = metric, video.prompt
        self.middles = MiddleFrames(FRAMES, video.frames)
        self.pictures: list[Tensor] = []

    def update(self, frames: Frames) -> None:
        if self.prompt:
            chosen = self.middles.pick(frames)
            if len(chosen):
                self.pictures.append(clip_frames(chosen))

    @torch.inference_mode()
    def scores(self) -> Mapping[str, Score]:
        metric, name = self.metric, self.metric.names[0]
        if not self.prompt:
            return {name: Score.none("the prompt is not known")}
        self.middles.check()
        video = torch.cat(self.pictures)[None].to(metric.device)  # 1 T 3 224 224
        seen = viclip(metric.weights, metric.device).encode_video(video)[0].double().cpu()  # E
        said = _said(metric.weights, metric.device, self.prompt)
        return {name: Score(float(F.normalize(seen, dim=0) @ said))}


@cache
def _said(weights: Path | None, device: str, text: str) -> Tensor:
    """ViCLIP's feature of a text, `(E,)` of length 1; several videos have the same."""
    said = viclip(weights, device).encode_text(tokens_of([text]).to(device))[0]
    return F.normalize(said.double().cpu(), dim=0)
