"""From slabs of time to stretches of a scan's sequence, and back.

A slab of time is a stretch of the sequence only where time is the slowest axis of the scan. In any other order its
tokens are spread all over, and a state would have to pass between ranks once a row. So tokens are handed round first,
by an all-to-all, until each rank has a stretch of consecutive tokens: N/p tokens sent, N/p received. Where slabs are
stretches (the orders thw and twh of the rotary-major scan) nothing is sent.

Letters: B batch, T H W the grid of tokens, N = T*H*W, D channels, p ranks, n tokens of a rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from lingen_kit.ops.windows import reorder
from lingen_kit.parallel.collectives import Ranks, exchange
from lingen_kit.scans import Grid, Scan


@dataclass(frozen=True)
class Route:
    """Which tokens of a rank's slab go where. Made by `plan_route`.

    Attributes:
        order: Position in the slab of each token, in the order in which they are sent, `(n,)`.
        inverse: The inverse of `order`.
        send: Tokens for each rank.
        receive: Tokens from each rank.
        place: Of each token of the stretch, its position among those received, `(n,)`.
        unplace: The inverse of `place`.
        local: Whether no token of any rank leaves it.
    """

    order: Tensor
    inverse: Tensor
    send: list[int]
    receive: list[int]
    place: Tensor
    unplace: Tensor
    local: bool


@lru_cache(maxsize=512)  # layers times two (video, review tokens) times grids; 16 bytes a token
@torch.inference_mode(False)  # a route first made while validating must serve training too
def plan_route(
    scan: Scan, layer: int, grid: Grid, borders: tuple[int, ...], cuts: tuple[int, ...], rank: int, device: torch.device
) -> Route:
    """Plan the way from slabs to stretches.

    Args:
        scan: The order of the tokens.
        layer: Which order of the scan.
        grid: Tokens of the whole video along time, height and width.
        borders: First frame of each rank's slab, and T.
        cuts: First position of each rank's stretch, and N.
        rank: This rank.
        device: Where the tokens lie.
    """
    with torch.device("cpu"):
        index = scan.index(grid, layer)
        ends = torch.tensor(borders) * (grid[1] * grid[2])
        owner = torch.bucketize(index, ends[1:-1], right=True)  # who has the token of a position in its slab
        reader = torch.bucketize(torch.arange(len(index)), torch.tensor(cuts[1:-1], dtype=torch.int64), right=True)
        mine = owner == rank
        order = index[mine] - ends[rank]  # by position in the sequence, so reader after reader
        sources = owner[cuts[rank] : cuts[rank + 1]]
        unplace = sources.argsort(stable=True)
        ranks = len(borders) - 1
        return Route(
            order.int().to(device),
            order.argsort().int().to(device),
            torch.bincount(reader[mine], minlength=ranks).tolist(),
            torch.bincount(sources, minlength=ranks).tolist(),
            unplace.argsort().int().to(device),
            unplace.int().to(device),
            bool((owner == reader).all()),
        )


def to_stretch(x: Tensor, route: Route, ranks: Ranks) -> Tensor:
    """Trade a slab `(B, t, H, W, D)` for a stretch of the sequence `(B, n, D)`."""
    rows = reorder(x.flatten(1, 3).transpose(0, 1), route.order, route.inverse)
    if not route.local:
        rows = reorder(exchange(rows, route.send, route.receive, ranks), route.place, route.unplace)
    return rows.transpose(0, 1)


def to_slab(sequence: Tensor, grid: Grid, route: Route, ranks: Ranks) -> Tensor:
    """Undo `to_stretch`: `(B, n, D)` -> `(B, t, H, W, D)`, with `grid` that of the slab."""
    rows = sequence.transpose(0, 1)
    if not route.local:
        rows = exchange(reorder(rows, route.unplace, route.place), route.receive, route.send, ranks)
    return reorder(rows, route.inverse, route.order).transpose(0, 1).unflatten(1, grid)


def even_cuts(length: int, ranks: int) -> tuple[int, ...]:
    """Cut a sequence into one stretch for each rank, their lengths one apart at most."""
    return tuple(rank * length // ranks for rank in range(ranks + 1))


def halos(
    pieces: Sequence[Tensor], lengths: Sequence[Sequence[int]], reach: int, ranks: Ranks
) -> list[tuple[Tensor, Tensor]]:
    """What a short convolution sees beyond the ends of this rank's stretches.

    Every rank has a stretch of one sequence, or of several. In the forward direction the sequences are read in the
    order given, in the reverse direction the last one is read first; each of them in its own direction.

    Args:
        pieces: This rank's stretch of each sequence, `(B, n, D)`.
        lengths: For each sequence the n of all ranks.
        reach: Tokens that the convolution looks back or ahead.
        ranks: The group.

    Returns:
        For each sequence the tokens before this rank's stretch in forward, and those after it in reverse, each
        `(B, m, D)` with m at most `reach`. Every rank gets the edges of all: their size does not depend on n.
    """
    edge = [[min(n, reach) for n in sequence] for sequence in lengths]
    ends = [end for piece in pieces for end in (piece[:, :reach], piece[:, max(0, piece.shape[1] - reach) :])]
    rows = torch.cat(ends, dim=1).transpose(0, 1)
    counts = [2 * sum(widths) for widths in zip(*edge, strict=True)]
    received = exchange(rows.repeat(ranks.size, 1, 1), [len(rows)] * ranks.size, counts, ranks).transpose(0, 1)

    sizes = [width for widths in zip(*edge, strict=True) for width in widths for _ in ("first", "last")]
    parts, per_rank = received.split(sizes, dim=1), 2 * len(pieces)
    sequences = range(len(pieces))
    read = [(i, rank) for i in sequences for rank in range(ranks.size)]
    read_reverse = [(i, rank) for i in reversed(sequences) for rank in range(ranks.size)]
    lasts = torch.cat([parts[rank * per_rank + 2 * i + 1] for i, rank in read], dim=1)
    firsts = torch.cat([parts[rank * per_rank + 2 * i] for i, rank in read_reverse], dim=1)
    found = []
    for i in sequences:
        start = _offset(edge, read, i, ranks.rank)
        end = _offset(edge, read_reverse, i, ranks.rank) + edge[i][ranks.rank]
        found.append((lasts[:, max(0, start - reach) : start], firsts[:, end : end + reach]))
    return found


def _offset(edge: list[list[int]], read: list[tuple[int, int]], sequence: int, rank: int) -> int:
    """Tokens of the edges that stand before those of one stretch."""
    starts = accumulate((edge[i][r] for i, r in read), initial=0)
    return dict(zip(read, starts, strict=False))[sequence, rank]
