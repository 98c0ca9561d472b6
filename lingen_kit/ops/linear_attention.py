"""Linear attention: softmax replaced by a product of features, over the whole sequence or causally.

Source: Katharopoulos et al. 2020, "Transformers are RNNs" (arXiv 2006.16236), equations 4 to 9. With features of
queries and keys (the caller applies the feature map) each output is an average of the values,

    o[t] = sum_s (q[t] . k[s]) v[s] / sum_s (q[t] . k[s]),

which needs no score of a pair: `K^T V` is one K x V state a head. Argument names, shapes and meaning are those of
fla's `chunk_linear_attn`, which is the causal case; `causal`, `normalizer` and `eps` are ours. Causal attention is
the state space dual with no decay, so `ops/ssd.py` runs it, in chunks. A slow twin stands in `naive/`.

Letters: B batch, L length, H heads, K key head dim, V value head dim.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from lingen_kit.ops.backend import Kernel, choose_kernel, lower_for_autocast, no_autocast
from lingen_kit.ops.ssd import mamba_chunk_scan_combined

_OP = "linear_attention"
_KERNEL = Kernel("fla", "fla.ops.linear_attn", "chunk_linear_attn", "fla", package="fla-core")


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
    reduce: Callable[[Tensor], Tensor] | None = None,
    backend: Literal["auto", "torch", "fla"] = "auto",
) -> tuple[Tensor, Tensor | None]:
    """Attend with `o[t] = scale S[t]^T q[t]`, S the sum of `k[s] v[s]^T` over all positions, or over s <= t if causal.

    All sums are in float32 for 16-bit inputs; under autocast q, k and v are cast to its dtype. Time and memory are
    linear in L.

    Args:
        q: `(B, L, H, K)` features of the queries, L >= 1.
        k: `(B, L, H, K)` features of the keys.
        v: `(B, L, H, V)` values.
        scale: Factor on the queries; `1 / sqrt(K)` if None. It cancels in a normalized output.
        initial_state: `(B, H, K, V)` sum over what came before; None is zero. Only without `normalize`, because it
            does not hold the sum of the keys; append a column of ones to v to carry that along.
        output_final_state: Also return the sum over all positions, and `initial_state`.
        normalize: Divide by `scale q[t] . sum_s k[s] + eps`. For features >= 0 the output is then an average of
            the values, or zero where a query meets no key.
        causal: Position t sees positions up to t only.
        normalizer: Features of queries and keys, shaped as q and k, to use in the denominator instead. SANA-Video
            rotates queries and keys in the numerator only.
        eps: Added to the denominator.
        reduce: Applied to each sum over all positions: adds those of other ranks, where a sequence is split. Not if
            causal.
        backend: `torch`, `fla` (CUDA, causal), or `auto`: fla on CUDA where it is installed and serves the call,
            else torch.

    Returns:
        `(B, L, H, V)` in the dtype of q, and the state `(B, H, K, V)`, in float32 at least, or None.

    Raises:
        ValueError: A shape, dtype or backend does not fit, or the denominator of a normalized output is unknown.
        MissingPackage: `backend="fla"` and it is not installed.
    """
    q, k, v = lower_for_autocast(q, k, v)
    _check(q, k, v, initial_state, normalize, normalizer, causal, reduce)
    dtype, compute = q.dtype, torch.promote_types(q.dtype, torch.float32)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    kernel = choose_kernel(_OP, backend, _KERNEL, q, _unfit(q, normalize, causal))
    with no_autocast(q):
        q, k, v = q.to(compute), k.to(compute), v.to(compute)
        if normalize:
            queries, keys = (t.to(compute) for t in normalizer or (q, k))
            total = keys.cumsum(1) if causal else keys.sum(1, keepdim=True)
            total = total if reduce is None else reduce(total)
            # Dividing the queries keeps unnormalized sums, which grow with L, out of everything that follows.
            q = q / (scale * (queries * total).sum(-1, keepdim=True) + eps)
        if kernel is not None:
            o, state = kernel(
                *(t.to(dtype) for t in (q, k, v)),
                scale=scale,
                initial_state=initial_state,
                output_final_state=output_final_state,
                normalize=False,
            )
            return o, state
        q = q * scale
        if causal:
            o, state = _causal(q, k, v, initial_state)
        else:
            state = k.transpose(1, 2).mT @ v.transpose(1, 2)  # (B, H, K, V)
            state = state if reduce is None else reduce(state)
            if initial_state is not None:
                state = state + initial_state
            o = (q.transpose(1, 2) @ state).transpose(1, 2)
    return o.to(dtype), state if output_final_state else None


def _causal(q: Tensor, k: Tensor, v: Tensor, initial_state: Tensor | None) -> tuple[Tensor, Tensor]:
    """Run the state space dual with steps of one and no decay, where q, k, v are called C, B, x."""
    y, states = mamba_chunk_scan_combined(
        v,
        v.new_ones(v.shape[:3]),
        v.new_zeros(v.shape[2]),
        k,
        q,
        initial_states=None if initial_state is None else initial_state.mT.to(v.dtype),
        return_final_states=True,
        backend="torch",
    )
    return y, states.mT


def _unfit(q: Tensor, normalize: bool, causal: bool) -> str | None:
    """Say why fla's kernel cannot serve a call; None if it can."""
    if not causal:
        return "has causal attention only"
    if q.shape[1] < q.shape[2]:
        return f"refuses sequences shorter than the number of heads, but q is {tuple(q.shape)}"
    if normalize and q.dtype == torch.float16:
        return "would get queries divided by sums over the sequence, too small for float16"
    return None


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    initial_state: Tensor | None,
    normalize: bool,
    normalizer: tuple[Tensor, Tensor] | None,
    causal: bool,
    reduce: Callable[[Tensor], Tensor] | None,
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
    expected = {"k": (k, tuple(q.shape)), "v": (v, (batch, length, heads, v.shape[-1]))}
    if initial_state is not None:
        expected["initial_state"] = (initial_state, (batch, heads, key_dim, v.shape[-1]))
    for name, features in zip(("normalizer[0]", "normalizer[1]"), normalizer or (), strict=False):
        expected[name] = (features, tuple(q.shape))
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{_OP}: {name} is {tuple(tensor.shape)}, expected {shape} for q {tuple(q.shape)}")
        if name in ("k", "v") and tensor.dtype != q.dtype:
            raise ValueError(f"{_OP}: {name} is {tensor.dtype}, expected {q.dtype}, the dtype of q")
    if normalize and initial_state is not None:
        raise ValueError(
            f"{_OP}: normalize=True cannot start from initial_state, which does not hold the sum of the keys behind "
            "it; use normalize=False with a column of ones appended to v, and divide by the last column of the output"
        )
    if causal and reduce is not None:
        raise ValueError(f"{_OP}: reduce is given, but causal=True has no sum over all positions; drop one of them")
    if not normalize and normalizer is not None:
        raise ValueError(f"{_OP}: normalizer is given, but normalize=False; drop it or normalize")
