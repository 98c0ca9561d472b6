"""The selective scan in torch: an engine of `ops/selective_scan.py` that loops over the positions of a chunk only.

Each of the D x N entries of the state has its own decay, so nothing becomes a matrix product as it does in Mamba-2;
what is left is to make every operation large enough for torch and small enough for the cache. The sequence is walked in
segments of R chunks of Q positions. In a segment, after one exponential for all of its decays:

1. Every chunk runs from a zero state, position by position, all chunks at once: what a chunk adds to the state.
2. The states are passed from chunk to chunk; a chunk decays them by `exp(A (sum of its delta))`.
3. Every chunk runs again from its own state, and is read.

Backward does the same with the adjoint `p[t] = C[t] dy[t] + exp(delta[t+1] A) p[t+1]`, which passes segments and chunks
the other way. The last chunk is filled up with steps of zero, which leave the state as it is.

Letters: B batch, L length, D channels, G groups, E = D/G channels a group, N state size, Q positions a chunk,
K chunks, R chunks of a segment.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = 32
# Entries of the state that one operation works on: on a CPU, enough to be worth its threads' start, few enough for
# the cache. The exponential, the greater part of the work, is made for all positions of a segment at once.
_CPU_ENTRIES = 2**17
_GPU_ENTRIES = 2**21


@dataclass(frozen=True)
class _Chunks:
    """Chunks of some sequences; all the state's axes are (B, K, G, N, E)."""

    u: Tensor  # B K Q G 1 E
    delta: Tensor  # B K Q G 1 E
    A: Tensor  # G N E
    B: Tensor  # B K Q G N 1
    C: Tensor  # B K Q G N 1
    reverse: bool

    def segments(self) -> list[list[tuple[slice, slice]]]:
        """The sequences and chunks of every segment as they are visited, one list for sequences that run together."""
        batch, chunks = self.u.shape[:2]
        entries = _CPU_ENTRIES if self.u.device.type == "cpu" else _GPU_ENTRIES
        together = min(batch, max(1, entries // self.A.numel()))
        count = max(1, entries // (together * self.A.numel()))
        along = [slice(k, k + count) for k in range(0, chunks, count)]
        if self.reverse:
            along.reverse()
        return [[(slice(b, b + together), ks) for ks in along] for b in range(0, batch, together)]


class _Segment:
    """A few chunks, and what every position of them does to the state."""

    def __init__(self, chunks: _Chunks, own: tuple[slice, slice]) -> None:
        """Cut it out and make its decays."""
        self.u, self.delta, self.B, self.C = (t[own] for t in (chunks.u, chunks.delta, chunks.B, chunks.C))
        self.A, self.reverse = chunks.A, chunks.reverse
        self.decays = (self.delta * self.A).exp_().unbind(2)  # Q of B R G N E
        self.values = (self.delta * self.u).unbind(2)  # Q of B R G 1 E
        positions = list(range(len(self.values)))
        self.order = positions[::-1] if self.reverse else positions

    def advance(self, state: Tensor, q: int) -> Tensor:
        """The states after position q from those before, in place."""
        return state.mul_(self.decays[q]).addcmul_(self.values[q], self.B[:, :, q])

    def zeros(self) -> Tensor:
        """A state of zero for every chunk."""
        return torch.zeros_like(self.decays[0], memory_format=torch.contiguous_format)

    def entering(self, state: Tensor) -> Tensor:
        """States that enter the chunks, `(B, R, G, N, E)`, from the one that enters the segment."""
        added = self.zeros()
        if added.shape[1] > 1:
            for q in self.order:
                self.advance(added, q)
        return self._pass(state, added, self.reverse)

    def leaving(self, dstate: Tensor, dy: tuple[Tensor, ...]) -> Tensor:
        """Gradients of the states that leave the chunks, from that of the one that leaves the segment."""
        added = self.zeros()
        if added.shape[1] > 1:
            for q in reversed(self.order):
                added.addcmul_(dy[q], self.C[:, :, q]).mul_(self.decays[q])
        return self._pass(dstate, added, not self.reverse)

    def _pass(self, state: Tensor, added: Tensor, reverse: bool) -> Tensor:
        """Pass a state from chunk to chunk, each of which decays it and adds its own; the states before each."""
        decays = (self.delta.sum(2) * self.A).exp_()
        before = torch.empty_like(added)
        for k in reversed(range(added.shape[1])) if reverse else range(added.shape[1]):
            before[:, k] = state
            state = torch.addcmul(added[:, k], state, decays[:, k])
        return before


def forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor,
    *,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the recurrence.

    Args:
        u: `(B, L, D)`.
        delta: `(B, L, D)`, step sizes as used.
        A: `(D, N)`.
        B: `(B, L, G, N)`.
        C: `(B, L, G, N)`.
        D: `(D,)`.
        state: `(B, D, N)` before the first position visited.
        reverse: Visit the positions from the last to the first.
        save: Whether `backward` will follow.

    Returns:
        `y` `(B, L, D)`, the last state `(B, D, N)`, and the states that enter the chunks `(B, K, G, N, E)`, K = 0
        unless saved.
    """
    chunks = _cut(u, delta, A, B, C, reverse)
    y = torch.empty_like(chunks.u)
    kept = u.new_empty(len(u), chunks.u.shape[1] if save else 0, *chunks.A.shape)
    state = _from_channels(state, B.shape[2])
    last = torch.empty_like(state)
    for segments in chunks.segments():
        current = state[segments[0][0]]
        for own in segments:
            segment = _Segment(chunks, own)
            states = segment.entering(current)
            if save:
                kept[own] = states
            out = y[own].unbind(2)
            for q in segment.order:
                segment.advance(states, q)
                torch.sum(states * segment.C[:, :, q], -2, keepdim=True, out=out[q])
            current = states[:, 0 if reverse else -1]
        last[segments[0][0]] = current
    return _join(y, u).addcmul_(u, D), _to_channels(last), kept


def backward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    kept: Tensor,
    dy: Tensor,
    dlast: Tensor,
    *,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """The gradients of `forward`'s first seven arguments from those of its output and last state."""
    chunks = _cut(u, delta, A, B, C, reverse)
    dout = _chunks(dy).view(chunks.u.shape)
    dvalue, dstep = torch.empty_like(chunks.u), torch.empty_like(chunks.u)
    dB, dC = torch.empty_like(chunks.B), torch.empty_like(chunks.C)
    dA = torch.zeros_like(chunks.A)
    dlast = _from_channels(dlast, B.shape[2])
    dstate = torch.empty_like(dlast)
    for segments in chunks.segments():
        current = dlast[segments[0][0]]
        for own in reversed(segments):
            segment = _Segment(chunks, own)
            states = [kept[own]]
            for q in segment.order:
                states.append(segment.advance(states[-1].clone(), q))
            dy_own, steps = dout[own].unbind(2), segment.delta.unbind(2)
            adjoint, dlog_decay = segment.leaving(current, dy_own), segment.zeros()
            for q in reversed(segment.order):
                torch.sum(states.pop() * dy_own[q], -1, keepdim=True, out=dC[own][:, :, q])
                adjoint.addcmul_(dy_own[q], segment.C[:, :, q])
                torch.sum(adjoint * segment.values[q], -1, keepdim=True, out=dB[own][:, :, q])
                torch.sum(adjoint * segment.B[:, :, q], -2, keepdim=True, out=dvalue[own][:, :, q])
                adjoint.mul_(segment.decays[q])
                through = adjoint * states[-1]
                dlog_decay.addcmul_(through, steps[q])
                torch.sum(through.mul_(segment.A), -2, keepdim=True, out=dstep[own][:, :, q])
            dA += dlog_decay.sum((0, 1))
            current = adjoint[:, -1 if reverse else 0]
        dstate[segments[0][0]] = current
    du = _join(dvalue * chunks.delta, u).addcmul_(dy, D)
    ddelta = _join(dstep.addcmul_(dvalue, chunks.u), u)
    dB, dC = (_join(t, u).unflatten(2, B.shape[2:]) for t in (dB, dC))
    return du, ddelta, dA.mT.flatten(0, 1), dB, dC, (u * dy).sum((0, 1)), _to_channels(dstate)


def _cut(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, reverse: bool) -> _Chunks:
    """Cut all sequences into chunks."""
    groups = (B.shape[2], -1)
    return _Chunks(
        u=_chunks(u).unflatten(-1, groups).unsqueeze(-2),
        delta=_chunks(delta).unflatten(-1, groups).unsqueeze(-2),
        A=A.unflatten(0, groups).mT.contiguous(),
        B=_chunks(B.flatten(2)).unflatten(-1, groups).unsqueeze(-1),
        C=_chunks(C.flatten(2)).unflatten(-1, groups).unsqueeze(-1),
        reverse=reverse,
    )


def _chunks(t: Tensor) -> Tensor:
    """Cut `(B, L, ...)` into chunks `(B, K, Q, ...)`, the last one filled up with zeros."""
    length = t.shape[1]
    size = min(_CHUNK, length)
    if length % size:
        t = F.pad(t, (0, 0, 0, -length % size))
    return t.unflatten(1, (-1, size))


def _join(chunks: Tensor, like: Tensor) -> Tensor:
    """Undo `_chunks`, and flatten what stands for channels: `(B, K, Q, ...)` -> `(B, L, ...)`."""
    return chunks.flatten(3).flatten(1, 2)[:, : like.shape[1]]


def _from_channels(state: Tensor, groups: int) -> Tensor:
    """`(B, D, N)` -> `(B, G, N, E)`."""
    return state.unflatten(1, (groups, -1)).mT


def _to_channels(state: Tensor) -> Tensor:
    """`(B, G, N, E)` -> `(B, D, N)`."""
    return state.mT.flatten(1, 2)
