"""The torch path of `ops/ssd.py`: state space dual (SSD) as matrix products with a hand-written backward.

Source: Dao and Gu 2024, "Transformers are SSMs", sections 3 and 6. A head h keeps a state that decays and is
written to at each position, `S[t] = exp(A dt[t]) S[t-1] + dt[t] B[t] x[t]^T`, and reads `y[t] = C[t] S[t]`.
Cut into chunks of Q positions this is, inside a chunk, masked attention `y = (C B^T * decay) (dt x)`, plus what
the state entering the chunk contributes, `exp(..) C S`.

How it is made fast:

- A state is kept as `(N, R P)` for the R heads of a group, so one product serves all heads, and `C B^T` is made
  once per group.
- The sequence is walked in segments of a few chunks, so that temporaries stay in cache; only the states that
  enter the chunks are kept for backward, all else is recomputed.
- Backward never forms the gradient of the Q x Q decays. With c the running log decay, the gradient at t of
  everything inside the chunk is `<y[t], dy[t]> - <v[t], dv[t]>` where v = dt x (each path from s to t carries
  `exp(c[t] - c[s])` once), and `<S, dS>` of the entering state closes the balance at the chunk's edge.
- The reverse recurrence uses the same formulas with the potential `-(c[t] - a[t])`, upper triangles instead of
  lower ones and the states passed from right to left. Nothing is flipped.

The segments are in `ssd_segments.py`.

Letters: B batch, L length, H heads, P head dim, G groups, R = H/G heads a group, N state size, Q chunk size,
K chunks in a segment.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lingen_kit.ops.backend import no_autocast
from lingen_kit.ops.ssd_segments import Part, Segment, SegmentTensors, by_row, cut_tensors, plan_segments


def _forward_segment(s: SegmentTensors, state: Tensor, y: Tensor, D: Tensor | None, buffer: Tensor | None) -> Tensor:
    """Write the outputs of one segment to y; return the states at its chunks' edges, in `buffer` if there is one."""
    states, across = s.advance(state, buffer)
    mixing = s.decays().mul_(s.scores())
    values = s.weighted(s.x, s.dt, "head")
    within = torch.bmm(mixing.view(-1, *mixing.shape[-2:]), values.view(-1, *values.shape[-2:]))
    within = within.view(values.shape).transpose(-2, -3)  # K B G Q R P
    y = s.native(y)
    torch.addcmul(within, across, by_row(s.enter), out=y)
    if D is not None:
        y.addcmul_(s.x, D[s.part.heads].view(s.groups, 1, s.heads, -1))
    return states


@dataclass
class _Gradients:
    """Where the segments write their gradients."""

    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None


def _backward_segment(
    s: SegmentTensors,
    states: Tensor,
    y: Tensor,
    dy: Tensor,
    D: Tensor | None,
    dstate: Tensor,
    out: _Gradients,
) -> Tensor:
    """Write the gradients of one segment.

    Args:
        s: The segment.
        states: States at its chunks' edges, from forward.
        y: Output of the operator, `D x` included.
        dy: Its gradient.
        D: `(H, P)` or None.
        dstate: Gradient of the state that leaves the segment, `(B, G, N, R, P)`.
        out: Where to write.

    Returns:
        The gradient of the state that enters the segment.
    """
    reverse, batch, size = s.part.reverse, len(s.B), s.segment.size
    y, dy = s.native(y), s.native(dy)
    reads = s.weighted(dy, s.enter, "native")
    dstates = s.accumulate(s.C, reads, dstate, not reverse)
    edge = (s.entering(states) * s.entering(dstates)).sum((3, 5)).unsqueeze(-1)  # K B G R 1

    flat = (batch, s.B.shape[2], -1)
    dC = torch.bmm(reads.view(batch, size, -1), s.entering(states).view(flat).transpose(1, 2))
    writes = s.weighted(s.x, s.dt * s.leave, "native")
    dB = torch.bmm(writes.view(batch, size, -1), s.leaving(dstates).view(flat).transpose(1, 2))
    across = s.read(s.B, s.leaving(dstates))

    decays, scores = s.decays(), s.scores()
    values = s.weighted(s.x, s.dt, "head")
    dy_heads = s.weighted(dy, None, "head")
    rows, square = (-1, *values.shape[-2:]), (-1, size, size)
    dmixing = torch.bmm(dy_heads.view(rows), values.view(rows).transpose(1, 2)).view(decays.shape)
    dscores = dmixing.mul_(decays).sum(3).view(square)
    dC.baddbmm_(dscores, s.B)
    dB.baddbmm_(dscores.transpose(1, 2), s.C)
    mixing = decays.mul_(scores).view(square)
    within = torch.bmm(mixing.transpose(1, 2), dy_heads.view(rows)).view(values.shape).transpose(-2, -3)
    dvalues = across.mul_(by_row(s.leave)).add_(within)  # K B G Q R P

    product = torch.mul(s.x, dvalues, out=writes)
    ddt = product.sum(-1).transpose(-1, -2)  # K B G R Q
    balance = torch.mul(y, dy, out=reads)
    dx = s.native(out.x)
    step = by_row(s.dt)
    if D is None or out.D is None:
        torch.mul(dvalues, step, out=dx)
    else:
        skip = D[s.part.heads].view(s.groups, 1, s.heads, -1)
        product = torch.mul(s.x, dy, out=writes)
        out.D[s.part.heads] += product.sum((0, 1, 3)).flatten(0, 1)
        balance.addcmul_(product, skip, value=-1)
        torch.addcmul(dvalues.mul_(step), dy, skip, out=dx)
    balance = balance.sum(-1).transpose(-1, -2) - s.dt * ddt
    if reverse:
        dlog_decay = edge + balance.cumsum(-1) - balance.sum(-1, keepdim=True)
    else:
        dlog_decay = edge + balance - balance.cumsum(-1)
    s.native(out.dt.unsqueeze(-1)).squeeze(-1).copy_((ddt + s.A * dlog_decay).transpose(-1, -2))
    out.A[s.part.heads] += (s.dt * dlog_decay).sum((0, 1, 4)).flatten()
    s.group_rows(out.B).copy_(dB.view(s.group_rows(out.B).shape))
    s.group_rows(out.C).copy_(dC.view(s.group_rows(out.C).shape))
    return dstates[-1] if reverse else dstates[0]


class _ChunkedScan(torch.autograd.Function):
    """All parts and segments of one call; saves inputs, output and the states at the edges of the chunks."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        initial_states: Tensor,
        parts: tuple[Part, ...],
        segments: tuple[Segment, ...],
        save: bool,
    ) -> tuple[Tensor, Tensor]:
        # The balance of the decays needs y as computed, not as rounded to 16 bits.
        y = torch.empty(x.shape, dtype=dt.dtype, device=x.device)
        final_states = torch.empty_like(initial_states)
        saved: list[Tensor] = []
        with no_autocast(x):
            for part in parts:
                state = _split_state(initial_states, part)
                buffer = None if save else state.new_empty(segments[0].chunks + 1, *state.shape)
                cut = cut_tensors(segments, part, x, dt, A, B, C)
                for tensors in reversed(cut) if part.reverse else cut:
                    states = _forward_segment(tensors, state, y, D, buffer)
                    state = states[0] if part.reverse else states[-1]
                    if save:
                        saved.append(states)
                _split_state(final_states, part).copy_(state)
        ctx.parts, ctx.segments = parts, segments
        if save:
            ctx.save_for_backward(x, dt, A, B, C, D, y, *saved)
        return y, final_states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor, dfinal: Tensor) -> tuple[Tensor | None, ...]:
        x, dt, A, B, C, D, y, *saved = ctx.saved_tensors
        dinitial = torch.empty_like(dfinal)
        out = _Gradients(
            torch.empty_like(x, memory_format=torch.contiguous_format),
            torch.empty_like(dt, memory_format=torch.contiguous_format),
            torch.zeros_like(A),
            torch.empty_like(B, memory_format=torch.contiguous_format),
            torch.empty_like(C, memory_format=torch.contiguous_format),
            None if D is None else torch.zeros_like(D),
        )
        with no_autocast(x):
            for part in reversed(ctx.parts):
                dstate = _split_state(dfinal, part)
                cut = cut_tensors(ctx.segments, part, x, dt, A, B, C)
                for tensors in cut if part.reverse else reversed(cut):
                    dstate = _backward_segment(tensors, saved.pop(), y, dy, D, dstate, out)
                _split_state(dinitial, part).copy_(dstate)
        return out.x, out.dt, out.A, out.B, out.C, out.D, dinitial, None, None, None


def _split_state(states: Tensor, part: Part) -> Tensor:
    """View a part of `(B, H, P, N)` as `(B, G, N, R, P)`."""
    groups = part.groups.stop - part.groups.start
    return states[:, part.heads].unflatten(1, (groups, -1)).permute(0, 1, 4, 2, 3)


def chunked_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    initial_states: Tensor,
    parts: tuple[Part, ...],
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """Run the recurrence of each part and add the skip `D x`.

    Args:
        x: `(B, L, H, P)`.
        dt: `(B, L, H)`, step sizes as used (bias, softplus and limits applied), in the dtype to compute in.
        A: `(H,)` in dt's dtype.
        B: `(B, L, G, N)`.
        C: `(B, L, G, N)`.
        D: `(H, P)` in dt's dtype, or None.
        initial_states: `(B, H, P, N)` in dt's dtype.
        parts: Which heads and groups run which way; together all of them.
        chunk_size: Positions a chunk; the last chunk may be shorter.

    Returns:
        `(B, L, H, P)` and the final states `(B, H, P, N)`, both in dt's dtype.
    """
    segments = plan_segments(x, x.shape[2] // len(parts), B.shape[3], chunk_size)
    inputs = (x, dt, A, B, C, D, initial_states)
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
    outputs: tuple[Tensor, Tensor] = _ChunkedScan.apply(*inputs, parts, segments, save)
    return outputs
