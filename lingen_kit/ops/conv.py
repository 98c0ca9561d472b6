"""Short depthwise causal convolution over channels-last sequences, as in Mamba and Mamba-2 (width 4)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lingen_kit.ops.backend import Kernel, choose_kernel

_KERNEL = Kernel("causal_conv1d", "causal_conv1d", "causal_conv1d_fn", "mamba")


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Literal["silu"] | None = None,
    *,
    reverse: bool = False,
    backend: Literal["auto", "torch", "causal_conv1d"] = "auto",
) -> Tensor:
    """Convolve each channel with its own causal filter.

    Args:
        x: `(B, L, D)`.
        weight: `(D, K)`; the last tap meets the current position.
        bias: `(D,)` or None.
        activation: `"silu"` or None.
        reverse: Anticausal: position t sees t .. t+K-1.
        backend: `auto`, `torch` or `causal_conv1d`.

    Returns:
        `(B, L, D)`.
    """
    width = weight.shape[1]
    x = F.pad(x, (0, 0, 0, width - 1) if reverse else (0, 0, width - 1, 0))
    length = x.shape[1] - width + 1
    taps = range(width)
    y = sum(weight[:, width - 1 - k if reverse else k] * x[:, k : k + length] for k in taps)
    if bias is not None:
        y = y + bias
    return F.silu(y) if activation == "silu" else y
