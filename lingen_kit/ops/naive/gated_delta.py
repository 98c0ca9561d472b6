"""The gated delta rule as the recurrence that it is, one token after the other.

Source: "Gated Delta Networks" (arXiv 2412.06464), equation 10, the state transposed to (K, V).

Letters: B batch, L length, H heads, K key head dim, V value head dim.
"""

import torch
from torch import Tensor


def chunk_gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    *,
    reverse: bool = False,
    chunk_size: int = 64,
) -> tuple[Tensor, Tensor | None]:
    """Token-by-token twin of `lingen_kit.ops.gated_delta.chunk_gated_delta_rule`; `chunk_size` has no effect."""
    length, key_dim = q.shape[1], q.shape[3]
    if use_qk_l2norm_in_kernel:
        q = q / (q.square().sum(-1, keepdim=True) + 1e-6).sqrt()
        k = k / (k.square().sum(-1, keepdim=True) + 1e-6).sqrt()
    scale = key_dim**-0.5 if scale is None else scale
    state = v.new_zeros(v.shape[0], v.shape[2], key_dim, v.shape[3]) if initial_state is None else initial_state
    outputs: list[Tensor] = [state] * length
    for t in reversed(range(length)) if reverse else range(length):
        state = torch.exp(g[:, t, :, None, None]) * state  # B H K V
        held = torch.einsum("bhk,bhkv->bhv", k[:, t], state)
        state = state + torch.einsum("bhk,bhv->bhkv", k[:, t], beta[:, t, :, None] * (v[:, t] - held))
        outputs[t] = scale * torch.einsum("bhk,bhkv->bhv", q[:, t], state)
    return torch.stack(outputs, dim=1), state if output_final_state else None
