"""Solvers of the ODE from noise to data. Each walks `x` over given times, the last of which is the data's.

`velocity` is asked once a step (by `heun` twice) and never at the last time, where it is not defined.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from lingen_kit.diffusion.objective import Objective

Velocity = Callable[[Tensor, Tensor], Tensor]
"""`(x, t)` -> dx/du along the objective's clock u, with `t` a scalar tensor."""


def euler(objective: Objective, velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """First-order solver along the objective's clock."""
    for t, t_next in pairwise(times):
        x = x + (objective.point(t_next).clock - objective.point(t).clock) * velocity(x, t)
    return x


def heun(objective: Objective, velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """Second-order solver along the objective's clock: two evaluations a step, one in the last (arXiv 2206.00364)."""
    for i, (t, t_next) in enumerate(pairwise(times)):
        length = objective.point(t_next).clock - objective.point(t).clock
        slope = velocity(x, t)
        forward = x + length * slope
        if i == len(times) - 2:
            return forward
        x = x + length * (slope + velocity(forward, t_next)) / 2
    return x


def ddim(
    objective: Objective,
    velocity: Velocity,
    x: Tensor,
    times: Tensor,
    eta: float,
    fresh: Iterator[Tensor],
) -> Tensor:
    """First-order solver that is exact while the predicted video and noise stay the same (arXiv 2010.02502, Eq. 12).

    Where alpha and sigma are linear in the clock (flow matching, EDM) it takes Euler's steps.

    Args:
        objective: The path.
        velocity: What is walked along.
        x: Where to start.
        times: `(steps + 1,)`.
        eta: Share of the random noise of ancestral sampling: 0 is the ODE, 1 the sampler of DDPM.
        fresh: Random noise, shaped as `x`, drawn once a step if `eta` is above 0.
    """
    for t, t_next in pairwise(times):
        now, then = objective.point(t), objective.point(t_next)
        slope = velocity(x, t)
        clean, noise = objective.clean(slope, x, t), objective.noise(slope, x, t)
        if eta == 0:
            x = then.alpha * clean + then.sigma * noise
            continue
        kept = now.alpha * then.sigma / (then.alpha * now.sigma)  # ratio of the noise-to-signal ratios
        added = eta * then.sigma * (1 - kept.square()).clamp(min=0).sqrt()
        x = then.alpha * clean + (then.sigma.square() - added.square()).sqrt() * noise + added * next(fresh)
    return x


def dpmpp_2m(objective: Objective, velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """DPM-Solver++ (2M): second order for one evaluation a step (arXiv 2211.01095, Alg. 2).

    DDIM's step with the clean video extrapolated, in log(alpha / sigma), to the middle of the step. The first and the
    last step extrapolate nothing: one has no past, the other no end in log(alpha / sigma).
    """
    previous: tuple[Tensor, Tensor] | None = None  # the last clean video, and the length of the step after it
    for i, (t, t_next) in enumerate(pairwise(times)):
        now, then = objective.point(t), objective.point(t_next)
        clean = estimate = objective.clean(velocity(x, t), x, t)
        length = torch.log(then.alpha / then.sigma) - torch.log(now.alpha / now.sigma)
        if previous is not None and i < len(times) - 2:
            estimate = clean + length / (2 * previous[1]) * (clean - previous[0])
        x = then.alpha * estimate + then.sigma / now.sigma * (x - now.alpha * estimate)
        previous = clean, length
    return x
