"""Linear attention with every pair of positions written out, and its state as a plain sum.

Letters: B batch, L queries, S keys, H heads, K key head dim, V value head dim.
"""

import torch
from torch import Tensor


def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    normalize: bool = True,
    *,
    causal: bool = False,
    normalizer: tuple[Tensor, Tensor] | None = None,
    eps: float = 1e-10,
) -> tuple[Tensor, Tensor | None]:
    """Pair-by-pair twin of `lingen_kit.ops.linear_attention.linear_attention`."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    seen = torch.ones(q.shape[1], q.shape[1], dtype=q.dtype)
    if causal:
        seen = seen.tril()
    scores = scale * torch.einsum("blhk,bshk->bhls", q, k) * seen
    o = torch.einsum("bhls,bshv->blhv", scores, v)
    state = torch.einsum("bshk,bshv->bhkv", k, v)
    if initial_state is not None:
        o = o + scale * torch.einsum("blhk,bhkv->blhv", q, initial_state)
        state = state + initial_state
    if normalize:
        queries, keys = normalizer or (q, k)
        weights = scale * torch.einsum("blhk,bshk->bhls", queries, keys) * seen
        o = o / (weights.sum(-1).transpose(1, 2).unsqueeze(-1) + eps)
    return o, state if output_final_state else None
