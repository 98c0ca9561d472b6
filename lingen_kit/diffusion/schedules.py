"""The times of a sampler's steps, from 0 (noise) to 1 (data)."""

import torch
from torch import Tensor

from lingen_kit.diffusion.objective import Objective, Schedule


def schedule_times(schedule: Schedule, objective: Objective, steps: int, rho: float) -> Tensor:
    """The times of `steps` steps along an objective's path, from its first time to 1: `(steps + 1,)`.

    Raises:
        ValueError: If the objective has no such schedule.
    """
    if schedule == "karras":
        return karras_times(objective, steps, rho)
    times = {"uniform": uniform_times, "linear_quadratic": linear_quadratic_times}[schedule](steps)
    return objective.first_time + (1 - objective.first_time) * times


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


def karras_times(objective: Objective, steps: int, rho: float = 7.0) -> Tensor:
    """EDM's schedule (arXiv 2206.00364, Eq. 5): `(steps + 1,)`.

    The noise levels sigma / alpha to the power of 1 / rho fall in equal steps from the largest to the smallest that
    the objective knows; a last step leads to the data.

    Raises:
        ValueError: If the objective's path starts at pure noise.
    """
    largest, smallest = objective.noise_ratios()
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    ratios = (largest ** (1 / rho) + ramp * (smallest ** (1 / rho) - largest ** (1 / rho))) ** rho
    return torch.cat([objective.time_of_ratio(ratios), torch.ones(1, dtype=torch.float64)]).float()
