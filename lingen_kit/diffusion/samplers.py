"""From noise to data: time schedules and ODE solvers.

A solver walks `x` along `dx/dt = velocity(x, t)` from t = 0 (noise) to t = 1 (data) over given times.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""`(x, t)` -> dx/dt, with `t` a scalar tensor."""

Method = Literal["euler", "heun"]
Schedule = Literal["uniform", "linear_quadratic"]


def uniform_times(steps: int) -> Tensor:
    """Equal steps from 0 to 1: `(steps + 1,)`."""
    return torch.linspace(0, 1, steps + 1, dtype=torch.float32)


def linear_quadratic_times(steps: int, fine_steps: int = 250) -> Tensor:
    """Movie Gen's schedule (arXiv 2410.13720, Sec. 3.4.2): `(steps + 1,)`.

    The first half of the steps is as short as those of a uniform schedule of `fine_steps`, because the early steps
    decide motion and layout; the second half grows quadratically to 1 and starts with the same step length.
    """
    if steps >= fine_steps or steps < 2:
        return uniform_times(steps)
    half = steps // 2
    rest = steps - half
    start = half / fine_steps
    i = torch.arange(1, rest + 1, dtype=torch.float32)
    curvature = (1 - start - rest / fine_steps) / rest**2
    fine = torch.arange(half + 1, dtype=torch.float32) / fine_steps
    return torch.cat([fine, start + i / fine_steps + curvature * i**2])


def euler(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """First-order solver: one evaluation of the velocity a step."""
    for t, t_next in pairwise(times):
        x = x + (t_next - t) * velocity(x, t)
    return x


def heun(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """Second-order solver: two evaluations a step, one in the last, where the velocity at t = 1 is undefined."""
    for i, (t, t_next) in enumerate(pairwise(times)):
        slope = velocity(x, t)
        forward = x + (t_next - t) * slope
        if i == len(times) - 2:
            return forward
        x = x + (t_next - t) * (slope + velocity(forward, t_next)) / 2
    return x


class Sampler:
    """How samples are drawn, unless a call says otherwise.

    Args:
        method: ODE solver.
        schedule: Spacing of the times.
        steps: Solver steps.
        guidance: Classifier-free guidance scale (arXiv 2207.12598); 1 is no guidance and half the cost.

    Raises:
        ValueError: If `steps` is below 1.
    """

    def __init__(
        self,
        *,
        method: Method = "euler",
        schedule: Schedule = "linear_quadratic",
        steps: int = 50,
        guidance: float = 5.0,
    ) -> None:
        """Keep the choices."""
        _check_steps(steps)
        if not math.isfinite(guidance):
            raise ValueError(f"guidance {guidance} must be a finite number")
        self.method: Method = method
        self.schedule: Schedule = schedule
        self.steps, self.guidance = steps, guidance

    def __call__(
        self, velocity: Velocity, noise: Tensor, steps: int | None = None, *, first_time: float = 0.0
    ) -> Tensor:
        """Walk from `noise` to data in `steps` (or the configured) steps, starting no earlier than `first_time`."""
        steps = self.steps if steps is None else steps
        _check_steps(steps)
        times = {"uniform": uniform_times, "linear_quadratic": linear_quadratic_times}[self.schedule](steps)
        solver = {"euler": euler, "heun": heun}[self.method]
        return solver(velocity, noise, times.clamp(min=first_time).to(noise.device))


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps {steps} must be at least 1")
