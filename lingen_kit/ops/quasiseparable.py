"""Quasi-separable matrix mixer: a state space model that reads from both ends at less than the cost of two.

Source: Hwang, Lahoti, Dao and Gu 2024, "Hydra" (arXiv 2407.09941), Sec. 4: the mixing matrix has a semiseparable
lower triangle (the past), a semiseparable upper triangle (the future) and a free diagonal (the token itself),

    M[t, s] = C[t] B[s] exp(sum of A dt over (s, t]) dt[s]     s < t, forward steps dt and decays A
    M[t, s] = C[t] B[s] exp(sum of A dt over [t, s)) dt[s]     s > t, reverse steps dt and decays A
    M[t, t] = D[t]

Both directions share x, B and C. So inside a chunk they are one matrix, with one `C B^T`, one exponential of decays
and one product with x; only the states that pass between chunks are two. The chunked method is that of
`ssd_chunks.py`, whose letters and formulas this file uses. The published module has other rows of C in the triangles
(`C[t-1]` and `C[t+1]`, from shifting the outputs of two causal scans); the matrices are of the same class.

Letters: B batch, L length, H heads, P head dim, G groups, R = H/G heads a group, N state size, Q chunk size,
K chunks in a segment.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from lingen_kit.ops.backend import choose_kernel, lower_for_autocast, no_autocast
from lingen_kit.ops.checks import require_shapes
from lingen_kit.ops.ssd import SSD_KERNEL, check_sequence, mamba_chunk_scan_combined, step_sizes
from lingen_kit.ops.ssd_segments import (
    Part,
    Segment,
    SegmentTensors,
    by_row,
    choose_chunk_size,
    join_segments,
    plan_segments,
)

_OP = "quasiseparable_scan"


def quasiseparable_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    chunk_size: int | None = None,
    *,
    backend: Literal["auto", "torch", "mamba_ssm"] = "auto",
) -> Tensor:
    """Mix a sequence with the quasi-separable matrix above.

    Args:
        x: `(B, L, H, P)` inputs, L >= 1.
        dt: `(B, L, 2H)` step sizes, before `dt_bias`, softplus and limits: forward ones of all heads, then reverse.
        A: `(2H,)` log decay per unit of step, in the order of `dt`; negative.
        B: `(B, L, G, N)`, what is written; G divides H.
        C: `(B, L, G, N)`, what is read.
        D: `(B, L, H)` diagonal of the matrix; zero if None.
        dt_bias: `(2H,)`, or None.
        dt_softplus: Pass `dt + dt_bias` through softplus.
        dt_limit: Smallest and largest step size; applied last.
        chunk_size: Positions a chunk, a matter of speed only; None chooses.
        backend: `torch`, `mamba_ssm` (CUDA: two calls of its state space dual), or `auto`.

    Returns:
        `(B, L, H, P)` in the dtype of x.

    Raises:
        ValueError: A shape, dtype, value or backend does not fit.
        MissingPackage: `backend="mamba_ssm"` and it is not installed.
    """
    x, B, C, D = lower_for_autocast(x, B, C, D)
    batch, length, heads, _ = check_sequence(_OP, x, B, C, chunk_size, dt_limit)
    wide = torch.promote_types(x.dtype, torch.float32)
    expected: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "dt": (dt, (batch, length, 2 * heads)),
        "A": (A, (2 * heads,)),
        "D": (D, (batch, length, heads)),
        "dt_bias": (dt_bias, (2 * heads,)),
    }
    require_shapes(_OP, x, expected, wide=("dt", "A", "dt_bias"))
    dt = step_sizes(_OP, dt, dt_bias, dt_softplus, dt_limit, wide)
    if choose_kernel(_OP, backend, SSD_KERNEL, x) is None:
        size = choose_chunk_size(length, B.shape[3]) if chunk_size is None else chunk_size
        segments = plan_segments(x, heads, B.shape[3], size)
        inputs = (x, dt, A.to(wide), B, C)
        save = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
        y = _QuasiseparableScan.apply(*inputs, segments, save).to(x.dtype)
    else:
        y = _two_scans(x, dt, A, B, C, chunk_size)
    return y if D is None else torch.addcmul(y, x, D.unsqueeze(-1))


def _two_scans(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk_size: int | None) -> Tensor:
    """Both directions of the state space dual on its CUDA kernel, less the diagonal that each of them has.

    In 32 bits: what is left of a difference of two roundings to 16 bits may be little else than their errors.
    """
    dtype = x.dtype
    x, B, C = (t.to(torch.promote_types(dtype, torch.float32)) for t in (x, B, C))
    both = [torch.cat([t, t], dim=2) for t in (x, B, C)]
    y = mamba_chunk_scan_combined(both[0], dt, A, both[1], both[2], chunk_size, direction="both", backend="mamba_ssm")
    assert isinstance(y, Tensor)  # no final states asked for
    forward, reverse = y.chunk(2, dim=2)
    itself = (B * C).sum(-1).repeat_interleave(x.shape[2] // B.shape[2], dim=2)  # B L H
    steps = torch.add(*dt.chunk(2, dim=2))
    return (forward + reverse - x * (itself * steps).unsqueeze(-1)).to(dtype)


_Both = tuple[SegmentTensors, SegmentTensors]
"""One segment, read from its start and read from its end."""


def _cut_both(segments: tuple[Segment, ...], x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> list[_Both]:
    """The tensors of every segment in both directions, which share x, B and C."""
    heads = x.shape[2]
    part = Part(slice(0, heads), slice(0, B.shape[2]), reverse=False)
    both: list[_Both] = []
    for whole, members in join_segments(segments):
        forward = SegmentTensors(whole, part, x, dt[:, :, :heads], A[:heads], B, C)
        reverse = forward.reversed(dt[:, :, heads:], A[heads:])
        both += [(forward.narrow(segment), reverse.narrow(segment)) for segment in members]
    return both


def _no_state(x: Tensor, dt: Tensor, B: Tensor) -> Tensor:
    """The state before anything was read, `(B, G, N, R, P)`."""
    batch, _, heads, width = x.shape
    groups, state = B.shape[2:]
    return dt.new_zeros(batch, groups, state, heads // groups, width)


def _decays(forward: SegmentTensors, reverse: SegmentTensors) -> Tensor:
    """Decay from s to t of the direction that carries s to t, zero on the diagonal: `(K, B, G, R, Q, Q)`."""
    past, future = (s.potential.unsqueeze(-1) - s.potential.unsqueeze(-2) for s in (forward, reverse))
    decays = torch.where(_past(past), past, future, out=past).exp_()
    decays.diagonal(dim1=-2, dim2=-1).zero_()
    return decays


def _steps(forward: SegmentTensors, reverse: SegmentTensors) -> Tensor:
    """Step size with which s is written for t: `(K, B, G, R, Q, Q)`."""
    return torch.where(_past(forward.dt), forward.dt.unsqueeze(-2), reverse.dt.unsqueeze(-2))


def _past(rows: Tensor) -> Tensor:
    """True where t comes after s, `(Q, Q)` for the Q of the last axis."""
    size = rows.shape[-1]
    return torch.ones(size, size, dtype=torch.bool, device=rows.device).tril(-1)


def _square(t: Tensor) -> Tensor:
    """Merge all batch axes: `(..., a, b)` -> `(-1, a, b)`."""
    return t.reshape(-1, *t.shape[-2:])


def _carry_back(s: SegmentTensors, dy: Tensor, dstate: Tensor) -> Tensor:
    """Gradients of the states at the edges of a segment's chunks, from that of the state which leaves it."""
    return s.accumulate(s.C, s.weighted(s.native(dy), s.enter, "native"), dstate, not s.part.reverse)


class _QuasiseparableScan(torch.autograd.Function):
    """Walks the sequence twice: from the end for what the reverse direction carries, then from the start."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, segments: tuple[Segment, ...], save: bool
    ) -> Tensor:
        y = torch.empty(x.shape, dtype=dt.dtype, device=x.device)
        from_right, from_left = [], []  # states at the edges of the chunks, kept for backward
        with no_autocast(x):
            both = _cut_both(segments, x, dt, A, B, C)
            state = _no_state(x, dt, B)
            buffer = None if save else state.new_empty(segments[0].chunks + 1, *state.shape)
            for _, reverse in reversed(both):
                states, across = reverse.advance(state, buffer)
                state = states[0]
                torch.mul(across, by_row(reverse.enter), out=reverse.native(y))
                from_right += [states] if save else []
            state = torch.zeros_like(state)
            for forward, reverse in both:
                states, across = forward.advance(state, buffer)
                state = states[-1]
                out = forward.native(y).addcmul_(across, by_row(forward.enter))
                mixing = _decays(forward, reverse).mul_(_steps(forward, reverse)).mul_(forward.scores())
                values = forward.weighted(forward.x, None, "head")
                out.add_(torch.bmm(_square(mixing), _square(values)).view(values.shape).transpose(-2, -3))
                from_left += [states] if save else []
        ctx.segments = segments
        if save:
            ctx.save_for_backward(x, dt, A, B, C, *from_left, *reversed(from_right))
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        inputs, states = ctx.saved_tensors[:5], ctx.saved_tensors[5:]
        from_left, from_right = states[: len(states) // 2], states[len(states) // 2 :]
        gradients = [torch.zeros_like(t, memory_format=torch.contiguous_format) for t in inputs]
        with no_autocast(dy):
            both = _cut_both(ctx.segments, *inputs)
            dfrom_right = []
            dstate = torch.zeros_like(from_left[0][0])
            for _, reverse in both:
                dfrom_right.append(_carry_back(reverse, dy, dstate))
                dstate = dfrom_right[-1][-1]
            dstate = torch.zeros_like(dstate)
            for i in reversed(range(len(both))):
                dfrom_left = _carry_back(both[i][0], dy, dstate)
                dstate = dfrom_left[0]
                _write_gradients(both[i], (from_left[i], from_right[i]), (dfrom_left, dfrom_right.pop()), dy, gradients)
        return *gradients, None, None


def _write_gradients(
    both: _Both,
    states: tuple[Tensor, Tensor],
    dstates: tuple[Tensor, Tensor],
    dy: Tensor,
    gradients: list[Tensor],
) -> None:
    """Write the gradients of one segment.

    With c the running log decay of a direction, the gradient of a[t] follows, as in `ssd_chunks.py`, from how much
    of the output leaves through t and enters through it; what passes on the squares is told apart by triangle.

    Args:
        both: The segment, read from its start and from its end.
        states: At the chunks' edges, from the left and from the right.
        dstates: Their gradients.
        dy: Gradient of the output.
        gradients: Of x, dt, A, B and C, to write to.
    """
    forward, heads = both[0], gradients[0].shape[2]
    dy = forward.native(dy)
    scores, decays, steps = forward.scores(), _decays(*both), _steps(*both)
    dy_heads, values = (forward.weighted(t, None, "head") for t in (dy, forward.x))
    dmixing = torch.bmm(_square(dy_heads), _square(values).transpose(1, 2)).view(decays.shape)
    dmixing.mul_(decays)
    dscores = _square((dmixing * steps).sum(3))
    mixing = _square(decays.mul_(steps).mul_(scores))
    dx = torch.bmm(mixing.transpose(1, 2), _square(dy_heads)).view(values.shape).transpose(-2, -3)  # K B G Q R P
    written = dmixing.mul_(scores)  # gradient of the steps, by s and t
    dC, dB = torch.bmm(dscores, forward.B), torch.bmm(dscores.transpose(1, 2), forward.C)
    flat = (len(dC), dC.shape[2], -1)

    for half, s in enumerate(both):
        entering, leaving = s.entering(states[half]), s.leaving(dstates[half])
        reads, writes = s.weighted(dy, s.enter, "native"), s.weighted(s.x, s.dt * s.leave, "native")
        dC.baddbmm_(reads.view(*flat[:1], s.segment.size, -1), entering.reshape(flat).transpose(1, 2))
        dB.baddbmm_(writes.view(*flat[:1], s.segment.size, -1), leaving.reshape(flat).transpose(1, 2))
        triangle = written.triu(1) if s.part.reverse else written.tril(-1)
        through = (s.read(s.C, entering) * reads).sum(-1).transpose(-1, -2)  # K B G R Q
        through += (triangle * s.dt.unsqueeze(-2)).sum(-1)
        dvalues = s.read(s.B, leaving).mul_(by_row(s.leave))
        ddt = (s.x * dvalues).sum(-1).transpose(-1, -2) + triangle.sum(-2)
        dx = dx.addcmul(dvalues, by_row(s.dt))
        balance = through - s.dt * ddt
        running = balance.cumsum(-1)
        edge = (entering * s.entering(dstates[half])).sum((3, 5)).unsqueeze(-1)
        dlog_decay = edge + (running - running[..., -1:] if s.part.reverse else balance - running)
        own = slice(half * heads, (half + 1) * heads)
        s.native(gradients[1][:, :, own].unsqueeze(-1)).squeeze(-1).copy_((ddt + s.A * dlog_decay).transpose(-1, -2))
        gradients[2][own] += (s.dt * dlog_decay).sum((0, 1, 4)).flatten()
    forward.native(gradients[0]).copy_(dx)
    for gradient, value in ((gradients[3], dB), (gradients[4], dC)):
        rows = forward.group_rows(gradient)
        rows.copy_(value.view(rows.shape))
