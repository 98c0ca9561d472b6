"""Optical flow between frames, and what VBench counts in it: the mean of the fastest pixels of each pair.

The network is RAFT (Teed and Deng, ECCV 2020), torchvision's `raft_large` with the weights trained on FlyingThings, the
same architecture and training as VBench's. Other sources of flow fit the same place.

Letters: H height, W width.
"""

from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eval.metric import Frame, Recent

__all__ = ["Flow", "RaftFlow", "fastest"]

_UPDATES = 20
_LEAST_SIDE = 128  # RAFT's correlation pyramid needs so many pixels


class Flow(Protocol):
    """Where pixels go from one frame to the next. Plain options that can be pickled.

    Attributes:
        name: Appended to the names of figures, such as `/lite`; empty for what VBench asks for.
    """

    name: str

    def made_by(self) -> dict[str, Any]:
        """The method or network, and the hash of its weights."""
        ...

    def refuses(self, height: int, width: int) -> str:
        """Why frames of a size cannot be taken; empty if they can."""
        ...

    def __call__(self, before: Frame, after: Frame) -> Tensor:
        """Two frames `(H, W, 3)` -> lengths of the flow in pixels of the frame, `(H', W')`; H' and W' may be padded."""
        ...


class RaftFlow:
    """Flow by RAFT.

    Args:
        weights: Folder that may hold `raft_large_C_T_V1-*.pth`; else torchvision's own cache.
        device: Where the network runs.
    """

    name = ""

    def __init__(self, weights: Path | None = None, device: str = "cpu") -> None:
        self.weights, self.device = weights, device

    def made_by(self) -> dict[str, Any]:
        """Network and weights."""
        from eval.weights import described

        return {"network": "raft_large", "updates": _UPDATES, **described("raft_large", self.weights)}

    def refuses(self, height: int, width: int) -> str:
        """Frames below 128 pixels."""
        small = min(height, width) < _LEAST_SIDE - 7  # padded to multiples of 8
        return f"RAFT needs frames of {_LEAST_SIDE} pixels at least, and these have {height}x{width}" if small else ""

    def __call__(self, before: Frame, after: Frame) -> Tensor:
        """Two frames `(H, W, 3)` -> lengths `(H', W')`, padded to multiples of 8."""
        return _lengths(self.weights, self.device)(before, after)


def fastest(lengths: Tensor, share: float) -> float:
    """Mean of the longest flows.

    Args:
        lengths: `(H, W)`.
        share: Of the pixels that count, such as 0.05.
    """
    count = max(1, int(lengths.numel() * share))
    return float(lengths.flatten().double().topk(count).values.mean())


@cache
def _lengths(weights: Path | None, device: str) -> Recent[Tensor]:
    """At 8 frames a second dynamics and the choice of static videos ask for the same pairs."""

    @torch.inference_mode()
    def measure(before: Frame, after: Frame) -> Tensor:
        first, second = (_padded(frame).to(device) for frame in (before, after))
        flow = raft(weights, device)(first, second, num_flow_updates=_UPDATES)[-1]  # 1 2 H' W'
        return flow[0].float().cpu().norm(dim=0)

    return Recent(measure)


@cache
def raft(weights: Path | None, device: str) -> nn.Module:
    """The network with its weights, once a process.

    Raises:
        ValueError: If the weights are not here and cannot be fetched, or are damaged.
    """
    from torchvision.models.optical_flow import raft_large

    from eval.weights import weights_file

    network = raft_large()
    network.load_state_dict(torch.load(weights_file("raft_large", weights), map_location="cpu", weights_only=True))
    return network.eval().requires_grad_(False).to(device)


def _padded(frame: Frame) -> Tensor:
    """`(H, W, 3)` uint8 -> `(1, 3, H', W')` in [-1, 1], edges repeated on both sides up to multiples of 8."""
    pixels = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float()
    tall, wide = (-side % 8 for side in pixels.shape[-2:])
    pixels = F.pad(pixels, (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2), mode="replicate")
    return 2 * (pixels / 255) - 1
