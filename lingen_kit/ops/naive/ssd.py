"""The state space dual as the recurrence that it is, one token after the other.

Source: "Transformers are SSMs" (Dao and Gu 2024), equation 2 with a scalar times identity state matrix.

Letters: B batch, L length, H heads, P head dim, G groups, N state size.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def _scan_one_direction(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, reverse: bool
) -> tuple[Tensor, Tensor]:
    """Run the recurrence token by token; B and C already have one entry per head."""
    length = x.shape[1]
    outputs: list[Tensor] = [state] * length
    for t in reversed(range(length)) if reverse else range(length):
        decay = torch.exp(dt[:, t] * A)  # B H
        write = torch.einsum("bhp,bhn->bhpn", dt[:, t, :, None] * x[:, t], B[:, t])
        state = decay[:, :, None, None] * state + write  # B H P N
        outputs[t] = torch.einsum("bhpn,bhn->bhp", state, C[:, t])
    return torch.stack(outputs, dim=1), state


def mamba_chunk_scan_combined(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int | None = None,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    return_final_states: bool = False,
    *,
    direction: Literal["forward", "reverse", "both"] = "forward",
) -> Tensor | tuple[Tensor, Tensor]:
    """Token-by-token twin of `lingen_kit.ops.ssd.mamba_chunk_scan_combined`; `chunk_size` has no effect."""
    heads = x.shape[2]
    if dt_bias is not None:
        dt = dt + dt_bias
    if dt_softplus:
        dt = F.softplus(dt)
    dt = dt.clamp(*dt_limit)
    B = B.repeat_interleave(heads // B.shape[2], dim=2)  # B L H N
    C = C.repeat_interleave(heads // C.shape[2], dim=2)
    if initial_states is None:
        initial_states = x.new_zeros(x.shape[0], heads, x.shape[3], B.shape[3])
    split = {"forward": heads, "reverse": 0, "both": heads // 2}[direction]
    parts = []
    for part, reverse in ((slice(0, split), False), (slice(split, heads), True)):
        if part.start < part.stop:
            parts.append(
                _scan_one_direction(
                    x[:, :, part],
                    dt[:, :, part],
                    A[part],
                    B[:, :, part],
                    C[:, :, part],
                    initial_states[:, part],
                    reverse,
                )
            )
    y = torch.cat([part[0] for part in parts], dim=2)
    final_states = torch.cat([part[1] for part in parts], dim=1)
    if D is not None:
        y = y + x * (D[:, None] if D.dim() == 1 else D)
    if z is not None:
        y = y * F.silu(z)
    return (y, final_states) if return_final_states else y
