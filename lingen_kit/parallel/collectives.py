"""Communication with gradients. All of it is one collective, an all-to-all, whose gradient is the way back.

All-gathers, halos and sums are all-to-alls in which ranks send the same thing, an edge, or a number to sum. This keeps
what must be right in one place: sizes may differ from rank to rank and be zero, sums are taken in the order of the
ranks and so agree to the bit on all of them, and it runs on gloo as on NCCL.

A backward pass runs its collectives in the reverse order of the forward pass, on each rank, provided that no rank
leaves the result of one unused: the others would wait for it. So callers slice what they receive, to nothing if need
be, rather than branch.

Letters: B batch, L entries along the axis that is split, p ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """A group of ranks.

    Attributes:
        group: The process group; None is that of all ranks.
        rank: This process in the group.
        size: Ranks of the group.
    """

    group: dist.ProcessGroup | None
    rank: int
    size: int


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, send: list[int], receive: list[int], ranks: Ranks) -> Tensor:
        ctx.send, ctx.receive, ctx.ranks = send, receive, ranks
        return _all_to_all(rows, send, receive, ranks)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _all_to_all(gradient, ctx.receive, ctx.send, ctx.ranks), None, None, None


def _all_to_all(rows: Tensor, send: list[int], receive: list[int], ranks: Ranks) -> Tensor:
    out = rows.new_empty(sum(receive), *rows.shape[1:])
    dist.all_to_all_single(out, rows.contiguous(), receive, send, ranks.group)
    return out


def exchange(rows: Tensor, send: list[int], receive: list[int], ranks: Ranks) -> Tensor:
    """Send some rows to each rank.

    Args:
        rows: `(n, ...)`: what goes to the first rank, to the second, and so on.
        send: How many rows go to each rank; n in all.
        receive: How many come from each rank.
        ranks: The group.

    Returns:
        `(sum(receive), ...)`, in the order of the ranks that sent them.
    """
    received: Tensor = _Exchange.apply(rows, send, receive, ranks)
    return received


def gather(x: Tensor, ranks: Ranks) -> Tensor:
    """The tensors of all ranks, all of one shape: `(...)` -> `(p, ...)`."""
    return exchange(x.expand(ranks.size, *x.shape), [1] * ranks.size, [1] * ranks.size, ranks)


def sum_over_ranks(x: Tensor, ranks: Ranks) -> Tensor:
    """The sum of the tensors of all ranks, all of one shape."""
    return gather(x, ranks).sum(0)


def fetch(x: Tensor, borders: Sequence[int], wanted: Sequence[tuple[int, int]], ranks: Ranks) -> Tensor:
    """Get a range of a tensor that is split along its second axis.

    Args:
        x: This rank's part, `(B, l, ...)`.
        borders: Where each rank's part starts, and the whole length L at the end.
        wanted: First entry and end of the range that each rank wants, anywhere in `range(L)`; it may be empty.
        ranks: The group.

    Returns:
        The range that this rank wants, `(B, end - first, ...)`.
    """
    parts = list(pairwise(borders))
    if all(want == part for want, part in zip(wanted, parts, strict=True)):
        return x
    rows, start = x.transpose(0, 1), parts[ranks.rank][0]
    overlaps = [_overlap(parts[ranks.rank], want) for want in wanted]
    rows = torch.cat([rows[first - start : end - start] for first, end in overlaps])
    send = [end - first for first, end in overlaps]
    receive = [end - first for first, end in (_overlap(part, wanted[ranks.rank]) for part in parts)]
    return exchange(rows, send, receive, ranks).transpose(0, 1)


def _overlap(part: tuple[int, int], want: tuple[int, int]) -> tuple[int, int]:
    """First entry and end of what two ranges share; within `part` also if that is nothing."""
    first = min(max(part[0], want[0]), part[1])
    return first, max(first, min(part[1], want[1]))
