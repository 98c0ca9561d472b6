"""Temporal Swin attention (TESA): LinGen's attention in windows that are small in space and longer in time.

The windows keep their size at every resolution, so the cost is linear in the number of tokens, and they are shifted
by half in every other layer so that neighbors across a border meet. The paper gives no sizes; ours are options. It
names no position bias either, so there is none: positions come from the denoiser's embedding.

Projections and norms treat tokens one by one, so the input is packed window after window once, and what comes out
of the last projection is unpacked once. In between, a CPU takes a few windows at a time through all of the mixer, so
that queries, keys and values stay in its cache.

Letters: B batch, T H W the grid of tokens, D channels, m tokens of a block of windows, A heads, P head dim.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lingen_kit.mixers.attention import QKVProjection
from lingen_kit.mixers.base import Mixer
from lingen_kit.ops.attention import AttentionBackend, packed_attention
from lingen_kit.ops.backend import lower_for_autocast
from lingen_kit.ops.windows import axis_windows, check_window, cut_windows
from lingen_kit.parallel import Context, current, fetch
from lingen_kit.scans import Grid

_CPU_TOKENS = 2048  # 6 MB of queries, keys and values at width 256


class WindowAttention(Mixer):
    """Softmax attention inside (t, h, w) windows of the grid.

    Args:
        dim: Channels D, divisible by `heads`.
        layer: Which mixer of its class it is; odd ones shift their windows.
        heads: Attention heads.
        window: Tokens of a window along time, height and width. An axis no longer than its window is one window.
        shift: Whether odd layers shift the windows by half their size.
        backend: `sdpa`, torch's own attention; `flash_attn` (CUDA, 16 bits); or `auto`: flash_attn where it is
            installed and takes the call, else sdpa.

    Raises:
        ValueError: If a window size is below 1, or `heads` does not divide `dim`.
    """

    context_parallel = True

    def __init__(
        self,
        dim: int,
        layer: int,
        *,
        heads: int = 4,
        window: Grid = (8, 4, 4),
        shift: bool = True,
        backend: AttentionBackend = "auto",
    ) -> None:
        """Build the projections and fix the shift of this layer."""
        super().__init__(dim, layer)
        check_window(window)
        self.window = window
        self.shift: Grid = (window[0] // 2, window[1] // 2, window[2] // 2) if shift and layer % 2 else (0, 0, 0)
        self.backend = backend
        self.qkv = QKVProjection(dim, heads)
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of a grid: `(B, T, H, W, D)` -> the same."""
        context = current()
        return self._mix(x, self.shift) if context is None else self._mix_slab(x, context)

    def _mix_slab(self, x: Tensor, context: Context) -> Tensor:
        """Mix this rank's slab of a video, in the windows of the whole.

        Windows that reach over the slab's ends are mixed by every rank that holds a part of them.
        """
        frames, window, shift = context.grid(x)[0], self.window[0], self.shift[0]
        starts = [run.start + i * run.size for run in axis_windows(frames, window, shift) for i in range(run.repeats)]
        wanted = []
        for first, end in pairwise(context.borders):
            last_window = bisect_right(starts, end - 1)
            wanted.append((starts[bisect_right(starts, first) - 1], [*starts, frames][last_window]))
        start = wanted[context.rank][0]
        (lowered,) = lower_for_autocast(x)  # as the projection does: sends half
        # After a border the first window is a full one; before it may be the short one that the shift makes.
        shift = 0 if start else shift
        y = self._mix(fetch(lowered, context.borders, wanted, context), (shift, *self.shift[1:]))
        return y[:, context.first - start :][:, : x.shape[1]]

    def _mix(self, x: Tensor, shift: Grid) -> Tensor:
        """Mix whole windows, `(B, T, H, W, D)` -> the same."""
        windows = cut_windows((x.shape[0], x.shape[1], x.shape[2], x.shape[3]), self.window, shift, x.device)
        blocks = windows.blocks(_CPU_TOKENS) if x.device.type == "cpu" else [list(windows.groups)]
        sizes = [sum(count * length for count, length in block) for block in blocks]
        packed = windows.pack(x).split(sizes)
        outs = [self._attend(tokens, block) for tokens, block in zip(packed, blocks, strict=True)]
        return windows.unpack(torch.cat(outs) if len(outs) > 1 else outs[0])

    def _attend(self, tokens: Tensor, groups: Sequence[tuple[int, int]]) -> Tensor:
        """Attention within windows that are packed one after another, `(m, D)` -> the same."""
        q, k, v = self.qkv(tokens)  # (m, A, P)
        return self.out_proj(packed_attention(q, k, v, groups, backend=self.backend).flatten(1))

    def flops(self, grid: Grid) -> int:
        """FLOPs of one forward pass over a grid, two per multiply-add: 8 N d^2 + 4 d times the pairs that meet.

        A window of n tokens has n^2 pairs, so their sum over all windows is the product over the axes of the sums of
        squared window lengths: N n for windows that fit, fewer where shift or grid leave smaller ones at the borders.
        """
        pairs = 1
        for length, window, shift in zip(grid, self.window, self.shift, strict=True):
            pairs *= sum(run.repeats * run.size**2 for run in axis_windows(length, window, shift))
        return 8 * math.prod(grid) * self.dim**2 + 4 * pairs * self.dim

    def extra_repr(self) -> str:
        """Window, shift and backend."""
        return f"window={self.window}, shift={self.shift}, backend={self.backend}"
