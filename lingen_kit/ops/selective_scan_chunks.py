"""The selective scan in torch: an engine of `ops/selective_scan.py` that loops over the positions of a chunk only.

Each of the D x N entries of the state has its own decay, so nothing becomes a matrix product as it does in Mamba-2;
what is left is to make every step large enough for torch and small enough for the cache. The sequence is cut into
chunks of Q positions that lie side by side as rows:

1. Every chunk runs from a zero state, position by position, all rows at once: what a chunk adds to the state.
2. The states are passed from chunk to chunk; a chunk decays them by `exp(A (sum of its delta))`.
3. Every chunk runs again from its own state, and is read.

Backward does the same with the adjoint `p[t] = C[t] dy[t] + exp(delta[t+1] A) p[t+1]`, which passes chunks the other
way, and holds the states of a few rows at a time. The last chunk is filled up with steps of zero, which leave the
state as it is.

Letters: B batch, L length, D channels, G groups, E = D/G channels a group, N state size, Q positions a chunk,
K chunks, R rows = B K.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lingen_kit.ops.threads import run_tasks

_CHUNK = 32
# Entries of the state in one operation. On a CPU, fewer than PyTorch starts its own threads for: the pieces are shared
# out to Python threads, of which more than a few would wait for the interpreter's lock.
_CPU_ENTRIES = 2**15 - 1
_MOST_THREADS = 4
_GPU_ENTRIES = 2**24


@dataclass(frozen=True)
class _Rows:
    """Chunks side by side, read position by position."""

    u: Tensor  # R Q G 1 E
    delta: Tensor  # R Q G 1 E
    A: Tensor  # G N E
    B: Tensor  # R Q G N 1
    C: Tensor  # R Q G N 1
    reverse: bool

    def __getitem__(self, own: slice) -> "_Rows":
        return _Rows(self.u[own], self.delta[own], self.A, self.B[own], self.C[own], self.reverse)

    def order(self) -> list[int]:
        """The positions of a chunk as they are visited."""
        positions = list(range(self.delta.shape[1]))
        return positions[::-1] if self.reverse else positions

    def decay(self, q: int) -> Tensor:
        """What is left of the state after position q, `(R, G, N, E)`."""
        return (self.delta[:, q] * self.A).exp_()

    def advance(self, state: Tensor, q: int, decay: Tensor) -> Tensor:
        """The state after position q from the one before, in place."""
        return state.mul_(decay).addcmul_(self.delta[:, q] * self.u[:, q], self.B[:, q])


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
        save: Whether `backward` will follow; this engine has the states at hand in any case.

    Returns:
        `y` `(B, L, D)`, the last state `(B, D, N)`, and the states that enter the chunks `(R, G, N, E)`.
    """
    rows = _cut(u, delta, A, B, C, reverse)
    added = u.new_empty(len(rows.u), *rows.A.shape)

    def add(own: slice) -> None:
        part, total = rows[own], added[own].zero_()
        for q in part.order():
            part.advance(total, q, part.decay(q))

    _run(add, rows)
    entering, last = _pass(rows, added, _from_channels(state, rows), reverse)

    y = torch.empty_like(rows.u)

    def read(own: slice) -> None:
        part, current = rows[own], entering[own].clone()
        for q in part.order():
            part.advance(current, q, part.decay(q))
            torch.sum(current * part.C[:, q], -2, keepdim=True, out=y[own, q])

    _run(read, rows)
    y = _join(y, u).addcmul_(u, D)
    return y, _to_channels(last), entering


def backward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    entering: Tensor,
    dy: Tensor,
    dlast: Tensor,
    *,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """The gradients of `forward`'s first seven arguments from those of its output and last state."""
    rows = _cut(u, delta, A, B, C, reverse)
    dout = _chunks(dy).view(rows.u.shape)
    added = torch.empty_like(entering)

    def add(own: slice) -> None:
        part, total = rows[own], added[own].zero_()
        for q in reversed(part.order()):
            total.addcmul_(dout[own, q], part.C[:, q]).mul_(part.decay(q))

    _run(add, rows)
    leaving, dstate = _pass(rows, added, _from_channels(dlast, rows), not reverse)

    dvalue, ddelta = torch.empty_like(rows.u), torch.empty_like(rows.u)
    dB, dC = torch.empty_like(rows.B), torch.empty_like(rows.C)
    dA = torch.zeros_like(entering)  # by chunk

    def differentiate(own: slice) -> None:
        part, states, decays = rows[own], [entering[own]], []
        for q in part.order():
            decays.append(part.decay(q))
            states.append(part.advance(states[-1].clone(), q, decays[-1]))
        adjoint = leaving[own].clone()
        for q in reversed(part.order()):
            torch.sum(states.pop() * dout[own, q], -1, keepdim=True, out=dC[own, q])
            adjoint.addcmul_(dout[own, q], part.C[:, q])
            torch.sum(adjoint * (part.delta[:, q] * part.u[:, q]), -1, keepdim=True, out=dB[own, q])
            torch.sum(adjoint * part.B[:, q], -2, keepdim=True, out=dvalue[own, q])
            adjoint.mul_(decays.pop())
            through = adjoint * states[-1]
            dA[own].addcmul_(through, part.delta[:, q])
            torch.sum(through.mul_(part.A), -2, keepdim=True, out=ddelta[own, q])

    _run(differentiate, rows)
    du = _join(dvalue * rows.delta, u).addcmul_(dy, D)
    ddelta = _join(ddelta.addcmul_(dvalue, rows.u), u)
    dB, dC = (_join(t, u).unflatten(2, B.shape[2:]) for t in (dB, dC))
    return du, ddelta, dA.sum(0).mT.flatten(0, 1), dB, dC, (u * dy).sum((0, 1)), _to_channels(dstate)


def _cut(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, reverse: bool) -> _Rows:
    """Lay the chunks of all sequences side by side."""
    groups = (B.shape[2], -1)
    return _Rows(
        u=_chunks(u).unflatten(-1, groups).unsqueeze(-2),
        delta=_chunks(delta).unflatten(-1, groups).unsqueeze(-2),
        A=A.unflatten(0, groups).mT.contiguous(),
        B=_chunks(B.flatten(2)).unflatten(-1, groups).unsqueeze(-1),
        C=_chunks(C.flatten(2)).unflatten(-1, groups).unsqueeze(-1),
        reverse=reverse,
    )


def _chunks(t: Tensor) -> Tensor:
    """Cut `(B, L, ...)` into chunks `(R, Q, ...)`, the last one filled up with zeros."""
    length = t.shape[1]
    size = min(_CHUNK, length)
    if length % size:
        t = F.pad(t, (0, 0, 0, -length % size))
    return t.unflatten(1, (-1, size)).flatten(0, 1)


def _join(rows: Tensor, like: Tensor) -> Tensor:
    """Undo `_chunks` and flatten what stands for channels: `(R, Q, ...)` -> `(B, L, ...)`."""
    batch, length = like.shape[:2]
    return rows.flatten(2).unflatten(0, (batch, -1)).flatten(1, 2)[:, :length]


def _run(work: Callable[[slice], None], rows: _Rows) -> None:
    """Do some rows at a time."""
    on_cpu = rows.u.device.type == "cpu"
    count = max(1, (_CPU_ENTRIES if on_cpu else _GPU_ENTRIES) // rows.A.numel())
    tasks = [slice(start, start + count) for start in range(0, len(rows.u), count)]
    run_tasks(work, tasks, most_threads=_MOST_THREADS if on_cpu else 1)


def _pass(rows: _Rows, added: Tensor, state: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
    """Pass a state from chunk to chunk.

    Args:
        rows: All chunks.
        added: What each adds to the state, `(R, G, N, E)`.
        state: Before the first chunk, `(B, G, N, E)`.
        reverse: Start with the last chunk.

    Returns:
        The states that enter the chunks, `(R, G, N, E)`, and the one that leaves the last.
    """
    added = added.unflatten(0, (len(state), -1))  # B K G N E
    steps = rows.delta.sum(1).unflatten(0, (len(state), -1))  # B K G 1 E
    entering = torch.empty_like(added)
    order = range(added.shape[1])
    for k in reversed(order) if reverse else order:
        entering[:, k] = state
        state = torch.addcmul(added[:, k], state, (steps[:, k] * rows.A).exp_())
    return entering.flatten(0, 1), state


def _from_channels(state: Tensor, rows: _Rows) -> Tensor:
    """`(B, D, N)` -> `(B, G, N, E)`."""
    return state.unflatten(1, (len(rows.A), -1)).mT


def _to_channels(state: Tensor) -> Tensor:
    """`(B, G, N, E)` -> `(B, D, N)`."""
    return state.mT.flatten(1, 2)
