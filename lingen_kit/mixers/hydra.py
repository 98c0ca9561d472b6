"""Hydra (arXiv 2407.09941): a state space mixer that reads both directions as one quasi-separable matrix.

Where bidirectional Mamba2 runs two causal models and adds them, here one matrix has the past below its diagonal, the
future above it and a free diagonal: both directions share x, B and C, and step sizes alone tell them apart. The
published module gives each direction B and C of its own and shifts their outputs by a token; parameter names are its.

Letters: B batch, L tokens read (review tokens included), N tokens returned, D channels, I = expand*D inner channels,
A heads, P head dim, G groups, S state size, K taps of the convolution.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lingen_kit.errors import require_at_least
from lingen_kit.mixers.initial import depthwise
from lingen_kit.mixers.mamba2 import count_heads, dynamics
from lingen_kit.mixers.sequence import SequenceMixer
from lingen_kit.ops.conv import causal_conv1d
from lingen_kit.ops.norm import rmsnorm_fn
from lingen_kit.ops.quasiseparable import quasiseparable_scan
from lingen_kit.scans import Grid, Scan

_NORM_EPS = 1e-5


class Hydra(SequenceMixer):
    """Quasi-separable mixer; linear in the number of tokens, both directions for less than twice the cost of one.

    Args:
        dim: Channels D.
        layer: Which mixer of its class it is; selects the order of the scan.
        state_size: Size S of each head's state, per channel.
        conv_size: Taps K of the short convolution, which is centered; odd.
        expand: Inner channels per channel.
        head_dim: Channels P of one head.
        groups: Groups G of heads that share B and C.
        scan: The order of the tokens; rotary-major if null.
        review_pool: Average-pooling window (t, h, w) of the review tokens; no review tokens if null.
        backend: Kernel of the state space model.

    Raises:
        ValueError: If `head_dim` does not divide the inner channels, `groups` does not divide the heads, or
            `conv_size` is even.
    """

    def __init__(
        self,
        dim: int,
        layer: int,
        *,
        state_size: int = 128,
        conv_size: int = 7,
        expand: int = 2,
        head_dim: int = 64,
        groups: int = 1,
        scan: Scan | None = None,
        review_pool: Grid | None = None,
        backend: Literal["auto", "torch", "mamba_ssm"] = "auto",
    ) -> None:
        """Build the projections and the dynamics, which both directions share."""
        super().__init__(dim, layer, scan, review_pool)
        require_at_least("Hydra", 1, state_size=state_size, conv_size=conv_size)
        if conv_size % 2 == 0:
            raise ValueError(f"Hydra: conv_size {conv_size} must be odd, so that the convolution has a center")
        self.inner = expand * dim
        self.heads = count_heads("Hydra", dim, expand, head_dim, groups)
        self.head_dim, self.groups, self.state_size, self.conv_size = head_dim, groups, state_size, conv_size
        self.backend: Literal["auto", "torch", "mamba_ssm"] = backend

        conv_channels = self.inner + 2 * groups * state_size
        self.in_proj = nn.Linear(dim, self.inner + conv_channels + 2 * self.heads, bias=False)
        self.conv1d = depthwise(conv_channels, conv_size)
        self.dt_bias, self.A_log, self.D = dynamics(self.heads)
        self.fc_D = nn.Linear(self.inner, self.heads, bias=False)
        self.norm = nn.RMSNorm(self.inner, eps=_NORM_EPS)
        self.out_proj = nn.Linear(self.inner, dim, bias=False)

    def mix(self, sequence: Tensor, review: int) -> Tensor:
        """Mix `(B, R + N, D)` -> `(B, N, D)`.

        The R = `review` tokens stand at both ends: so each direction reads them before the video. What the other end
        holds comes too late for the state of a direction; only the convolution reaches a few tokens across.
        """
        if review:
            sequence = torch.cat([sequence, sequence[:, :review]], dim=1)
        state = self.groups * self.state_size
        z, x_b_c, dt = self.in_proj(sequence).split([self.inner, self.inner + 2 * state, 2 * self.heads], dim=-1)
        ahead = self.conv_size // 2  # a centered filter is a causal one over tokens that come so much earlier
        weight, bias = self.conv1d.weight.squeeze(1), self.conv1d.bias
        x_b_c = causal_conv1d(F.pad(x_b_c, (0, 0, 0, ahead)), weight, bias, activation="silu")[:, ahead:]
        x, b, c = x_b_c.split([self.inner, state, state], dim=-1)
        a_log = self.A_log.to(torch.promote_types(self.A_log.dtype, torch.float32))
        y = quasiseparable_scan(
            x.unflatten(-1, (self.heads, -1)),
            dt,
            -torch.exp(a_log).repeat(2),
            b.unflatten(-1, (self.groups, -1)),
            c.unflatten(-1, (self.groups, -1)),
            D=self.fc_D(x) + self.D.to(x.dtype),
            dt_bias=self.dt_bias.repeat(2),
            dt_softplus=True,
            backend=self.backend,
        )
        video = slice(review, y.shape[1] - review)
        y, size = y[:, video].flatten(2), self.inner // self.groups
        return self.out_proj(rmsnorm_fn(y, self.norm.weight, z[:, video], _NORM_EPS, size))

    def flops(self, grid: Grid) -> int:
        """FLOPs of one forward pass over a grid, two per multiply-add, counted as those of Mamba2 are."""
        tokens = grid[0] * grid[1] * grid[2]
        length = 2 * self.sequence_length(grid) - tokens  # review tokens at both ends
        state = self.groups * self.state_size
        taps = 2 * self.conv_size * (length + self.conv_size // 2 + self.conv_size - 1)
        projections = 2 * length * (self.dim * self.in_proj.out_features + self.inner * self.heads)
        projections += 2 * tokens * self.inner * self.dim
        ssm = 2 * (4 * length * self.inner * self.state_size) + 2 * length * self.inner
        return projections + taps * (self.inner + 2 * state) + ssm

    def extra_repr(self) -> str:
        """Sizes beyond those that the children show."""
        return f"heads={self.heads}, state_size={self.state_size}, {super().extra_repr()}"
