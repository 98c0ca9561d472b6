"""Full self-attention over all tokens of the grid: the mixer of DiT (arXiv 2212.09748), quadratic in their number.

Letters: B batch, T H W the grid of tokens, D channels, A heads, P head dim.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from lingen_kit.mixers.base import Mixer
from lingen_kit.ops.attention import attention
from lingen_kit.scans import Grid


class HeadNorm(nn.RMSNorm):
    """RMSNorm over the channels of a head, in the dtype of its input.

    Under autocast the weight is in fp32; left so, it would have queries and keys computed in fp32 as well.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`(..., P)` -> the same."""
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


def split_heads(dim: int, heads: int, what: str) -> int:
    """Channels of one head.

    Raises:
        ValueError: If `heads` does not divide `dim`.
    """
    if heads < 1 or dim % heads:
        raise ValueError(f"heads {heads} of {what} does not divide its width dim {dim}")
    return dim // heads


class QKVProjection(nn.Module):
    """Project tokens to the queries, keys and values of several heads, queries and keys normalised.

    Without the norm (arXiv 2302.05442) attention logits can grow without bound in bf16.

    Args:
        dim: Channels D, divisible by `heads`.
        heads: Attention heads A.

    Raises:
        ValueError: If `heads` does not divide `dim`.
    """

    def __init__(self, dim: int, heads: int) -> None:
        """Build one joint projection and two norms."""
        super().__init__()
        head_dim = split_heads(dim, heads, "the attention")
        self.heads = heads
        self.proj = nn.Linear(dim, 3 * dim, bias=False)
        self.q_norm = HeadNorm(head_dim)
        self.k_norm = HeadNorm(head_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(..., D)` -> three of `(..., A, P)`."""
        q, k, v = self.proj(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        return self.q_norm(q), self.k_norm(k), v


class SelfAttention(Mixer):
    """Softmax attention of every token over every token.

    Args:
        dim: Channels D, divisible by `heads`.
        layer: Which mixer of its class it is; attention does not depend on it.
        heads: Attention heads.
    """

    def __init__(self, dim: int, layer: int, *, heads: int = 4) -> None:
        """Build the projections."""
        super().__init__(dim, layer)
        self.qkv = QKVProjection(dim, heads)
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of a grid: `(B, T, H, W, D)` -> the same."""
        q, k, v = self.qkv(x.flatten(1, 3))  # (B, N, A, P)
        return self.out_proj(attention(q, k, v).flatten(2)).view_as(x)

    def flops(self, grid: Grid) -> int:
        """FLOPs of one forward pass over a grid, two per multiply-add: 8 N d^2 + 4 N^2 d."""
        tokens = grid[0] * grid[1] * grid[2]
        return 8 * tokens * self.dim**2 + 4 * tokens**2 * self.dim
