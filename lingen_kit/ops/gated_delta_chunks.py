"""The torch path of `ops/gated_delta.py`: the gated delta rule as matrix products with a hand-written backward.

Source: Yang et al. 2024, "Parallelizing Linear Transformers with the Delta Rule over Sequence Length"
(arXiv 2406.06484) and "Gated Delta Networks" (arXiv 2412.06464), section 3.3: the WY form. Cut the sequence into
chunks of Q positions and let c be the running log decay within a chunk, D[t, s] = exp(c[t] - c[s]) where t sees s.
What a position writes is beta[t] k[t] e[t]^T with e[t] the error of what the memory predicts for the key,

    (I + A) E = V - diag(exp c) K S,    A = (K K^T * D) diag(beta), strictly triangular,

and with T the inverse of I + A, the state S that enters a chunk gives

    E  = T V - W S,                     W = T diag(exp c) K
    O  = scale (diag(exp c) Q S + (Q K^T * D) diag(beta) E)
    S' = exp(c_last) S + K^T diag(exp(c_last - c) beta) E.

How it is made fast:

- All but the two products with S is done for many chunks at once, and only that passes from chunk to chunk.
- T is made by inverting small diagonal blocks row by row and doubling them: matrix products, which are faster than a
  triangular solver on many small systems, and backward needs T and its transpose again.
- The sequence is walked in segments of a few chunks, so that temporaries stay in cache; only the states that enter
  the chunks are kept for backward, all else is recomputed.
- Backward never forms the gradient of the Q x Q decays: each path from s to t carries `exp(c[t] - c[s])` once, so
  the gradient of c at t is `<o[t], do[t]> - <v[t], dv[t]>`, and `<S, dS>` of the entering state closes the balance at
  the chunk's edge (as in `ssd_chunks.py`).
- In reverse c runs from the right, triangles are upper ones and states pass from right to left. Nothing is flipped.

Letters: B batch, L length, H heads, K key head dim, V value head dim, Q chunk size, C chunks in a segment,
M = B H, N = C M.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lingen_kit.ops.backend import no_autocast
from lingen_kit.ops.ssd_segments import Segment, plan_segments

_BLOCK = 8  # diagonal blocks of this size are inverted row by row


def unit_lower_inverse(a: Tensor) -> Tensor:
    """Invert `I + a` where only what lies below the diagonal of `a` `(N, Q, Q)` counts.

    Blocks on the diagonal are inverted by forward substitution; then two neighbors X and Y with L below X make one
    block of twice the size, whose lower left part is `-Y L X`.
    """
    size = a.shape[-1]
    block = min(size, _BLOCK)
    full = block
    while full < size:
        full *= 2
    a = F.pad(a, (0, full - size, 0, full - size))

    def below(blocks: int, width: int, shift: int) -> Tensor:
        """Blocks `shift` below the diagonal ones, every other row of blocks if 1: `(N, blocks, width, width)`."""
        tiles = a.view(len(a), blocks, 1 + shift, width, blocks, 1 + shift, width)[:, :, shift, :, :, 0]
        return tiles.diagonal(dim1=1, dim2=3).movedim(-1, 1)

    diagonal = below(full // block, block, 0)
    inverse = torch.eye(block, dtype=a.dtype, device=a.device).expand_as(diagonal).clone()
    for row in range(1, block):
        inverse[..., row, :row] = -(diagonal[..., row, :row, None] * inverse[..., :row, :row]).sum(-2)
    while block < full:
        upper, lower = inverse[:, 0::2], inverse[:, 1::2]
        corner = -(lower @ below(full // (2 * block), block, 1) @ upper)
        top = torch.cat([upper, torch.zeros_like(upper)], dim=-1)
        inverse = torch.cat([top, torch.cat([corner, lower], dim=-1)], dim=-2)
        block *= 2
    return inverse[:, 0, :size, :size]


class _SegmentTensors:
    """Rows, decays and inverse of one segment, shared by forward and backward; chunks and heads in one axis N."""

    def __init__(
        self, segment: Segment, reverse: bool, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, scale: float
    ) -> None:
        self.segment, self.reverse, self.scale, self.dtype = segment, reverse, scale, g.dtype
        self.q, self.k, self.v = self.gather(q), self.gather(k), self.gather(v)  # (N, Q, K), (N, Q, K), (N, Q, V)
        self.beta = self.gather(beta).unsqueeze(-1)  # (N, Q, 1)
        total = self.gather(g)
        total = total.flip(-1).cumsum(-1).flip(-1) if reverse else total.cumsum(-1)  # (N, Q), c above
        last = total[:, :1] if reverse else total[:, -1:]
        self.enter, self.leave = torch.exp(total).unsqueeze(-1), torch.exp(last - total).unsqueeze(-1)  # (N, Q, 1)
        self.chunk_decay = torch.exp(last).view(segment.chunks, -1, 1, 1)  # (C, M, 1, 1)
        # What t does not see may overflow to infinity before it becomes zero; nothing is multiplied by it in between.
        decays = (total.unsqueeze(-1) - total.unsqueeze(-2)).exp_()
        self.decays = decays.triu_() if reverse else decays.tril_()  # (N, Q, Q)
        self.overlaps = torch.bmm(self.k, self.k.mT).mul_(self.decays)
        a = self.overlaps * self.beta.mT
        self.inverse = unit_lower_inverse(a.mT).mT if reverse else unit_lower_inverse(a)  # (N, Q, Q), T above
        self.scores = torch.bmm(self.q, self.k.mT).mul_(self.decays).mul_(scale)
        self.carried = torch.bmm(self.inverse, self.enter * self.k)  # (N, Q, K), W above
        self.reads = self.q * (self.enter * scale)  # (N, Q, K), what multiplies the entering state

    def place(self, t: Tensor) -> Tensor:
        """View `(B, L, H, ...)` as `(C, B, H, Q, ...)`."""
        return t[:, self.segment.positions].unflatten(1, (self.segment.chunks, -1)).movedim(0, 1).movedim(3, 2)

    def gather(self, t: Tensor) -> Tensor:
        """Copy `(B, L, H, ...)` to `(N, Q, ...)` in the dtype of the computation."""
        rows = self.place(t)
        return rows.to(self.dtype).reshape(-1, *rows.shape[3:])

    def scatter(self, rows: Tensor, out: Tensor) -> None:
        """Write `(N, Q, ...)` to its place in `(B, L, H, ...)`."""
        place = self.place(out)
        place.copy_(rows.view(place.shape))

    def by_chunk(self, t: Tensor) -> Tensor:
        """View `(N, ...)` as `(C, M, ...)`."""
        return t.view(self.segment.chunks, -1, *t.shape[1:])

    def edges(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Split states at the edges `(C+1, M, K, V)` into those that enter and those that leave: each `(N, K, V)`."""
        left, right = states[:-1].flatten(0, 1), states[1:].flatten(0, 1)
        return (right, left) if self.reverse else (left, right)


def _forward_segment(s: _SegmentTensors, state: Tensor, o: Tensor) -> Tensor:
    """Write the outputs of one segment to o; return the states at its chunks' edges, `(C+1, M, K, V)`."""
    chunks = s.segment.chunks
    states = state.new_empty(chunks + 1, *state.shape)
    states[chunks if s.reverse else 0] = state
    errors = torch.bmm(s.inverse, s.v)  # (N, Q, V), T V for now
    by_chunk, carried = s.by_chunk(errors), s.by_chunk(s.carried)
    writes = s.by_chunk(s.k * (s.leave * s.beta)).mT  # (C, M, K, Q)
    for c in reversed(range(chunks)) if s.reverse else range(chunks):
        entering, leaving = (c + 1, c) if s.reverse else (c, c + 1)
        by_chunk[c].baddbmm_(carried[c], states[entering], alpha=-1)
        torch.mul(states[entering], s.chunk_decay[c], out=states[leaving])
        states[leaving].baddbmm_(writes[c], by_chunk[c])
    rows = torch.bmm(s.reads, s.edges(states)[0])
    s.scatter(rows.baddbmm_(s.scores * s.beta.mT, errors), o)
    return states


@dataclass
class _Gradients:
    """Where the segments write their gradients."""

    q: Tensor
    k: Tensor
    v: Tensor
    g: Tensor
    beta: Tensor


def _backward_segment(
    s: _SegmentTensors, states: Tensor, o: Tensor, do: Tensor, dstate: Tensor, out: _Gradients
) -> Tensor:
    """Write the gradients of one segment.

    Args:
        s: The segment.
        states: States at its chunks' edges, from forward, `(C+1, M, K, V)`.
        o: Output of the operator, `(B, L, H, V)`.
        do: Its gradient.
        dstate: Gradient of the state that leaves the segment, `(M, K, V)`.
        out: Where to write.

    Returns:
        The gradient of the state that enters the segment.
    """
    chunks = s.segment.chunks
    entering, _ = s.edges(states)
    o, do = s.gather(o), s.gather(do)
    errors = torch.bmm(s.inverse, s.v).baddbmm_(s.carried, entering, alpha=-1)  # (N, Q, V)

    dwritten = torch.bmm(s.scores.mT, do)  # (N, Q, V), the gradient of beta e
    dstates = torch.empty_like(states)
    dstates[0 if s.reverse else chunks] = dstate
    dentering, dleaving = s.edges(dstates)
    torch.bmm(s.reads.mT, do, out=dentering)
    by_chunk, keys = s.by_chunk(dwritten), s.by_chunk(s.k * s.leave)
    back = s.by_chunk(s.carried * s.beta).mT  # (C, M, K, Q)
    for c in range(chunks) if s.reverse else reversed(range(chunks)):
        enters, leaves = (c + 1, c) if s.reverse else (c, c + 1)
        by_chunk[c].baddbmm_(keys[c], dstates[leaves])
        dstates[enters].addcmul_(dstates[leaves], s.chunk_decay[c])
        dstates[enters].baddbmm_(back[c], by_chunk[c], alpha=-1)

    dv = torch.bmm(s.inverse.mT, s.beta * dwritten)  # also the gradient of V - diag(exp c) K S
    written = s.beta * errors
    pairs = torch.bmm(dv, errors.mT)  # (N, Q, Q)
    pairs = pairs.triu_(1) if s.reverse else pairs.tril_(-1)
    dbeta = (errors * dwritten).sum(-1) - (pairs * s.overlaps).sum(-2)
    doverlaps = pairs.mul_(s.decays).mul_(s.beta.mT)  # with its sign turned
    dscores = torch.bmm(do, written.mT).mul_(s.decays).mul_(s.scale)
    dq = torch.bmm(do, entering.mT).mul_(s.enter * s.scale).baddbmm_(dscores, s.k)
    dk = torch.bmm(written, dleaving.mT).mul_(s.leave).baddbmm_(dscores.mT, s.q)
    dk.addcmul_(torch.bmm(dv, entering.mT), s.enter, value=-1).baddbmm_(doverlaps + doverlaps.mT, s.k, alpha=-1)

    balance = (o * do).sum(-1) - (s.v * dv).sum(-1)  # (N, Q), the gradient of c
    edge = (entering * dentering).sum((1, 2)).unsqueeze(-1)
    if s.reverse:
        dg = edge + balance.cumsum(-1) - balance.sum(-1, keepdim=True)
    else:
        dg = edge + balance - balance.cumsum(-1)
    for rows, whole in ((dq, out.q), (dk, out.k), (dv, out.v), (dg, out.g), (dbeta, out.beta)):
        s.scatter(rows, whole)
    return dstates[chunks if s.reverse else 0]


class _ChunkedDeltaRule(torch.autograd.Function):
    """All segments of one call; saves inputs, output and the states at the edges of the chunks."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        g: Tensor,
        beta: Tensor,
        initial_state: Tensor,
        scale: float,
        reverse: bool,
        segments: tuple[Segment, ...],
        save: bool,
    ) -> tuple[Tensor, Tensor]:
        # The balance of the decays needs o as computed, not as rounded to 16 bits.
        o = torch.empty(v.shape, dtype=g.dtype, device=v.device)
        saved: list[Tensor] = []
        state = initial_state.flatten(0, 1)
        with no_autocast(v):
            for segment in reversed(segments) if reverse else segments:
                tensors = _SegmentTensors(segment, reverse, q, k, v, g, beta, scale)
                states = _forward_segment(tensors, state, o)
                state = states[0] if reverse else states[-1]
                if save:
                    saved.append(states)
        ctx.scale, ctx.reverse, ctx.segments = scale, reverse, segments
        if save:
            ctx.save_for_backward(q, k, v, g, beta, o, *saved)
        return o, state.view_as(initial_state).clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, do: Tensor, dfinal: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, g, beta, o, *saved = ctx.saved_tensors
        out = _Gradients(*(torch.empty_like(t, memory_format=torch.contiguous_format) for t in (q, k, v, g, beta)))
        dstate = dfinal.flatten(0, 1)
        with no_autocast(v):
            for segment in ctx.segments if ctx.reverse else reversed(ctx.segments):
                tensors = _SegmentTensors(segment, ctx.reverse, q, k, v, g, beta, ctx.scale)
                dstate = _backward_segment(tensors, saved.pop(), o, do, dstate, out)
        return out.q, out.k, out.v, out.g, out.beta, dstate.view_as(dfinal), None, None, None, None


def chunked_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    scale: float,
    initial_state: Tensor,
    reverse: bool,
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """Run the gated delta rule.

    Args:
        q: `(B, L, H, K)`.
        k: `(B, L, H, K)`.
        v: `(B, L, H, V)`.
        g: `(B, L, H)` log decays, in the dtype to compute in.
        beta: `(B, L, H)` in g's dtype.
        scale: Factor on the queries.
        initial_state: `(B, H, K, V)` in g's dtype.
        reverse: Visit the positions from the last to the first.
        chunk_size: Positions a chunk; the last chunk may be shorter.

    Returns:
        `(B, L, H, V)` and the final state `(B, H, K, V)`, both in g's dtype.
    """
    segments = plan_segments(v, v.shape[2], k.shape[3], chunk_size)
    inputs = (q, k, v, g, beta, initial_state)
    save = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    outputs: tuple[Tensor, Tensor] = _ChunkedDeltaRule.apply(*inputs, scale, reverse, segments, save)
    return outputs
