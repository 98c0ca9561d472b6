"""The one sample schema of the kit: what every dataset yields and every consumer reads.

Letters: C channels (3), T frames, H height, W width, B batch.
"""

from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor


class Sample(TypedDict):
    """One clip; an image is a clip with T = 1.

    Attributes:
        video: `(C, T, H, W)` float32 in [-1, 1].
        caption: What the clip shows.
        fps: Frames per second of `video`.
        source: Where it came from: a file path, or `name:index` for procedural data.
        attributes: Ground truth, where there is one; never needed for training.
        skipped: `(source, reason)` of each unreadable clip that this sample stands in for.
    """

    video: Tensor
    caption: str
    fps: float
    source: str
    attributes: dict[str, Any]
    skipped: NotRequired[list[tuple[str, str]]]


class Batch(TypedDict):
    """A list of samples, videos stacked: `video` is `(B, C, T, H, W)`, the rest are lists of length B."""

    video: Tensor
    caption: list[str]
    fps: list[float]
    source: list[str]
    attributes: list[dict[str, Any]]
    skipped: list[tuple[str, str]]


def collate(samples: list[Sample]) -> Batch:
    """Stack the videos of samples of one size; everything else stays a list."""
    return Batch(
        video=torch.stack([sample["video"] for sample in samples]),
        caption=[sample["caption"] for sample in samples],
        fps=[sample["fps"] for sample in samples],
        source=[sample["source"] for sample in samples],
        attributes=[sample["attributes"] for sample in samples],
        skipped=[entry for sample in samples for entry in sample.get("skipped", [])],
    )
