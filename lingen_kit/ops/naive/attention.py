"""Attention written out, and windows as a mask over all pairs of tokens.

Letters: B batch, L queries, S keys, A heads, P head dim.
"""

import torch
from torch import Tensor


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
