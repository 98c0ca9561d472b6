"""Full self-attention over all tokens of the grid: the mixer of DiT (arXiv 2212.09748), quadratic in their number.

Letters: B batch, T H W the grid of tokens, D channels, A heads, P head dim.
"""

import torch
from torch import Tensor, nn

from lingen_kit.errors import divisors, require_at_least
from lingen_kit.mixers.base import Mixer
from lingen_kit.ops.attention import AttentionBackend, attention
from lingen_kit.ops.norm import rmsnorm_fn
from lingen_kit.ops.rope import rope3d, split_channels
from lingen_kit.parallel import current, gather_time
from lingen_kit.scans import Grid


class HeadNorm(nn.RMSNorm):
    """RMSNorm over the channels of a head, in the dtype of its input.

    Under autocast the weight is in fp32; left so, it would have queries and keys computed in fp32 as well.
    """

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """`(..., P)` -> the same, times the silu of a gate if there is one."""
        eps = torch.finfo(torch.promote_types(x.dtype, torch.float32)).eps if self.eps is None else self.eps
        return rmsnorm_fn(x, self.weight, gate, eps)


def split_heads(dim: int, heads: int, what: str) -> int:
    """Channels of one head.

    Raises:
        ValueError: If `heads` does not divide `dim`.
    """
    if heads < 1 or dim % heads:
        raise ValueError(f"heads {heads} of {what} does not divide its width dim {dim}; choose out of {divisors(dim)}")
    return dim // heads


class QKVProjection(nn.Module):
    """Project tokens to the queries, keys and values of several heads.

    Args:
        dim: Channels D, divisible by `heads`.
        heads: Attention heads A.
        qk_norm: RMSNorm each head's queries and keys. Without it (arXiv 2302.05442) attention logits can grow
            without bound in bf16.

    Raises:
        ValueError: If `heads` does not divide `dim`.
    """

    def __init__(self, dim: int, heads: int, qk_norm: bool = True) -> None:
        """Build one joint projection and two norms."""
        super().__init__()
        head_dim = split_heads(dim, heads, "the attention")
        self.heads = heads
        self.proj = nn.Linear(dim, 3 * dim, bias=False)
        self.q_norm = HeadNorm(head_dim) if qk_norm else nn.Identity()
        self.k_norm = HeadNorm(head_dim) if qk_norm else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(..., D)` -> three of `(..., A, P)`."""
        q, k, v = self.proj(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        return self.q_norm(q), self.k_norm(k), v


class SelfAttention(Mixer):
    """Softmax attention of every token over every token.

    Args:
        dim: Channels D, divisible by `heads`.
        layer: Which mixer of its class it is; attention does not depend on it.
        heads: Attention heads A.
        qk_norm: RMSNorm the queries and keys of each head.
        rope: Turn queries and keys by the tokens' positions: a rotary embedding over time, height and width.
        rope_base: Sets how slowly the slowest channels of the rotary embedding turn; at least 1.
        backend: `sdpa`, torch's own attention; `flash_attn` (CUDA, 16 bits); or `auto`: flash_attn where it is
            installed and takes the call, else sdpa.

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
        backend: AttentionBackend = "auto",
    ) -> None:
        """Build the projections."""
        super().__init__(dim, layer)
        self.qkv = QKVProjection(dim, heads, qk_norm)
        self.out_proj = nn.Linear(dim, dim, bias=False)
        if rope:
            split_channels(dim // heads)
        require_at_least("SelfAttention", 1, rope_base=rope_base)
        self.rope, self.rope_base, self.backend = rope, rope_base, backend

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of a grid: `(B, T, H, W, D)` -> the same."""
        q, k, v = self.qkv(x)  # (B, T, H, W, A, P)
        context = current()
        if self.rope:
            first_frame = 0 if context is None else context.first
            q, k = rope3d(q, self.rope_base, first_frame), rope3d(k, self.rope_base, first_frame)
        if context is not None:
            k, v = gather_time(torch.stack([k, v]), context).unbind()
        q, k, v = (t.flatten(1, 3) for t in (q, k, v))  # (B, N, A, P)
        return self.out_proj(attention(q, k, v, backend=self.backend).flatten(2)).view_as(x)

    def flops(self, grid: Grid) -> int:
        """FLOPs of one forward pass over a grid, two per multiply-add: 8 N d^2 + 4 N^2 d."""
        tokens = grid[0] * grid[1] * grid[2]
        return 8 * tokens * self.dim**2 + 4 * tokens**2 * self.dim

    def extra_repr(self) -> str:
        """The rotary embedding; the children show the rest."""
        return f"rope={self.rope}, rope_base={self.rope_base}, backend={self.backend}"
