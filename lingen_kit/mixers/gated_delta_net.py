"""Gated DeltaNet (arXiv 2412.06464, figure 1), in one or both directions, over a scan of the token grid.

A gated delta rule replaces Mamba2's state space model: a write first takes out what the memory holds for its key, so
that a memory of fixed size forgets in two ways, all at once by decay and key by key. As in this kit's Mamba2, both
directions share the projections and run convolution and delta rule each for themselves. A one-direction instance has
the parameter names and shapes of fla's `GatedDeltaNet`.

Letters: B batch, L tokens read (review tokens included), N tokens returned, D channels, A heads, K key head dim,
V value head dim.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lingen_kit.errors import require_at_least
from lingen_kit.mixers.attention import HeadNorm
from lingen_kit.mixers.initial import depthwise, step_bias
from lingen_kit.mixers.sequence import SequenceMixer, review_last
from lingen_kit.ops.conv import causal_conv1d
from lingen_kit.ops.gated_delta import chunk_gated_delta_rule
from lingen_kit.scans import Grid, Scan


class GatedDeltaNet(SequenceMixer):
    """Delta rule mixer with a scalar decay per head; linear in the number of tokens.

    Args:
        dim: Channels D.
        layer: Which mixer of its class it is; selects the order of the scan.
        head_dim: Channels K of a key.
        heads: Heads A; if null, as many as give keys three quarters of `dim`: the published 6 D^2 parameters.
        expand_v: Channels of a value per channel of a key, V / K.
        conv_size: Taps of the short causal convolutions.
        allow_neg_eigval: Double the writing strength, to (0, 2), so that a write can turn what is held for its key
            into the opposite (arXiv 2411.12537).
        bidirectional: Read the sequence from both ends and add the results.
        scan: The order of the tokens; rotary-major if null.
        review_pool: Average-pooling window (t, h, w) of the review tokens; no review tokens if null.
        backend: Kernel of the delta rule.

    Raises:
        ValueError: If a size is below 1.
    """

    def __init__(
        self,
        dim: int,
        layer: int,
        *,
        head_dim: int = 64,
        heads: int | None = None,
        expand_v: int = 2,
        conv_size: int = 4,
        allow_neg_eigval: bool = False,
        bidirectional: bool = True,
        scan: Scan | None = None,
        review_pool: Grid | None = None,
        backend: Literal["auto", "torch", "fla"] = "auto",
    ) -> None:
        """Build the projections and the parameters of each direction."""
        super().__init__(dim, layer, scan, review_pool)
        require_at_least("GatedDeltaNet", 1, head_dim=head_dim, expand_v=expand_v, conv_size=conv_size)
        if heads is None:
            heads = max(1, round(0.75 * dim / head_dim))
        require_at_least("GatedDeltaNet", 1, heads=heads)
        self.heads, self.head_dim, self.expand_v, self.conv_size = heads, head_dim, expand_v, conv_size
        self.allow_neg_eigval, self.bidirectional = allow_neg_eigval, bidirectional
        self.backend: Literal["auto", "torch", "fla"] = backend

        keys, values = heads * head_dim, heads * head_dim * expand_v
        self.q_proj = nn.Linear(dim, keys, bias=False)
        self.k_proj = nn.Linear(dim, keys, bias=False)
        self.v_proj = nn.Linear(dim, values, bias=False)
        self.a_proj = nn.Linear(dim, heads, bias=False)
        self.b_proj = nn.Linear(dim, heads, bias=False)
        self.q_conv1d, self.k_conv1d, self.v_conv1d = (
            depthwise(c, conv_size, bias=False) for c in (keys, keys, values)
        )
        self.A_log, self.dt_bias = _dynamics(heads)
        if bidirectional:
            self.q_conv1d_reverse = depthwise(keys, conv_size, bias=False)
            self.k_conv1d_reverse = depthwise(keys, conv_size, bias=False)
            self.v_conv1d_reverse = depthwise(values, conv_size, bias=False)
            self.A_log_reverse, self.dt_bias_reverse = _dynamics(heads)
        self.g_proj = nn.Linear(dim, values, bias=False)
        self.o_norm = HeadNorm(head_dim * expand_v, eps=1e-5)
        self.o_proj = nn.Linear(values, dim, bias=False)

    def mix(self, sequence: Tensor, review: int) -> Tensor:
        """Mix `(B, R + N, D)` -> `(B, N, D)`; every direction reads the first R = `review` tokens first."""
        tokens = sequence.shape[1] - review
        read = [proj(sequence) for proj in (self.q_proj, self.k_proj, self.v_proj, self.a_proj, self.b_proj)]
        convolutions = (self.q_conv1d, self.k_conv1d, self.v_conv1d)
        o = self._delta_rule(read, convolutions, self.A_log, self.dt_bias, reverse=False)[:, review:]
        if self.bidirectional:
            # The reverse direction starts at the last position, so the review tokens go there.
            read = [review_last(t, review) for t in read]
            convolutions = (self.q_conv1d_reverse, self.k_conv1d_reverse, self.v_conv1d_reverse)
            reverse = self._delta_rule(read, convolutions, self.A_log_reverse, self.dt_bias_reverse, reverse=True)
            o = o + reverse[:, :tokens]
        gate = self.g_proj(sequence[:, review:]).unflatten(-1, (self.heads, -1))
        return self.o_proj(self.o_norm(o, gate).flatten(2))

    def _delta_rule(
        self,
        read: Sequence[Tensor],
        convolutions: Sequence[nn.Conv1d],
        a_log: Tensor,
        dt_bias: Tensor,
        reverse: bool,
    ) -> Tensor:
        """Run one direction on the projections q, k `(B, L, A K)`, v `(B, L, A V)`, a, b `(B, L, A)`.

        Returns:
            `(B, L, A, V)`.
        """
        *streams, a, b = read
        q, k, v = (
            causal_conv1d(t, conv.weight.squeeze(1), activation="silu", reverse=reverse).unflatten(-1, (self.heads, -1))
            for t, conv in zip(streams, convolutions, strict=True)
        )
        wide = torch.promote_types(a.dtype, torch.float32)
        g = -torch.exp(a_log.to(wide)) * F.softplus(a.to(wide) + dt_bias)  # (B, L, A)
        beta = b.to(wide).sigmoid() * (2 if self.allow_neg_eigval else 1)
        o, _ = chunk_gated_delta_rule(
            q, k, v, g, beta, use_qk_l2norm_in_kernel=True, reverse=reverse, backend=self.backend
        )
        return o

    def flops(self, grid: Grid) -> int:
        """FLOPs of one forward pass over a grid, two per multiply-add.

        Projections and convolutions as they are; of the delta rule what its recurrence needs, 6 L A K V in each
        direction: to predict, to write and to read. Like Mamba2's count, it leaves out what chunks cost beyond that.
        """
        length, tokens, directions = self.sequence_length(grid), math.prod(grid), 1 + self.bidirectional
        keys, values = self.heads * self.head_dim, self.heads * self.head_dim * self.expand_v
        projections = 2 * length * self.dim * (2 * keys + values + 2 * self.heads) + 4 * tokens * self.dim * values
        convolutions = 2 * self.conv_size * (length + self.conv_size - 1) * (2 * keys + values)
        delta_rule = 6 * length * keys * self.head_dim * self.expand_v
        return projections + directions * (convolutions + delta_rule)

    def extra_repr(self) -> str:
        """Sizes beyond those that the children show."""
        sizes = f"heads={self.heads}, head_dim={self.head_dim}, expand_v={self.expand_v}"
        return f"{sizes}, bidirectional={self.bidirectional}, {super().extra_repr()}"


def _dynamics(heads: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Log decay and step bias of one direction, initialized as published.

    The decay is uniform in (0, 16]. Neither should be decayed by the optimizer.
    """
    decay = 16 * (1 - torch.rand(heads))  # never zero, whose logarithm is infinite
    return nn.Parameter(decay.log()), nn.Parameter(step_bias(heads))
