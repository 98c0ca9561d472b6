"""The gated RMSNorm written out.

Letters: D channels.
"""

import torch.nn.functional as F
from torch import Tensor


def rmsnorm_fn(
    x: Tensor,
    weight: Tensor,
    z: Tensor | None = None,
    eps: float = 1e-6,
    group_size: int | None = None,
    norm_before_gate: bool = True,
) -> Tensor:
    """Twin of `lingen_kit.ops.norm.rmsnorm_fn`."""
    if z is not None and not norm_before_gate:
        x = x * F.silu(z)
    groups = x.unflatten(-1, (-1, group_size or x.shape[-1]))
    y = (groups / (groups.square().mean(-1, keepdim=True) + eps).sqrt()).flatten(-2) * weight
    return y * F.silu(z) if z is not None and norm_before_gate else y
