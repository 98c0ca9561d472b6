"""Scaled dot-product attention over whole sequences and over shifted windows of a grid.

`attention` takes its arguments as flash_attn's `flash_attn_func` does. `window_attention` is the core of LinGen's
temporal Swin attention: attention inside small (t, h, w) boxes, shifted by half a box in alternate layers, as in
Swin (arXiv 2103.14030) and Video Swin (arXiv 2106.13230). It works on packed windows (`ops.windows`), so it needs no
mask and spends no FLOP on a pair of tokens that must not meet. Slow twins of both stand in `naive`.

PyTorch's flex_attention could skip the blocks that a mask empties, but it must be compiled to be fast and computes
whole blocks (128 tokens by default) where windows are smaller or ragged, so it is not used.

Letters: B batch, L queries, S keys, T H W the grid of tokens, M = B*T*H*W packed tokens, A heads, P head dim,
w windows of a group, n tokens of each of them.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lingen_kit.ops.backend import Kernel, choose_kernel, lower_for_autocast
from lingen_kit.ops.windows import Size3, cut_windows, split_windows

AttentionBackend = Literal["auto", "sdpa", "flash_attn"]

_HALVES = (torch.float16, torch.bfloat16)
_KERNEL = Kernel("flash_attn", "flash_attn", "flash_attn_func", "flash", dtypes=_HALVES)


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, backend: AttentionBackend = "auto"
) -> Tensor:
    """Softmax attention of each query over all keys, scaled by 1/sqrt(P).

    Args:
        q: Queries `(B, L, A, P)`.
        k: Keys `(B, S, A, P)`.
        v: Values `(B, S, A, P)`.
        mask: True where a query may look, broadcastable to `(B, A, L, S)`. Each query needs one such key.
        backend: `sdpa`, torch's own; `flash_attn` (CUDA, 16 bits, no mask); or `auto`: flash_attn where it is
            installed and takes the call, else sdpa.

    Returns:
        `(B, L, A, P)`.

    Raises:
        ValueError: A shape, dtype or backend does not fit.
        MissingPackage: `backend="flash_attn"` and it is not installed.
    """
    q, k, v = lower_for_autocast(q, k, v)
    _check_attention(q, k, v, mask)
    unfit = "takes no mask" if mask is not None else _unfit_for_flash(q)
    kernel = choose_kernel("attention", backend, _KERNEL, q, unfit, native="sdpa")
    if kernel is None:
        return _sdpa(q, k, v, mask)
    out: Tensor = kernel(q, k, v)
    return out


def window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: Size3,
    shift: Size3 = (0, 0, 0),
    *,
    backend: AttentionBackend = "auto",
) -> Tensor:
    """Attention of each token over the tokens of its own window.

    Along an axis the token at position i belongs to window `floor((i - shift) / window)`: windows at the borders
    may be smaller, nothing wraps around.

    Args:
        q: Queries on the grid, `(B, T, H, W, A, P)`.
        k: Keys, of the same shape.
        v: Values, of the same shape.
        window: Tokens of a window along T, H, W. An axis no longer than its window is one window, unshifted.
        shift: Offset of the first window border along T, H, W, each below its window.
        backend: As for `attention`.

    Returns:
        `(B, T, H, W, A, P)`.

    Raises:
        ValueError: A shape, dtype, window, shift or backend does not fit.
        MissingPackage: `backend="flash_attn"` and it is not installed.
    """
    if q.dim() != 6:
        raise ValueError(
            f"window_attention: q is {tuple(q.shape)}, expected (batch, time, height, width, heads, head dim)"
        )
    q, k, v = lower_for_autocast(q, k, v)
    _check_alike("window_attention", q, k, v)
    windows = cut_windows((q.shape[0], q.shape[1], q.shape[2], q.shape[3]), window, shift, q.device)
    q, k, v = (windows.pack(x) for x in (q, k, v))  # (M, A, P)
    return windows.unpack(packed_attention(q, k, v, windows.groups, backend=backend))


def packed_attention(
    q: Tensor, k: Tensor, v: Tensor, groups: Sequence[tuple[int, int]], *, backend: AttentionBackend = "auto"
) -> Tensor:
    """Attention of each token over the tokens of its own window, where tokens are packed window after window.

    What is done to single tokens (projections, norms) commutes with packing: a mixer packs its input once, and
    unpacks its output, instead of q, k and v.

    Args:
        q: Queries `(M, A, P)`, packed by `Windows.pack`, or a block of whole windows of them.
        k: Keys, of the same shape.
        v: Values, of the same shape.
        groups: Windows w and tokens n of each of them, part by part; together M tokens.
        backend: As for `attention`.

    Returns:
        `(M, A, P)`.
    """
    parts = zip(*(split_windows(x, groups) for x in (q, k, v)), strict=True)  # (w, n, A, P) each
    outs = [attention(*part, backend=backend).flatten(0, 1) for part in parts]  # (w*n, A, P)
    return torch.cat(outs) if len(outs) > 1 else outs[0]


def _sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention by torch, on strided views: `(B, L, A, P)` -> the same."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def _unfit_for_flash(q: Tensor) -> str | None:
    if q.shape[-1] > 256:
        return f"takes heads of at most 256 channels, not {q.shape[-1]}"
    if q.is_cuda and torch.cuda.get_device_capability(q.device) < (8, 0):
        return "needs an Ampere GPU or newer (compute capability 8.0)"
    return None


def _check_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
    """Raise a ValueError that names the argument, what it is and what it should be."""
    if q.dim() != 4 or 0 in q.shape[1:]:
        raise ValueError(
            f"attention: q is {tuple(q.shape)}, expected (batch, queries, heads, head dim) with no size of zero"
        )
    batch, queries, heads, head_dim = q.shape
    if k.dim() != 4 or (k.shape[0], *k.shape[2:]) != (batch, heads, head_dim) or k.shape[1] == 0:
        raise ValueError(
            f"attention: k is {tuple(k.shape)}, expected ({batch}, keys, {heads}, {head_dim}) with keys >= 1 "
            f"for q {tuple(q.shape)}"
        )
    if v.shape != k.shape:
        raise ValueError(f"attention: v is {tuple(v.shape)}, expected {tuple(k.shape)}, the shape of k")
    _check_dtypes("attention", q, k, v)
    if mask is None:
        return
    full = (batch, heads, queries, k.shape[1])
    fits = mask.dim() <= 4 and all(
        have in (1, want) for have, want in zip(reversed(mask.shape), reversed(full), strict=False)
    )
    if mask.dtype != torch.bool or not fits:
        raise ValueError(
            f"attention: mask is {mask.dtype} {tuple(mask.shape)}, expected torch.bool, True where a query may look, "
            f"broadcastable to (batch, heads, queries, keys) = {full}"
        )


def _check_alike(op: str, q: Tensor, k: Tensor, v: Tensor) -> None:
    for name, x in (("k", k), ("v", v)):
        if x.shape != q.shape:
            raise ValueError(f"{op}: {name} is {tuple(x.shape)}, expected {tuple(q.shape)}, the shape of q")
    _check_dtypes(op, q, k, v)


def _check_dtypes(op: str, q: Tensor, k: Tensor, v: Tensor) -> None:
    for name, x in (("k", k), ("v", v)):
        if x.dtype != q.dtype:
            raise ValueError(
                f"{op}: {name} is {x.dtype}, expected {q.dtype}, the dtype of q; cast it with .to(q.dtype)"
            )
