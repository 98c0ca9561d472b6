"""Mamba (arXiv 2312.00752), in one or both directions, over a scan of the token grid.

    x, z = in_proj(tokens),  x = silu(conv1d(x)),  dt, B, C = x_proj(x),  y = selective_scan(x, dt_proj(dt), A, B, C, D)
    out_proj(y silu(z))

Both directions share the input projection, the gate and the output projection, and have all between them for
themselves, as in Vision Mamba (arXiv 2401.09417, Alg. 1). A one-direction instance has the parameter names, shapes and
initialization of mamba_ssm's `Mamba`.

Letters: B batch, L tokens read (review tokens included), N tokens returned, D channels, I = expand*D inner channels,
R rank of the step sizes, S state size, K taps of the convolution.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lingen_kit.errors import require_at_least
from lingen_kit.mixers.initial import depthwise, step_bias
from lingen_kit.mixers.sequence import SequenceMixer, review_last
from lingen_kit.ops.conv import causal_conv1d
from lingen_kit.ops.selective_scan import selective_scan_fn
from lingen_kit.scans import Grid, Scan


class Mamba(SequenceMixer):
    """Selective state space mixer with a decay for every entry of the state; linear in the number of tokens.

    Args:
        dim: Channels D.
        layer: Which mixer of its class it is; selects the order of the scan.
        state_size: Size S of each inner channel's state.
        conv_size: Taps K of the short causal convolution.
        expand: Inner channels per channel.
        dt_rank: Rank R of the projection that gives the step sizes; `auto` is D / 16, rounded up.
        bidirectional: Read the sequence from both ends and add the results.
        scan: The order of the tokens; rotary-major if null.
        review_pool: Average-pooling window (t, h, w) of the review tokens; no review tokens if null.
        backend: Kernel of the selective scan.

    Raises:
        ValueError: If a size is below 1.
    """

    def __init__(
        self,
        dim: int,
        layer: int,
        *,
        state_size: int = 16,
        conv_size: int = 4,
        expand: int = 2,
        dt_rank: int | Literal["auto"] = "auto",
        bidirectional: bool = True,
        scan: Scan | None = None,
        review_pool: Grid | None = None,
        backend: Literal["auto", "torch", "numba", "mamba_ssm"] = "auto",
    ) -> None:
        """Build the projections and the parameters of each direction."""
        super().__init__(dim, layer, scan, review_pool)
        rank = math.ceil(dim / 16) if dt_rank == "auto" else dt_rank
        require_at_least("Mamba", 1, state_size=state_size, conv_size=conv_size, expand=expand, dt_rank=rank)
        self.inner, self.state_size, self.conv_size, self.dt_rank = expand * dim, state_size, conv_size, rank
        self.bidirectional = bidirectional
        self.backend: Literal["auto", "torch", "numba", "mamba_ssm"] = backend

        self.in_proj = nn.Linear(dim, 2 * self.inner, bias=False)
        self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D = self._direction()
        if bidirectional:
            reverse = self._direction()
            self.conv1d_reverse, self.x_proj_reverse, self.dt_proj_reverse, self.A_log_reverse, self.D_reverse = reverse
        self.out_proj = nn.Linear(self.inner, dim, bias=False)

    def _direction(self) -> tuple[nn.Conv1d, nn.Linear, nn.Linear, nn.Parameter, nn.Parameter]:
        """Convolution, projections, log decays and skip of one direction, initialized as in the paper's Sec. 3.6.

        The decays are 1 to S (S4D-real). Neither they nor the skip and the bias of the steps should be decayed by the
        optimizer.
        """
        inner, size, rank = self.inner, self.state_size, self.dt_rank
        dt_proj = nn.Linear(rank, inner)
        nn.init.uniform_(dt_proj.weight, -(rank**-0.5), rank**-0.5)
        with torch.no_grad():
            dt_proj.bias.copy_(step_bias(inner))
        decays = torch.arange(1, size + 1, dtype=torch.float32).repeat(inner, 1)
        return (
            depthwise(inner, self.conv_size),
            nn.Linear(inner, rank + 2 * size, bias=False),
            dt_proj,
            nn.Parameter(decays.log()),
            nn.Parameter(torch.ones(inner)),
        )

    def mix(self, sequence: Tensor, review: int) -> Tensor:
        """Mix `(B, R + N, D)` -> `(B, N, D)`; every direction reads the first R = `review` tokens first."""
        tokens = sequence.shape[1] - review
        x, z = self.in_proj(sequence).chunk(2, dim=-1)  # B L I
        own = (self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D)
        y = self._read(x, *own, reverse=False)[:, review:]
        if self.bidirectional:
            own = (self.conv1d_reverse, self.x_proj_reverse, self.dt_proj_reverse, self.A_log_reverse, self.D_reverse)
            # The reverse direction starts at the last position, so the review tokens go there.
            y = y + self._read(review_last(x, review), *own, reverse=True)[:, :tokens]
        return self.out_proj(y * F.silu(z[:, review:]))

    def _read(
        self,
        x: Tensor,
        conv1d: nn.Conv1d,
        x_proj: nn.Linear,
        dt_proj: nn.Linear,
        a_log: Tensor,
        d: Tensor,
        *,
        reverse: bool,
    ) -> Tensor:
        """Read the sequence in one direction: `(B, L, I)` -> the same."""
        u = causal_conv1d(x, conv1d.weight.squeeze(1), conv1d.bias, activation="silu", reverse=reverse)
        dt, b, c = x_proj(u).split([self.dt_rank, self.state_size, self.state_size], dim=-1)
        y = selective_scan_fn(
            u.mT,
            F.linear(dt, dt_proj.weight).mT,
            -torch.exp(a_log.to(torch.promote_types(a_log.dtype, torch.float32))),
            b.mT,
            c.mT,
            d,
            delta_bias=dt_proj.bias,
            delta_softplus=True,
            direction="reverse" if reverse else "forward",
            backend=self.backend,
        )
        assert isinstance(y, Tensor)  # no last state asked for
        return y.mT

    def flops(self, grid: Grid) -> int:
        """FLOPs of one forward pass over a grid, two per multiply-add.

        An entry of the state costs six a token: two to write and two to read it as in Mamba-2, one to decay it, and one
        for the logarithm of its decay.
        """
        length, directions = self.sequence_length(grid), 1 + self.bidirectional
        ends = 2 * length * self.dim * 2 * self.inner + 2 * grid[0] * grid[1] * grid[2] * self.inner * self.dim
        convolution = 2 * length * self.conv_size * self.inner
        projections = 2 * length * self.inner * (2 * self.dt_rank + 2 * self.state_size)
        ssm = 6 * length * self.inner * self.state_size + 2 * length * self.inner
        return ends + directions * (convolution + projections + ssm)

    def extra_repr(self) -> str:
        """Sizes beyond those that the children show."""
        sizes = f"state_size={self.state_size}, dt_rank={self.dt_rank}, bidirectional={self.bidirectional}"
        return f"{sizes}, {super().extra_repr()}"
