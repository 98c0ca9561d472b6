"""ReLU linear attention over all tokens of the grid: the mixer of SANA (arXiv 2410.10629) and SANA-Video (2509.24695).

The softmax of attention becomes a product of features, `relu(q) . relu(k)`, so keys and values are summed once for
all queries: the cost is linear in the number of tokens, and each head has a state of P x P. SANA-Video turns queries
and keys by their positions, after the ReLU and in the numerator only, because turned features may be negative and the
denominator must not be (`SanaLinearAttnProcessor3_0` of diffusers is the published form). It normalizes queries and
keys across heads; here each head has its own norm, as all attention of this kit. The local convolution that goes with
both models is part of their MLP.

Letters: B batch, T H W the grid of tokens, N = T*H*W, D channels, A heads, P head dim.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from lingen_kit.errors import require_at_least
from lingen_kit.mixers.attention import QKVProjection
from lingen_kit.mixers.base import Mixer
from lingen_kit.ops.linear_attention import linear_attention
from lingen_kit.ops.rope import rope3d, split_channels
from lingen_kit.parallel import current, sum_over_ranks
from lingen_kit.scans import Grid

# Features are of order one. A query that meets almost no key must not blow up a turned numerator.
_EPS = 1e-6


class LinearAttention(Mixer):
    """Attention of every token over every token at linear cost.

    Args:
        dim: Channels D, divisible by `heads`.
        layer: Which mixer of its class it is; linear attention does not depend on it.
        heads: Attention heads A. SANA's have 32 channels, SANA-Video's 112.
        qk_norm: RMSNorm the queries and keys of each head before the ReLU.
        rope: Turn queries and keys by the tokens' positions in the numerator, as SANA-Video does.
        rope_base: Sets how slowly the slowest channels of the rotary embedding turn; at least 1.

    Raises:
        ValueError: If `heads` does not divide `dim`, or rotary heads do not split over three axes.
    """

    context_parallel = True

    def __init__(
        self,
        dim: int,
        layer: int,
        *,
        heads: int = 4,
        qk_norm: bool = True,
        rope: bool = False,
        rope_base: float = 10_000.0,
    ) -> None:
        """Build the projections."""
        super().__init__(dim, layer)
        self.qkv = QKVProjection(dim, heads, qk_norm)
        self.out_proj = nn.Linear(dim, dim, bias=False)
        if rope:
            split_channels(dim // heads)
        require_at_least("LinearAttention", 1, rope_base=rope_base)
        self.rope, self.rope_base = rope, rope_base

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of a grid: `(B, T, H, W, D)` -> the same."""
        q, k, v = self.qkv(x)  # (B, T, H, W, A, P)
        q, k = F.relu(q), F.relu(k)
        normalizer = (q.flatten(1, 3), k.flatten(1, 3))
        context = current()
        if self.rope:
            first_frame = 0 if context is None else context.first
            q, k = rope3d(q, self.rope_base, first_frame), rope3d(k, self.rope_base, first_frame)
        reduce = None if context is None else partial(sum_over_ranks, ranks=context)
        q, k, v = (t.flatten(1, 3) for t in (q, k, v))  # (B, N, A, P)
        o, _ = linear_attention(q, k, v, scale=1.0, normalizer=normalizer, eps=_EPS, reduce=reduce)
        return self.out_proj(o.flatten(2)).view_as(x)

    def flops(self, grid: Grid) -> int:
        """FLOPs of one forward pass over a grid, two per multiply-add: 8 N d^2 + 4 N d P."""
        tokens, heads = grid[0] * grid[1] * grid[2], self.qkv.heads
        return 8 * tokens * self.dim**2 + 4 * tokens * self.dim * (self.dim // heads)

    def extra_repr(self) -> str:
        """The rotary embedding; the children show the rest."""
        return f"rope={self.rope}, rope_base={self.rope_base}"
