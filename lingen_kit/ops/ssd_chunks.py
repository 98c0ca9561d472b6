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

Letters: B batch, L length, H heads, P head dim, G groups, R = H/G heads a group, N state size, Q chunk size,
K chunks in a segment.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

# Elements of the largest temporary: what the caches of a few cores hold; what keeps a GPU busy with few launches.
_CPU_SEGMENT = 1 << 19
_GPU_SEGMENT = 1 << 26


@dataclass(frozen=True)
class Part:
    """Heads and groups that run in one direction."""

    heads: slice
    groups: slice
    reverse: bool


@dataclass(frozen=True)
class _Segment:
    """`chunks` chunks of `size` positions from position `start`."""

    start: int
    chunks: int
    size: int

    @property
    def positions(self) -> slice:
        """Positions it covers."""
        return slice(self.start, self.start + self.chunks * self.size)


def choose_chunk_size(length: int, state: int) -> int:
    """Pick a chunk size: near 64, or near 48 where a small state makes passing it on cheap; best a divisor."""
    target = 64 if state >= 64 else 48
    if length <= target:
        return length
    divisors = [size for size in range(32, 97) if length % size == 0]
    return min(divisors, key=lambda size: (size % 8 != 0, abs(size - target)), default=target)


def _segments(length: int, size: int, chunks: int) -> list[_Segment]:
    """Cut the sequence into segments of `chunks` chunks; what is left over becomes one shorter chunk."""
    full, rest = divmod(length, size)
    segments = [_Segment(c * size, min(chunks, full - c), size) for c in range(0, full, chunks)]
    return [*segments, _Segment(full * size, 1, rest)] if rest else segments


class _SegmentTensors:
    """Views and decays of one segment of one part, shared by forward and backward.

    Native layout is `(K, B, G, Q, R, P)`: rows of all heads of a group. Head layout is `(K, B, G, R, Q, P)`.
    """

    def __init__(self, segment: _Segment, part: Part, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> None:
        self.segment, self.part = segment, part
        self.dtype, groups = dt.dtype, B.shape[2]
        self.groups = part.groups.stop - part.groups.start
        self.heads = x.shape[2] // groups
        self.x = self.native(x)
        self.B, self.C = self.products(B), self.products(C)
        self.dt = self.head_rows(dt)  # K B G R Q
        self.A = A[part.heads].view(self.groups, self.heads, 1)
        log_decay = self.dt * self.A
        total = log_decay.cumsum(-1)
        last = total[..., -1:]
        if part.reverse:
            self.potential = log_decay - total
            self.enter, self.leave = torch.exp(last + self.potential), torch.exp(-self.potential)
        else:
            self.potential = total
            self.enter, self.leave = torch.exp(total), torch.exp(last - total)
        self.chunk_decay = torch.exp(last).movedim(-2, -1).unsqueeze(-1)  # K B G 1 R 1

    def native(self, t: Tensor) -> Tensor:
        """View `(B, L, H, P)` as `(K, B, G, Q, R, P)`."""
        t = t[:, self.segment.positions, self.part.heads]
        t = t.unflatten(1, (self.segment.chunks, -1)).unflatten(3, (self.groups, -1))  # B K Q G R P
        return t.permute(1, 0, 3, 2, 4, 5)

    def head_rows(self, t: Tensor) -> Tensor:
        """Copy `(B, L, H)` to `(K, B, G, R, Q)`."""
        return self.native(t.unsqueeze(-1)).squeeze(-1).transpose(-1, -2).contiguous()

    def products(self, t: Tensor) -> Tensor:
        """Reshape B or C to `(K B G, Q, N)`, in the dtype of the computation."""
        t = self.group_rows(t)
        return t.to(self.dtype).reshape(-1, *t.shape[-2:])

    def group_rows(self, t: Tensor) -> Tensor:
        """View `(B, L, G, N)` as `(K, B, G, Q, N)`."""
        t = t[:, self.segment.positions, self.part.groups]
        return t.unflatten(1, (self.segment.chunks, -1)).permute(1, 0, 3, 2, 4)

    def weighted(self, t: Tensor, weight: Tensor | None, layout: Literal["native", "head"]) -> Tensor:
        """Multiply a native view by a `(K, B, G, R, Q)` weight into a contiguous tensor of the layout."""
        if layout == "head":
            t = t.transpose(-2, -3)
        else:
            weight = None if weight is None else weight.transpose(-1, -2)
        out = torch.empty(t.shape, dtype=self.dtype, device=t.device)
        return out.copy_(t) if weight is None else torch.mul(t, weight.unsqueeze(-1), out=out)

    def decays(self) -> Tensor:
        """Decay from s to t, `(K, B, G, R, Q, Q)`, zero where t does not see s.

        The unseen triangle may overflow to infinity before it is overwritten with zeros; nothing is multiplied
        by it in between.
        """
        decays = (self.potential.unsqueeze(-1) - self.potential.unsqueeze(-2)).exp_()
        return decays.triu_() if self.part.reverse else decays.tril_()

    def scores(self) -> Tensor:
        """`C B^T` of each chunk and group with an axis for the heads, `(K, B, G, 1, Q, Q)`."""
        scores = torch.bmm(self.C, self.B.transpose(1, 2))
        return scores.view(*self.dt.shape[:3], 1, *scores.shape[-2:])

    def pass_states(self, states: Tensor, right_to_left: bool) -> None:
        """Turn `(K+1, B, G, N, R, P)` contributions, the first one a state, into states, in place."""
        chunks = self.segment.chunks
        for c in reversed(range(chunks)) if right_to_left else range(chunks):
            if right_to_left:
                states[c].addcmul_(states[c + 1], self.chunk_decay[c])
            else:
                states[c + 1].addcmul_(states[c], self.chunk_decay[c])

    def accumulate(self, rows: Tensor, columns: Tensor, state: Tensor, right_to_left: bool) -> Tensor:
        """Sum `rows^T columns` over the chunks with decay, from a state that enters at one end.

        Args:
            rows: `(K B G, Q, N)`.
            columns: `(K, B, G, Q, R, P)`.
            state: `(B, G, N, R, P)`.
            right_to_left: Where the state enters: before chunk 0, or after the last chunk.

        Returns:
            States at the K+1 edges of the chunks, `(K+1, B, G, N, R, P)`.
        """
        chunks = self.segment.chunks
        states = state.new_empty(chunks + 1, *state.shape)
        states[chunks if right_to_left else 0] = state
        written = states[:chunks] if right_to_left else states[1:]
        columns = columns.view(*rows.shape[:2], -1)
        torch.bmm(rows.transpose(1, 2), columns, out=written.view(len(rows), rows.shape[2], -1))
        self.pass_states(states, right_to_left)
        return states


def _forward_segment(s: _SegmentTensors, state: Tensor, y: Tensor, D: Tensor | None) -> Tensor:
    """Write the outputs of one segment to y; return the states at its chunks' edges."""
    batch = len(s.B)
    columns = s.weighted(s.x, s.dt * s.leave, "native")
    states = s.accumulate(s.B, columns, state, s.part.reverse)
    entering = states[1:] if s.part.reverse else states[:-1]
    across = torch.bmm(s.C, entering.view(batch, s.B.shape[2], -1)).view(columns.shape)
    del columns
    mixing = s.decays().mul_(s.scores())
    values = s.weighted(s.x, s.dt, "head")
    within = torch.bmm(mixing.view(-1, *mixing.shape[-2:]), values.view(-1, *values.shape[-2:]))
    within = within.view(values.shape).transpose(-2, -3)  # K B G Q R P
    y = s.native(y)
    torch.addcmul(within, across, s.enter.transpose(-1, -2).unsqueeze(-1), out=y)
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
    s: _SegmentTensors,
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
    entering = states[1:] if reverse else states[:-1]
    reads = s.weighted(dy, s.enter, "native")
    dstates = s.accumulate(s.C, reads, dstate, not reverse)
    dentering, dleaving = (dstates[1:], dstates[:-1]) if reverse else (dstates[:-1], dstates[1:])
    edge = (entering * dentering).sum((3, 5)).unsqueeze(-1)  # K B G R 1

    flat = (batch, s.B.shape[2], -1)
    dC = torch.bmm(reads.view(batch, size, -1), entering.view(flat).transpose(1, 2))
    writes = s.weighted(s.x, s.dt * s.leave, "native")
    dB = torch.bmm(writes.view(batch, size, -1), dleaving.view(flat).transpose(1, 2))
    across = torch.bmm(s.B, dleaving.view(flat)).view(writes.shape)

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
    dvalues = across.mul_(s.leave.transpose(-1, -2).unsqueeze(-1)).add_(within)  # K B G Q R P

    product = torch.mul(s.x, dvalues, out=writes)
    ddt = product.sum(-1).transpose(-1, -2)  # K B G R Q
    balance = torch.mul(y, dy, out=reads)
    dx = s.native(out.x)
    step = s.dt.transpose(-1, -2).unsqueeze(-1)
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
        segments: tuple[_Segment, ...],
        save: bool,
    ) -> tuple[Tensor, Tensor]:
        # The balance of the decays needs y as computed, not as rounded to 16 bits.
        y = torch.empty(x.shape, dtype=dt.dtype, device=x.device)
        final_states = torch.empty_like(initial_states)
        saved: list[Tensor] = []
        with torch.autocast(x.device.type, enabled=False):
            for part in parts:
                state = _split_state(initial_states, part)
                for segment in reversed(segments) if part.reverse else segments:
                    tensors = _SegmentTensors(segment, part, x, dt, A, B, C)
                    states = _forward_segment(tensors, state, y, D)
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
        with torch.autocast(x.device.type, enabled=False):
            for part in reversed(ctx.parts):
                dstate = _split_state(dfinal, part)
                for segment in ctx.segments if part.reverse else reversed(ctx.segments):
                    tensors = _SegmentTensors(segment, part, x, dt, A, B, C)
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
    batch, length, heads, width = x.shape
    size, state = min(chunk_size, length), B.shape[3]
    largest = batch * (heads // len(parts)) * max(size * size, size * width, state * width)
    budget = _CPU_SEGMENT if x.device.type == "cpu" else _GPU_SEGMENT
    segments = tuple(_segments(length, size, max(1, budget // largest)))
    inputs = (x, dt, A, B, C, D, initial_states)
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
    outputs: tuple[Tensor, Tensor] = _ChunkedScan.apply(*inputs, parts, segments, save)
    return outputs
