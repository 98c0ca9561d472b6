"""The causal convolution tap by tap.

Letters: B batch, L length, D channels, K filter width.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Literal["silu"] | None = None,
    *,
    reverse: bool = False,
) -> Tensor:
    """Tap-by-tap twin of `lingen_kit.ops.conv.causal_conv1d`: position t sees t-K+1 .. t (t .. t+K-1 reversed)."""
    length, width = x.shape[1], weight.shape[1]
    rows = []
    for t in range(length):
        row = torch.zeros_like(x[:, 0])  # B D
        for k in range(width):
            source = t + (width - 1 - k) if reverse else t - (width - 1 - k)
            if 0 <= source < length:
                row = row + weight[:, k] * x[:, source]
        rows.append(row if bias is None else row + bias)
    y = torch.stack(rows, dim=1)
    return F.silu(y) if activation == "silu" else y
