"""The quasi-separable mixer as two recurrences and a diagonal, one token after the other.

Letters: B batch, L length, H heads, P head dim, G groups, N state size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lingen_kit.ops.naive.ssd import mamba_chunk_scan_combined


def quasiseparable_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    chunk_size: int | None = None,
) -> Tensor:
    """Token-by-token twin of `lingen_kit.ops.quasiseparable.quasiseparable_scan`; `chunk_size` has no effect."""
    heads = x.shape[2]
    if dt_bias is not None:
        dt = dt + dt_bias
    if dt_softplus:
        dt = F.softplus(dt)
    dt = dt.clamp(*dt_limit)
    repeats = heads // B.shape[2]
    itself = torch.einsum("blgn,blgn->blg", C, B).repeat_interleave(repeats, dim=2)  # B L H
    y = torch.zeros_like(x)
    for half, direction in enumerate(("forward", "reverse")):
        own = slice(half * heads, (half + 1) * heads)
        read = mamba_chunk_scan_combined(x, dt[:, :, own], A[own], B, C, direction=direction)  # type: ignore[arg-type]
        assert isinstance(read, Tensor)
        y = y + read - x * (itself * dt[:, :, own])[..., None]
    return y if D is None else y + x * D[..., None]
