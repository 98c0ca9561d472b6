"""Scaled dot-product attention over whole sequences and over shifted windows of a grid.

`attention` takes its arguments as flash_attn's `flash_attn_func` does. `window_attention` is the core of LinGen's
temporal Swin attention: attention inside small (t, h, w) boxes, shifted by half a box in alternate layers, as in
Swin (arXiv 2103.14030) and Video Swin (arXiv 2106.13230). Slow twins of both stand in `naive.py`.

Letters: B batch, L queries, S keys, T H W the grid of tokens, A heads, P head dim, n tokens of a window.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

Size3 = tuple[int, int, int]


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention of each query over all keys, scaled by 1/sqrt(P).

    Args:
        q: Queries `(B, L, A, P)`.
        k: Keys `(B, S, A, P)`.
        v: Values `(B, S, A, P)`.
        mask: True where a query may look, broadcastable to `(B, A, L, S)`. Each query needs one such key.

    Returns:
        `(B, L, A, P)`.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def window_attention(q: Tensor, k: Tensor, v: Tensor, window: Size3, shift: Size3 = (0, 0, 0)) -> Tensor:
    """Attention of each token over the tokens of its own window.

    Along an axis the token at position i belongs to window `floor((i - shift) / window)`: windows at the borders
    may be smaller, nothing wraps around.

    Args:
        q: Queries on the grid, `(B, T, H, W, A, P)`.
        k: Keys, of the same shape.
        v: Values, of the same shape.
        window: Tokens of a window along T, H, W. An axis no longer than its window is one window, unshifted.
        shift: Offset of the first window border along T, H, W.

    Returns:
        `(B, T, H, W, A, P)`.
    """
    grid: Size3 = (q.shape[1], q.shape[2], q.shape[3])
    window, shift = fit_window(grid, window, shift)
    padded: Size3 = tuple(-(-size // w) * w for size, w in zip(grid, window, strict=True))  # type: ignore[assignment]
    pad = [amount for size, full in reversed(list(zip(grid, padded, strict=True))) for amount in (0, full - size)]
    batch, heads, head_dim = q.shape[0], q.shape[4], q.shape[5]
    counts = [size // w for size, w in zip(padded, window, strict=True)]

    def to_windows(x: Tensor) -> Tensor:
        """Group tokens by window, one attention head of one video at a time: `(windows, B*A, n, P)`.

        Four dimensions, because fused kernels take no more, with the windows first, as in the mask.
        """
        if any(pad):
            x = F.pad(x, [0, 0, 0, 0, *pad])
        if any(shift):
            x = x.roll([-s for s in shift], dims=(1, 2, 3))
        x = x.view(batch, counts[0], window[0], counts[1], window[1], counts[2], window[2], heads, head_dim)
        x = x.permute(1, 3, 5, 0, 7, 2, 4, 6, 8)
        return x.reshape(math.prod(counts), batch * heads, math.prod(window), head_dim)

    mask = None
    if any(shift) or any(pad):
        mask = _window_mask(grid, padded, window, shift, q.device)[:, None]  # (windows, 1, n, n)
    out = F.scaled_dot_product_attention(to_windows(q), to_windows(k), to_windows(v), attn_mask=mask)
    out = out.view(*counts, batch, heads, *window, head_dim).permute(3, 0, 5, 1, 6, 2, 7, 4, 8)
    out = out.reshape(batch, *padded, heads, head_dim)
    if any(shift):
        out = out.roll(shift, dims=(1, 2, 3))
    return out[:, : grid[0], : grid[1], : grid[2]]


def fit_window(grid: Size3, window: Size3, shift: Size3) -> tuple[Size3, Size3]:
    """Shrink the window to the grid; an axis that is one window is not shifted (as Video Swin does)."""
    fitted = [(min(w, size), 0 if size <= w else s) for size, w, s in zip(grid, window, shift, strict=True)]
    (wt, st), (wh, sh), (ww, sw) = fitted
    return (wt, wh, ww), (st, sh, sw)


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # a mask first made while validating must serve training too
def _window_mask(grid: Size3, padded: Size3, window: Size3, shift: Size3, device: torch.device) -> Tensor:
    """True where two tokens of a rolled, padded window belong to the same window of the video: `(windows, n, n)`.

    Rolling brings both ends of an axis into the last window, and padding adds tokens that are none; a token's label
    tells these apart. A padding token sees the other padding of its window, so that no row of the softmax is empty.
    """
    axes = []
    for size, full, w, s in zip(grid, padded, window, shift, strict=True):
        position = torch.arange(full, device=device).roll(-s)
        label = torch.div(position - s, w, rounding_mode="floor")
        axes.append(torch.where(position < size, label, full))  # `full` is above every window's number
    labels = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)  # (T, H, W, 3)
    is_padding = torch.stack([labels[..., i] == padded[i] for i in range(3)], -1).any(-1, keepdim=True)
    labels = labels.masked_fill(is_padding, -2)  # all padding alike
    counts = [size // w for size, w in zip(padded, window, strict=True)]
    labels = labels.view(counts[0], window[0], counts[1], window[1], counts[2], window[2], 3)
    labels = labels.permute(0, 2, 4, 1, 3, 5, 6).reshape(counts[0] * counts[1] * counts[2], -1, 3)
    return (labels[:, :, None] == labels[:, None, :]).all(-1)
