"""The selective scan as the recurrence that it is, one token after the other.

Source: "Mamba" (Gu and Dao 2023, arXiv 2312.00752), Alg. 2 and Eq. 2a, discretised as the published code does: exact
for A, Euler's rule for B.

Letters: B batch, D channels, L length, G groups, N state size.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    *,
    initial_states: Tensor | None = None,
    direction: Literal["forward", "reverse"] = "forward",
) -> Tensor | tuple[Tensor, Tensor]:
    """Token-by-token twin of `lingen_kit.ops.selective_scan.selective_scan_fn`."""
    channels, length = u.shape[1:]
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if delta_softplus:
        delta = F.softplus(delta)
    B, C = (t if t.dim() == 4 else t[:, None] for t in (B, C))  # B G N L
    B, C = (t.repeat_interleave(channels // t.shape[1], dim=1) for t in (B, C))  # B D N L
    state = u.new_zeros(*u.shape[:2], A.shape[1]) if initial_states is None else initial_states  # B D N
    outputs: list[Tensor] = [state] * length
    for t in range(length) if direction == "forward" else reversed(range(length)):
        step = delta[:, :, t, None]
        state = torch.exp(step * A) * state + step * B[..., t] * u[:, :, t, None]
        outputs[t] = (state * C[..., t]).sum(-1)
    y = torch.stack(outputs, dim=-1)  # B D L
    if D is not None:
        y = y + D[:, None] * u
    if z is not None:
        y = y * F.silu(z)
    return (y, state) if return_last_state else y
