"""Mamba2 (arXiv 2405.21060), in one or both directions, over a scan of the token grid.

Both directions share the input and output projections and run convolution and state space model each for
themselves, which is what the FLOPs of LinGen's Eq. 1 count: the explicit terms there are one `in_proj` and one
`out_proj`. A one-direction instance has the parameter names and shapes of mamba_ssm's `Mamba2`.

Letters: B batch, L tokens read (review tokens included), N tokens returned, D channels, I = expand*D inner channels,
A heads, P head dim, G groups, S state size, K taps of the convolution.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from lingen_kit.errors import divisors, require_at_least
from lingen_kit.mixers.initial import depthwise, step_bias
from lingen_kit.mixers.sequence import SequenceMixer, review_last
from lingen_kit.ops.conv import causal_conv1d
from lingen_kit.ops.norm import rmsnorm_fn
from lingen_kit.ops.ssd import mamba_chunk_scan_combined
from lingen_kit.parallel import Context
from lingen_kit.parallel.ssd import entering_state, passage
from lingen_kit.parallel.stretches import halos
from lingen_kit.scans import Grid, Scan

_NORM_EPS = 1e-5


class Mamba2(SequenceMixer):
    """Selective state space mixer with a scalar decay per head; linear in the number of tokens.

    Args:
        dim: Channels D.
        layer: Which mixer of its class it is; selects the order of the scan.
        state_size: Size S of each head's state, per channel.
        conv_size: Taps K of the short causal convolution.
        expand: Inner channels per channel, E in the paper's Eq. 1.
        head_dim: Channels P of one head.
        groups: Groups G of heads that share B and C.
        bidirectional: Read the sequence from both ends and add the results.
        scan: The order of the tokens; rotary-major if null.
        review_pool: Average-pooling window (t, h, w) of the review tokens; no review tokens if null.
        backend: Kernel of the state space model.

    Raises:
        ValueError: If `head_dim` does not divide the inner channels or `groups` does not divide the heads.
    """

    context_parallel = True

    def __init__(
        self,
        dim: int,
        layer: int,
        *,
        state_size: int = 128,
        conv_size: int = 4,
        expand: int = 2,
        head_dim: int = 64,
        groups: int = 1,
        bidirectional: bool = True,
        scan: Scan | None = None,
        review_pool: Grid | None = None,
        backend: Literal["auto", "torch", "mamba_ssm"] = "auto",
    ) -> None:
        """Build the projections and the parameters of each direction."""
        super().__init__(dim, layer, scan, review_pool)
        require_at_least("Mamba2", 1, state_size=state_size, conv_size=conv_size)
        inner = expand * dim
        heads = count_heads("Mamba2", dim, expand, head_dim, groups)
        self.inner, self.heads, self.head_dim = inner, heads, head_dim
        self.groups, self.state_size, self.conv_size = groups, state_size, conv_size
        self.bidirectional = bidirectional
        self.backend: Literal["auto", "torch", "mamba_ssm"] = backend

        conv_channels = inner + 2 * groups * state_size
        self.in_proj = nn.Linear(dim, inner + conv_channels + heads, bias=False)
        self.conv1d = depthwise(conv_channels, conv_size)
        self.dt_bias, self.A_log, self.D = dynamics(heads)
        if bidirectional:
            self.conv1d_reverse = depthwise(conv_channels, conv_size)
            self.dt_bias_reverse, self.A_log_reverse, self.D_reverse = dynamics(heads)
        self.norm = nn.RMSNorm(inner, eps=_NORM_EPS)
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def mix(self, sequence: Tensor, review: int) -> Tensor:
        """Mix `(B, R + N, D)` -> `(B, N, D)`; every direction reads the first R = `review` tokens first."""
        z, x_b_c, dt = self._project(sequence)
        y = self._read(x_b_c, dt, reverse=False)[:, review:]
        if self.bidirectional:
            # The reverse direction starts at the last position, so the review tokens go there.
            y_reverse = self._read(review_last(x_b_c, review), review_last(dt, review), reverse=True)
            y = y + y_reverse[:, : y.shape[1]]
        return self._gate(y, z[:, review:])

    def mix_stretch(self, pieces: list[Tensor], lengths: list[tuple[int, ...]], context: Context) -> Tensor:
        """Mix `(B, n, D)` of a sequence that is split over ranks: they pass each other the states of each direction."""
        edges = halos(pieces, lengths, self.conv_size - 1, context)
        wide = [
            _Wide(before.shape[1], piece.shape[1], *self._project(torch.cat([before, piece, after], dim=1)))
            for piece, (before, after) in zip(pieces, edges, strict=True)
        ]
        y = self._read_stretch(wide, context, reverse=False)
        if self.bidirectional:
            y = y + self._read_stretch(wide, context, reverse=True)
        return self._gate(y, wide[-1].own(wide[-1].z))

    def _project(self, sequence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(B, L, D)` -> the gate `(B, L, I)`, x, B and C `(B, L, I + 2GS)` and step sizes `(B, L, A)`."""
        inner, state = self.inner, self.groups * self.state_size
        z, x_b_c, dt = self.in_proj(sequence).split([inner, inner + 2 * state, self.heads], dim=-1)
        return z, x_b_c, dt

    def _gate(self, y: Tensor, z: Tensor) -> Tensor:
        """Gate, normalize and project what was read: two of `(B, N, I)` -> `(B, N, D)`."""
        size = self.inner // self.groups
        return self.out_proj(rmsnorm_fn(y, self.norm.weight, z, _NORM_EPS, size, norm_before_gate=False))

    def _read(self, x_b_c: Tensor, dt: Tensor, reverse: bool) -> Tensor:
        """Convolution and state space model of one direction: `(B, L, I + 2GS)` and `(B, L, A)` -> `(B, L, I)`."""
        return self._scan(*self._convolve(x_b_c, reverse), dt, reverse)

    def _read_stretch(self, pieces: "list[_Wide]", context: Context, reverse: bool) -> Tensor:
        """`_read` for this rank's stretch of the video: `(B, n, I)`."""
        passages, inputs = [], []
        a, _, dt_bias = self._dynamics(reverse)
        for piece in pieces:
            first, end = piece.start, piece.start + piece.length
            if reverse:
                x, b, c = (t[:, : piece.length] for t in self._convolve(piece.x_b_c[:, first:], reverse))
            else:
                x, b, c = (t[:, first:] for t in self._convolve(piece.x_b_c[:, :end], reverse))
            dt = piece.own(piece.dt)
            inputs.append((x, b, c, dt))
            passages.append(passage(x, dt, a, b, dt_bias, reverse=reverse))
        # Of the review tokens, which come first, only the state is needed.
        return self._scan(*inputs[-1], reverse, entering_state(passages, context, reverse=reverse))

    def _convolve(self, x_b_c: Tensor, reverse: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Short convolution of one direction: `(B, L, I + 2GS)` -> `(B, L, A, P)` and two of `(B, L, G, S)`."""
        conv = self.conv1d_reverse if reverse else self.conv1d
        x_b_c = causal_conv1d(x_b_c, conv.weight.squeeze(1), conv.bias, activation="silu", reverse=reverse)
        state = self.groups * self.state_size
        x, b, c = x_b_c.split([self.inner, state, state], dim=-1)
        return x.unflatten(-1, (self.heads, -1)), b.unflatten(-1, (self.groups, -1)), c.unflatten(-1, (self.groups, -1))

    def _dynamics(self, reverse: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Log decay, skip and step bias of one direction, each `(A,)`."""
        suffix = "_reverse" if reverse else ""
        a_log, d, dt_bias = (getattr(self, f"{name}{suffix}") for name in ("A_log", "D", "dt_bias"))
        return -torch.exp(a_log.to(torch.promote_types(a_log.dtype, torch.float32))), d, dt_bias

    def _scan(
        self, x: Tensor, b: Tensor, c: Tensor, dt: Tensor, reverse: bool, initial_states: Tensor | None = None
    ) -> Tensor:
        """State space model of one direction, to `(B, L, I)`."""
        a, d, dt_bias = self._dynamics(reverse)
        y = mamba_chunk_scan_combined(
            x,
            dt,
            a,
            b,
            c,
            D=d,
            dt_bias=dt_bias,
            initial_states=initial_states,
            dt_softplus=True,
            direction="reverse" if reverse else "forward",
            backend=self.backend,
        )
        assert isinstance(y, Tensor)  # no final states asked for
        return y.flatten(2)

    def flops(self, grid: Grid) -> int:
        """FLOPs of one forward pass over a grid, two per multiply-add: the terms of LinGen's Eq. 1 to 3.

        The state space model counts as the recurrence that it is (Eq. 3), whatever chunks it is computed in.
        """
        length, directions = self.sequence_length(grid), 1 + self.bidirectional
        state = self.groups * self.state_size
        projections = 2 * length * self.dim * self.in_proj.out_features
        projections += 2 * grid[0] * grid[1] * grid[2] * self.inner * self.dim
        convolution = 2 * self.conv_size * (length + self.conv_size - 1) * (self.inner + 2 * state)
        ssm = 4 * length * self.inner * self.state_size + 2 * length * self.inner
        return projections + directions * (convolution + ssm)

    def extra_repr(self) -> str:
        """Sizes beyond those that the children show."""
        sizes = f"heads={self.heads}, state_size={self.state_size}, bidirectional={self.bidirectional}"
        return f"{sizes}, {super().extra_repr()}"


class _Wide(NamedTuple):
    """What the input projection makes of a stretch and of the tokens before and after it."""

    start: int
    length: int
    z: Tensor
    x_b_c: Tensor
    dt: Tensor

    def own(self, t: Tensor) -> Tensor:
        """The entries of the stretch itself."""
        return t[:, self.start : self.start + self.length]


def count_heads(owner: str, dim: int, expand: int, head_dim: int, groups: int) -> int:
    """Heads of `expand * dim` inner channels.

    Raises:
        ValueError: If `head_dim` does not divide the inner channels or `groups` does not divide the heads.
    """
    require_at_least(owner, 1, expand=expand, head_dim=head_dim, groups=groups)
    inner = expand * dim
    if inner % head_dim:
        raise ValueError(
            f"{owner}: head_dim {head_dim} does not divide the {inner} inner channels (expand {expand} x dim {dim}); "
            f"choose out of {divisors(inner)}"
        )
    heads = inner // head_dim
    if heads % groups:
        raise ValueError(f"{owner}: groups {groups} does not divide the {heads} heads; choose out of {divisors(heads)}")
    return heads


def dynamics(heads: int) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter]:
    """Step bias, log decay and skip of one direction, initialized as in the Mamba2 paper.

    The decay is uniform in [1, 16]. None of them should be decayed by the optimizer.
    """
    dt_bias = nn.Parameter(step_bias(heads))
    return dt_bias, nn.Parameter(torch.empty(heads).uniform_(1, 16).log_()), nn.Parameter(torch.ones(heads))
