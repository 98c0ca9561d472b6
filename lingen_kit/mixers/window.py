"""Temporal Swin attention (TESA): LinGen's attention in windows that are small in space and longer in time.

The windows keep their size at every resolution, so the cost is linear in the number of tokens, and they are shifted
by half in every other layer so that neighbours across a border meet. The paper gives no sizes; ours are options.

Letters: B batch, T H W the grid of tokens, D channels, A heads, P head dim.
"""

from torch import Tensor, nn

from lingen_kit.mixers.attention import QKVProjection
from lingen_kit.mixers.base import Mixer
from lingen_kit.ops.attention import window_attention
from lingen_kit.scans import Grid


class WindowAttention(Mixer):
    """Softmax attention inside (t, h, w) windows of the grid.

    Args:
        dim: Channels D, divisible by `heads`.
        layer: Which mixer of its class it is; odd ones shift their windows.
        heads: Attention heads.
        window: Tokens of a window along time, height and width. An axis no longer than its window is one window.
        shift: Whether odd layers shift the windows by half their size.

    Raises:
        ValueError: If a window size is below 1.
    """

    def __init__(self, dim: int, layer: int, *, heads: int = 4, window: Grid = (8, 4, 4), shift: bool = True) -> None:
        """Build the projections and fix the shift of this layer."""
        super().__init__(dim, layer)
        if min(window) < 1:
            raise ValueError(f"window {window} must be three sizes of at least 1 (time, height, width)")
        self.window = window
        self.shift: Grid = (window[0] // 2, window[1] // 2, window[2] // 2) if shift and layer % 2 else (0, 0, 0)
        self.qkv = QKVProjection(dim, heads)
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of a grid: `(B, T, H, W, D)` -> the same."""
        q, k, v = self.qkv(x)  # (B, T, H, W, A, P)
        return self.out_proj(window_attention(q, k, v, self.window, self.shift).flatten(4))

    def flops(self, grid: Grid) -> int:
        """FLOPs of one forward pass over a grid, two per multiply-add, the padding of ragged windows included."""
        tokens = grid[0] * grid[1] * grid[2]
        padded, per_window = 1, 1
        for size, window in zip(grid, self.window, strict=True):
            padded *= -(-size // min(window, size)) * min(window, size)
            per_window *= min(window, size)
        return 8 * tokens * self.dim**2 + 4 * padded * per_window * self.dim

    def extra_repr(self) -> str:
        """Window and shift."""
        return f"window={self.window}, shift={self.shift}"
