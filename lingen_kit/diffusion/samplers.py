"""How samples are drawn: solver, times and guidance, for any objective."""

import math
from collections.abc import Iterator
from typing import Any, Literal

from torch import Tensor

from lingen_kit.diffusion.checks import require_choice
from lingen_kit.diffusion.objective import Objective, Schedule
from lingen_kit.diffusion.schedules import schedule_times
from lingen_kit.diffusion.solvers import Velocity, ddim, dpmpp_2m, euler, heun

Method = Literal["euler", "heun", "ddim", "dpmpp_2m"]


class Sampler:
    """How samples are drawn, unless a call says otherwise.

    Args:
        method: Solver. `euler` (which is `ddim` for flow matching and EDM) and `ddim` are of first order; `heun` is of
            second order and evaluates twice a step; `dpmpp_2m` (DPM-Solver++) is of second order for one evaluation.
        schedule: Spacing of the times: `uniform` (DDPM's `trailing` steps), Movie Gen's `linear_quadratic` or EDM's
            `karras`, for objectives that do not start from pure noise. The objective's own if null:
            `linear_quadratic` for FlowMatching, `uniform` for DDPM, `karras` for EDM.
        steps: Solver steps.
        guidance: Classifier-free guidance scale (arXiv 2207.12598); 1 is no guidance and half the cost.
        guidance_interval: First and last time, of 0 (noise) to 1 (data), between which guidance acts
            (arXiv 2404.07724); outside, a step costs half.
        guidance_rescale: How much of the contrast that guidance adds is taken back, from 0 to 1 (arXiv 2305.08891).
        rho: Exponent of the schedule `karras`; the larger, the more steps are spent on little noise.
        eta: Random noise in the steps of `ddim`, from 0 (none) to 1 (ancestral sampling, as in DDPM).

    Raises:
        ValueError: If a value is out of its range or no choice, or `eta` is given to another method than `ddim`.
    """

    def __init__(
        self,
        *,
        method: Method = "euler",
        schedule: Schedule | None = None,
        steps: int = 50,
        guidance: float = 5.0,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        guidance_rescale: float = 0.0,
        rho: float = 7.0,
        eta: float = 0.0,
    ) -> None:
        """Keep the choices."""
        require_choice("Sampler", Method, method=method)
        if schedule is not None:
            require_choice("Sampler", Schedule, schedule=schedule)
        if steps < 1:
            raise ValueError(f"steps {steps} must be at least 1")
        if not math.isfinite(guidance):
            raise ValueError(f"guidance {guidance} must be a finite number")
        first, last = guidance_interval
        if not 0 <= first < last <= 1:
            raise ValueError(
                f"guidance_interval {first} to {last} must rise between 0 (noise) and 1 (data); "
                "for no guidance at all set guidance to 1"
            )
        for name, value in {"guidance_rescale": guidance_rescale, "eta": eta}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} {value} must be between 0 and 1")
        if not 0 < rho < math.inf:
            raise ValueError(f"rho {rho} must be above 0, such as 7")
        if eta > 0 and method != "ddim":
            raise ValueError(f"eta {eta} adds noise to the steps of ddim, not of {method}: choose method ddim or eta 0")
        self.method: Method = method
        self.schedule: Schedule | None = schedule
        self.steps, self.guidance, self.guidance_rescale = steps, guidance, guidance_rescale
        self.guidance_interval = (first, last)
        self.rho, self.eta = rho, eta

    def changed(self, **options: Any) -> "Sampler":
        """A copy with those of the options that are not None.

        Raises:
            ValueError: As for a new one.
        """
        return Sampler(**vars(self) | {name: value for name, value in options.items() if value is not None})

    def check(self, objective: Objective) -> None:
        """Refuse an objective that has no such schedule.

        Raises:
            ValueError: If so.
        """
        if self.schedule == "karras":
            objective.noise_ratios()

    def guides(self, t: Tensor) -> bool:
        """Whether guidance acts at time `t`."""
        first, last = self.guidance_interval
        return self.guidance != 1 and first <= float(t) <= last

    def __call__(self, objective: Objective, velocity: Velocity, noise: Iterator[Tensor]) -> Tensor:
        """Walk from the first draw of `noise` to data; random steps take the next draws."""
        start = objective.start(next(noise))
        schedule = self.schedule or objective.schedule
        times = schedule_times(schedule, objective, self.steps, self.rho).to(start.device)
        if self.method == "ddim":
            return ddim(objective, velocity, start, times, self.eta, noise)
        return {"euler": euler, "heun": heun, "dpmpp_2m": dpmpp_2m}[self.method](objective, velocity, start, times)
