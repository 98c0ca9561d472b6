"""Human action: whether a classifier sees the action that a prompt names (VBench, arXiv 2311.17982, 4.2).

    value = 1 if the action is among the five likeliest of Kinetics-400 and its sigmoid is at least 0.85, else 0

by UMT ViT-L/16 (`eval.metrics.umt`) on the frames in the middles of 16 equal stretches. Sigmoids are rounded to four
digits first, as VBench does.

Letters: N frames of a chunk, T frames looked at (16), H height, W width, K classes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, normalize, resize

from eval.metric import Frames, Metric, Observer, Score, VideoFacts
from eval.metrics.middle import MiddleFrames
from eval.metrics.umt import FRAMES, SIDE, kinetics_classes, umt
from eval.weights import described

__all__ = ["HumanAction", "action_frames", "action_of"]

_SHORT_SIDE = 256
_LIKELIEST, _SURE = 5, 0.85
_MEAN, _DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class HumanAction(Metric):
    """Whether a video shows the action that its prompt names.

    Args:
        weights: Folder of weights, see `eval.weights`.
        device: Where the network runs.
    """

    names = ("human_action",)

    def __init__(self, weights: Path | None = None, device: str = "cpu") -> None:
        self.weights, self.device = weights, device

    def observe(self, video: VideoFacts) -> Observer:
        """Begin a video; its prompt names the action, as `A person is riding a bike` does."""
        return _Watching(self, video)

    def made_by(self) -> dict[str, Any]:
        """The network."""
        return {"network": "UMT ViT-L/16", "frames": FRAMES, **described("umt_l16_k400", self.weights)}


class _Watching(Observer):
    def __init__(self, metric: HumanAction, video: VideoFacts) -> None:
        self.metric, self.action = metric, action_of(video.prompt)
        self.middles = MiddleFrames(FRAMES, video.frames)
        self.pictures: list[Tensor] = []

    def update(self, frames: Frames) -> None:
        if self.action:
            chosen = self.middles.pick(frames)
            if len(chosen):
                self.pictures.append(action_frames(chosen))

    @torch.inference_mode()
    def scores(self) -> Mapping[str, Score]:
        if not self.action:
            return {"human_action": Score.none("the prompt names no action of Kinetics-400")}
        self.middles.check()
        video = torch.cat(self.pictures)[None].to(self.metric.device)  # 1 T 3 224 224
        sure = umt(self.metric.weights, self.metric.device)(video)[0].float().sigmoid().cpu()  # K
        values, places = sure.topk(_LIKELIEST)
        likeliest = {
            kinetics_classes()[place]: round(value, 4) for place, value in zip(places, values.tolist(), strict=True)
        }
        shown = likeliest.get(self.action, 0.0) >= _SURE
        return {"human_action": Score(float(shown), details={"likeliest": likeliest})}


def action_of(prompt: str) -> str:
    """The action that a prompt names, one of `kinetics_classes`; empty if it names none."""
    action = prompt.lower().split("person is ")[-1].strip()
    return action if action in kinetics_classes() else ""


def action_frames(frames: Frames) -> Tensor:
    """`(N, H, W, 3)` uint8 -> `(N, 3, 224, 224)`: short side 256, bilinear, the middle, ImageNet's mean and deviation.

    VBench resizes with OpenCV, whose whole-number arithmetic is off by at most a gray level of this.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    small = resize(pixels, [_SHORT_SIDE], InterpolationMode.BILINEAR, antialias=False)
    return normalize(center_crop(small, [SIDE, SIDE]).float() / 255, _MEAN, _DEVIATION)
