"""The sequence in segments of chunks: views, decays and states that the state space dual is computed from.

`ssd_chunks.py` explains the method. One segment is a few chunks of Q positions, small enough that what is computed
from it stays in cache.

Letters: B batch, L length, H heads, P head dim, G groups, R = H/G heads a group, N state size, Q chunk size,
K chunks in a segment.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, Self

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
class Segment:
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


def cut_segments(length: int, size: int, chunks: int) -> tuple[Segment, ...]:
    """Cut the sequence into segments of `chunks` chunks; what is left over becomes one shorter chunk."""
    full, rest = divmod(length, size)
    segments = [Segment(c * size, min(chunks, full - c), size) for c in range(0, full, chunks)]
    return (*segments, Segment(full * size, 1, rest)) if rest else tuple(segments)


def plan_segments(x: Tensor, heads: int, state: int, chunk_size: int) -> tuple[Segment, ...]:
    """Cut `x` `(B, L, H, P)` so that the temporaries of `heads` heads stay in cache, or keep a GPU busy."""
    batch, length, _, width = x.shape
    size = min(chunk_size, length)
    largest = batch * heads * max(size * size, size * width, state * width)
    budget = _CPU_SEGMENT if x.device.type == "cpu" else _GPU_SEGMENT
    return cut_segments(length, size, max(1, budget // largest))


def join_segments(segments: tuple[Segment, ...]) -> Iterator[tuple[Segment, list[Segment]]]:
    """Join segments of one chunk size, so that what is small beside x is computed for all of them at once."""
    for _, run in groupby(segments, lambda segment: segment.size):
        members = list(run)
        yield Segment(members[0].start, sum(segment.chunks for segment in members), members[0].size), members


def cut_tensors(
    segments: tuple[Segment, ...], part: Part, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor
) -> "list[SegmentTensors]":
    """The tensors of every segment of one part."""
    tensors = []
    for whole, members in join_segments(segments):
        joined = SegmentTensors(whole, part, x, dt, A, B, C)
        tensors += [joined.narrow(segment) for segment in members]
    return tensors


class SegmentTensors:
    """Views and decays of one segment of one part, shared by forward and backward.

    Native layout is `(K, B, G, Q, R, P)`: rows of all heads of a group. Head layout is `(K, B, G, R, Q, P)`.
    """

    def __init__(self, segment: Segment, part: Part, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> None:
        self.segment, self.part = segment, part
        self.dtype, groups = dt.dtype, B.shape[2]
        self.groups = part.groups.stop - part.groups.start
        self.heads = x.shape[2] // groups
        self.x = self.native(x)
        self.B, self.C = self.products(B), self.products(C)
        self.set_decays(dt, A)

    def set_decays(self, dt: Tensor, A: Tensor) -> None:
        """Compute all that follows from the step sizes `(B, L, H)` and log decays `(H,)`."""
        self.dt = self.head_rows(dt)  # K B G R Q
        self.A = A[self.part.heads].view(self.groups, self.heads, 1)
        log_decay = self.dt * self.A
        total = log_decay.cumsum(-1)
        last = total[..., -1:]
        if self.part.reverse:
            self.potential = log_decay - total
            self.enter, self.leave = torch.exp(last + self.potential), torch.exp(-self.potential)
        else:
            self.potential = total
            self.enter, self.leave = torch.exp(total), torch.exp(last - total)
        self.chunk_decay = torch.exp(last).movedim(-2, -1).unsqueeze(-1)  # K B G 1 R 1

    def reversed(self, dt: Tensor, A: Tensor) -> Self:
        """The same segment read in reverse with step sizes and decays of its own; x, B and C are shared."""
        other = copy.copy(self)
        other.part = replace(self.part, reverse=True)
        other.set_decays(dt, A)
        return other

    def narrow(self, segment: Segment) -> Self:
        """Some of the chunks: a part of this segment as one of its own."""
        first = (segment.start - self.segment.start) // segment.size
        rows = slice(first, first + segment.chunks)
        other = copy.copy(self)
        other.segment = segment
        for name in ("x", "dt", "potential", "enter", "leave", "chunk_decay"):
            setattr(other, name, getattr(self, name)[rows])
        products = len(self.B) // self.segment.chunks
        rows = slice(rows.start * products, rows.stop * products)
        other.B, other.C = self.B[rows], self.C[rows]
        return other

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
        edges, decays = states.unbind(), self.chunk_decay.unbind()
        if right_to_left:
            for c in reversed(range(len(decays))):
                edges[c].addcmul_(edges[c + 1], decays[c])
        else:
            for c in range(len(decays)):
                edges[c + 1].addcmul_(edges[c], decays[c])

    def entering(self, states: Tensor) -> Tensor:
        """Of states at the edges of the chunks, `(K+1, ...)`, those that enter the chunks."""
        return states[1:] if self.part.reverse else states[:-1]

    def leaving(self, states: Tensor) -> Tensor:
        """Of states at the edges of the chunks, `(K+1, ...)`, those that leave the chunks."""
        return states[:-1] if self.part.reverse else states[1:]

    def read(self, rows: Tensor, states: Tensor, out: Tensor | None = None) -> Tensor:
        """Read states `(K, B, G, N, R, P)` with rows `(K B G, Q, N)`: `(K, B, G, Q, R, P)`, into `out` if given."""
        if out is None:
            out = states.new_empty(*states.shape[:3], rows.shape[1], *states.shape[4:])
        torch.bmm(rows, states.reshape(len(rows), rows.shape[2], -1), out=out.view(*rows.shape[:2], -1))
        return out

    def advance(self, state: Tensor, buffer: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Carry a state `(B, G, N, R, P)` through the segment in its direction, and read it at every position.

        Returns:
            The states at the edges of the chunks `(K+1, B, G, N, R, P)`, in `buffer` if there is one, and what is read
            of those that enter the chunks, without the decay since, `(K, B, G, Q, R, P)`.
        """
        columns = self.weighted(self.x, self.dt * self.leave, "native")
        states = self.accumulate(self.B, columns, state, self.part.reverse, buffer)
        return states, self.read(self.C, self.entering(states), out=columns)

    def accumulate(
        self, rows: Tensor, columns: Tensor, state: Tensor, right_to_left: bool, out: Tensor | None = None
    ) -> Tensor:
        """Sum `rows^T columns` over the chunks with decay, from a state that enters at one end.

        Args:
            rows: `(K B G, Q, N)`.
            columns: `(K, B, G, Q, R, P)`.
            state: `(B, G, N, R, P)`.
            right_to_left: Where the state enters: before chunk 0, or after the last chunk.
            out: Where to write, at least K+1 states; `state` may be one of them.

        Returns:
            States at the K+1 edges of the chunks, `(K+1, B, G, N, R, P)`.
        """
        chunks = self.segment.chunks
        states = state.new_empty(chunks + 1, *state.shape) if out is None else out[: chunks + 1]
        states[chunks if right_to_left else 0] = state
        written = states[:chunks] if right_to_left else states[1:]
        columns = columns.view(*rows.shape[:2], -1)
        torch.bmm(rows.transpose(1, 2), columns, out=written.view(len(rows), rows.shape[2], -1))
        self.pass_states(states, right_to_left)
        return states


def by_row(weight: Tensor) -> Tensor:
    """View a weight of each head and position, `(K, B, G, R, Q)`, as factors in native layout, `(K, B, G, Q, R, 1)`."""
    return weight.transpose(-1, -2).unsqueeze(-1)
