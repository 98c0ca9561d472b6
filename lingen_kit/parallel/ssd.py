"""The state space dual over stretches of a sequence: each rank starts from the state that the others leave it.

A stretch does to a state what one position does, `S -> decay S + own`, so a rank needs no more of the others than these
two, whose size does not depend on the length. It then runs the operator of `ops/ssd.py` over its stretch once, from
the right state. `own` is a weighted sum over positions: half the work of the operator.

Letters: B batch, L positions of this rank, H heads, P head dim, G groups, R = H/G heads a group, N state size, p ranks.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lingen_kit.ops.backend import no_autocast
from lingen_kit.ops.ssd import step_sizes
from lingen_kit.parallel.collectives import Ranks, exchange, gather


class Passage(NamedTuple):
    """What a stretch does to a state that passes through: `S -> exp(log_decay) S + own`.

    Attributes:
        own: `(B, H, P, N)`, what the stretch leaves of an empty state.
        log_decay: `(B, H)`.
    """

    own: Tensor
    log_decay: Tensor


def passage(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, dt_bias: Tensor, *, reverse: bool) -> Passage:
    """Sum up a stretch, in float32 at least.

    Args:
        x: `(B, L, H, P)`, as the operator takes it; so are the others.
        dt: `(B, L, H)` before bias and softplus.
        A: `(H,)`.
        B: `(B, L, G, N)`.
        dt_bias: `(H,)`.
        reverse: Whether the state enters after the last position and leaves before the first.
    """
    compute = torch.promote_types(x.dtype, torch.float32)
    with no_autocast(x):
        dt = step_sizes("passage", dt, dt_bias, True, (0.0, float("inf")), compute)
        log_decay = dt * A.to(compute)
        # Sums from the end where the state leaves: what is near to it, and counts, is a small sum, and exact.
        ahead = log_decay.cumsum(1) if reverse else log_decay.flip(1).cumsum(1).flip(1)
        weight = dt * torch.exp(ahead - log_decay)
        return Passage(_WeightedSum.apply(x, weight, B), log_decay.sum(1))


class _WeightedSum(torch.autograd.Function):
    """Sum `weight x B^T` over positions: `(B, H, P, N)`. The weighted x is made again in backward rather than kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, B: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, B)
        values = (x * weight.unsqueeze(-1)).unflatten(2, (B.shape[2], -1))  # B L G R P
        return torch.einsum("blgrp,blgn->bgrpn", values, B.to(values.dtype)).flatten(1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dstate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight, B = ctx.saved_tensors
        weight = weight.unsqueeze(-1)
        with no_autocast(x):
            dstate = dstate.unflatten(1, (B.shape[2], -1))
            dvalues = torch.einsum("bgrpn,blgn->blgrp", dstate, B.to(dstate.dtype)).flatten(2, 3)
            values = (x * weight).unflatten(2, (B.shape[2], -1))
            dB = torch.einsum("bgrpn,blgrp->blgn", dstate, values)
        return (dvalues * weight).to(x.dtype), (dvalues * x).sum(-1), dB.to(B.dtype)


def entering_state(passages: list[Passage], ranks: Ranks, *, reverse: bool) -> Tensor:
    """The state that enters this rank's stretch of the last of several sequences that are read one after another.

    All ranks tell each other their decays. Then each knows what is left of its own states where another rank starts,
    and sends it that: one state, however many sequences there are, to each rank that reads later.

    Args:
        passages: What this rank's stretch of each sequence does, in the order in which they are read.
        ranks: The group.
        reverse: Whether each sequence is read from the last rank to the first.

    Returns:
        `(B, H, P, N)`.
    """
    log_decay = gather(torch.stack([passage.log_decay for passage in passages]), ranks).transpose(0, 1)
    places = torch.arange(len(passages) * ranks.size).view(-1, ranks.size)  # when the stretch of a rank is read
    places = places.flip(1) if reverse else places
    starts = places[-1]
    left = torch.zeros_like(passages[0].own)
    for place, (own, _) in zip(places[:, ranks.rank], passages, strict=True):
        between = ((places > place) & (places < starts[:, None, None])).to(log_decay)  # (p, sequences, p)
        later = (starts > place).to(log_decay)
        # Sums of what lies between, not differences of running sums, which would be inexact where decays are strong.
        decay = torch.exp((between[..., None, None] * log_decay).sum((1, 2))) * later[:, None, None]  # (p, B, H)
        left = left + decay[..., None, None] * own  # (p, B, H, P, N)
    send = (starts > places[0, ranks.rank]).int().tolist()
    receive = (places[0] < starts[ranks.rank]).int().tolist()
    rows = left[[rank for rank, count in enumerate(send) if count]]
    return exchange(rows, send, receive, ranks).sum(0)
