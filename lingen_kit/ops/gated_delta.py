"""The gated delta rule, the sequence operator of Gated DeltaNet, forward or in reverse.

Source: Yang, Kautz and Hatamizadeh 2024, "Gated Delta Networks: Improving Mamba2 with Delta Rule"
(arXiv 2412.06464), equation 10. Before a value is written at a key, the memory is scaled down and what it already
holds for that key is taken out, so that a write replaces rather than adds. Argument names, shapes and meaning are
those of the function of the same name in flash-linear-attention (fla), so that either can stand in for the other;
`reverse` and `chunk_size` are ours. The maths in torch is in `gated_delta_chunks.py`, a token-by-token twin in
`naive/gated_delta.py`.

Letters: B batch, L length, H heads, K key head dim, V value head dim.
"""

from typing import Literal

import torch
from torch import Tensor

from lingen_kit.ops.backend import Kernel, choose_kernel, lower_for_autocast
from lingen_kit.ops.checks import require_finite, require_shapes
from lingen_kit.ops.gated_delta_chunks import chunked_delta_rule

_OP = "chunk_gated_delta_rule"
_KERNEL = Kernel(
    "fla", "fla.ops.gated_delta_rule", _OP, "fla", package="fla-core", dtypes=(torch.float16, torch.bfloat16)
)
_KERNEL_KEY_DIM = 256  # channels of the longest key that fla's kernel takes
_NORM_EPS = 1e-6  # fla's, added to the sum of squares


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
    backend: Literal["auto", "torch", "fla"] = "auto",
) -> tuple[Tensor, Tensor | None]:
    """Run `S[t] = exp(g[t]) (I - beta[t] k[t] k[t]^T) S[t-1] + beta[t] k[t] v[t]^T`, `o[t] = scale S[t]^T q[t]`.

    All sums are in float32 for 16-bit inputs; under autocast q, k and v are cast to its dtype. Memory is linear in
    L; double backward is not supported. The state stays bounded for keys of length one at most, g <= 0 and beta
    in [0, 2].

    Args:
        q: `(B, L, H, K)` queries, L >= 1.
        k: `(B, L, H, K)` keys.
        v: `(B, L, H, V)` values.
        g: `(B, L, H)` log decays, finite. Their values are checked on the CPU only: on CUDA the check would wait
            for the device.
        beta: `(B, L, H)` writing strengths: 0 leaves the memory, 1 replaces what it holds for the key.
        scale: Factor on the queries; `1 / sqrt(K)` if None.
        initial_state: `(B, H, K, V)` state before the first position visited; None is zero.
        output_final_state: Also return the state after the last position visited.
        use_qk_l2norm_in_kernel: Scale each query and key to length one.
        reverse: Visit the positions from the last to the first; inputs and outputs keep their order.
        chunk_size: Positions a chunk of the torch path, a matter of speed only.
        backend: `torch`, `fla` (CUDA, 16 bits), or `auto`: fla on CUDA where it is installed and serves the call,
            else torch.

    Returns:
        `(B, L, H, V)` in the dtype of q, and the state `(B, H, K, V)`, in float32 at least, or None.

    Raises:
        ValueError: A shape, dtype, value or backend does not fit.
        MissingPackage: `backend="fla"` and it is not installed.
    """
    q, k, v = lower_for_autocast(q, k, v)
    _check(q, k, v, g, beta, initial_state, chunk_size)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    unfit = None
    if q.shape[-1] > _KERNEL_KEY_DIM:
        unfit = f"takes keys of at most {_KERNEL_KEY_DIM} channels, not {q.shape[-1]}"
    kernel = choose_kernel(_OP, backend, _KERNEL, q, unfit)
    if kernel is not None:
        inputs = (t.flip(1) if reverse else t for t in (q, k, v, g, beta))  # it only knows forward
        o, final_state = kernel(
            *inputs,
            scale=scale,
            initial_state=initial_state,
            output_final_state=output_final_state,
            use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel,
        )
        return o.flip(1) if reverse else o, final_state

    compute = torch.promote_types(q.dtype, torch.float32)
    dtype, (batch, _, heads, key_dim) = q.dtype, q.shape
    if use_qk_l2norm_in_kernel:
        q, k = _unit_length(q.to(compute)), _unit_length(k.to(compute))
    if initial_state is None:
        initial_state = torch.zeros(batch, heads, key_dim, v.shape[-1], dtype=compute, device=q.device)
    o, final_state = chunked_delta_rule(
        q, k, v, g.to(compute), beta.to(compute), scale, initial_state.to(compute), reverse, chunk_size
    )
    return o.to(dtype), final_state if output_final_state else None


def _unit_length(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + _NORM_EPS)


def _check(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, initial_state: Tensor | None, chunk_size: int
) -> None:
    """Raise a ValueError that names the argument, what it is and what it should be."""
    if q.dim() != 4 or v.dim() != 4:
        raise ValueError(
            f"{_OP}: q must be (batch, length, heads, key dim) and v (batch, length, heads, value dim); got "
            f"q {tuple(q.shape)}, v {tuple(v.shape)}"
        )
    batch, length, heads, key_dim = q.shape
    if length == 0:
        raise ValueError(f"{_OP}: q {tuple(q.shape)} has length 0; at least one position is needed")
    rows = (batch, length, heads)
    expected: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "k": (k, (*rows, key_dim)),
        "v": (v, (*rows, v.shape[-1])),
        "g": (g, rows),
        "beta": (beta, rows),
        "initial_state": (initial_state, (batch, heads, key_dim, v.shape[-1])),
    }
    require_shapes(_OP, q, expected, wide=("g", "beta", "initial_state"), main="q")
    if chunk_size < 1:
        raise ValueError(f"{_OP}: chunk_size={chunk_size}; give a positive number, such as 64")
    require_finite(_OP, "g", g)
