"""The one sample schema of the kit: what every dataset yields and every consumer reads.

Letters: C channels (3), T frames, H height, W width, B batch, L text tokens, E channels of the text.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Sample(TypedDict):
    """One clip; an image is a clip with T = 1. It has either `video`, or `latents` where those were computed before.

    Attributes:
        video: `(C, T, H, W)` float32 in [-1, 1].
        latents: What the autoencoder makes of the video.
        text: `(L, E)`, what the text encoder makes of the caption, where that was computed before.
        caption: What the clip shows.
        fps: Frames per second of `video`.
        source: Where it came from: a file path, or `name:index` for procedural data.
        attributes: Ground truth, where there is one, and what else is known; never needed for training.
        skipped: `(source, reason)` of each unreadable clip that this sample stands in for.
    """

    video: NotRequired[Tensor]
    latents: NotRequired[Tensor]
    text: NotRequired[Tensor]
    caption: str
    fps: float
    source: str
    attributes: dict[str, Any]
    skipped: NotRequired[list[tuple[str, str]]]


class Batch(TypedDict):
    """A list of samples.

    Videos `(B, C, T, H, W)` or latents are stacked, the rest are lists of length B; `text` is followed by one more,
    that of the empty caption. Batches for validation have `places`: where each sample stands among all that are
    validated on, or None for one that is there again because ranks need equally many, and does not count.
    """

    video: NotRequired[Tensor]
    latents: NotRequired[Tensor]
    text: NotRequired[Iterable[Tensor]]
    caption: list[str]
    fps: list[float]
    source: list[str]
    attributes: list[dict[str, Any]]
    skipped: list[tuple[str, str]]
    places: NotRequired[list[int | None]]


def to_float(pixels: NDArray[np.uint8] | Tensor) -> Tensor:
    """8-bit levels of any shape as float32 in [-1, 1]; on the device where they are."""
    levels = torch.from_numpy(pixels) if isinstance(pixels, np.ndarray) else pixels
    if levels.device.type != "cpu":
        return levels.float().div_(127.5).sub_(1)
    # Memory from numpy: it is reused from batch to batch, where torch's is often mapped anew and page by page.
    values = torch.from_numpy(np.empty(levels.shape, np.float32))
    for part, given in zip(
        values.unbind(), levels.unbind(), strict=True
    ):  # part by part stays in the processor's cache
        part.copy_(given).div_(127.5).sub_(1)
    return values


def collate(samples: list[Sample]) -> Batch:
    """Stack the videos of samples of one size; everything else stays a list."""
    return batch_of(torch.stack([sample["video"] for sample in samples]), samples)


def batch_of(video: Tensor, samples: Sequence[Sample]) -> Batch:
    """Stacked videos `(B, C, T, H, W)` with what goes with them, from samples whose own videos are not looked at."""
    return Batch(
        video=video,
        caption=[sample["caption"] for sample in samples],
        fps=[sample["fps"] for sample in samples],
        source=[sample["source"] for sample in samples],
        attributes=[sample["attributes"] for sample in samples],
        skipped=[entry for sample in samples for entry in sample.get("skipped", [])],
    )
