"""Slow, obviously right twins of the fast operators; tests compare both outputs and gradients with them.

The state space dual is the recurrence of "Transformers are SSMs" (Dao and Gu 2024, equation 2 with a scalar
times identity state matrix), run one token after the other and differentiated by autograd.

Letters: B batch, L length, D channels, K kernel width, H heads, P head dim, G groups, N state size.
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


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention written out; arguments as in `ops.attention.attention`."""
    scores = torch.einsum("blap,bsap->bals", q, k) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return torch.einsum("bals,bsap->blap", scores.softmax(-1), v)


def window_attention(
    q: Tensor, k: Tensor, v: Tensor, window: tuple[int, int, int], shift: tuple[int, int, int] = (0, 0, 0)
) -> Tensor:
    """Full attention under a mask of all token pairs: a pair sees each other if it shares a window on every axis.

    Arguments as in `ops.attention.window_attention`.
    """
    grid = q.shape[1:4]
    tokens = grid.numel()
    together = torch.ones(1, tokens, tokens, dtype=torch.bool)
    places = torch.stack(torch.meshgrid(*(torch.arange(size) for size in grid), indexing="ij"), -1).flatten(0, 2)
    for axis, size in enumerate(grid):
        offset = shift[axis] if size > window[axis] else 0
        number = torch.div(places[:, axis] - offset, window[axis], rounding_mode="floor")
        together = together & (number[:, None] == number)
    out = attention(q.flatten(1, 3), k.flatten(1, 3), v.flatten(1, 3), mask=together[:, None])
    return out.view_as(q)
