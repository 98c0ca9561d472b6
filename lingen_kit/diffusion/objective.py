"""The interface of every objective: a path from noise to data, and what a network learns along it.

A path is `x_t = alpha(t) x + sigma(t) noise`, from noise at t = 0 to data at t = 1 in every objective. Its probability
flow ODE is written in the variable of its own paper, the `clock` u(t):

    dx/du = alpha'(u) x + sigma'(u) noise        with x and noise as the network sees them at x_t: the velocity

u is t in flow matching, the noise level in EDM and an angle in DDPM. On each of these paths the determinant
`alpha sigma' - sigma alpha'` is 1 or -1, so the velocity tells data and noise without dividing by anything. That is why
solvers and guidance ask for velocities, whatever the network predicts.

Letters: B batch, C channels, T frames, H height, W width.
"""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

from torch import Tensor

Schedule = Literal["uniform", "linear_quadratic", "karras"]


class Point(NamedTuple):
    """A path at given times; every field is shaped as the times are.

    Attributes:
        clock: The variable u that the ODE is written in.
        alpha: Factor of the data.
        sigma: Factor of the noise.
        alpha_rate: d alpha / du.
        sigma_rate: d sigma / du.
    """

    clock: Tensor
    alpha: Tensor
    sigma: Tensor
    alpha_rate: Tensor
    sigma_rate: Tensor


class Objective(ABC):
    """Path, distribution of times, loss, and what the network's output means.

    Attributes:
        schedule: The times that solvers take unless a sampler names others.
    """

    schedule: Schedule = "uniform"

    @property
    def first_time(self) -> float:
        """Where sampling starts."""
        return 0.0

    @abstractmethod
    def point(self, t: Tensor) -> Point:
        """The path at times of any shape."""

    @abstractmethod
    def times(self, quantiles: Tensor) -> Tensor:
        """Training times with the given quantiles in (0, 1), any shape."""

    @abstractmethod
    def loss(self, output: Tensor, x: Tensor, noise: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The loss `(B,)` of each sample for the network's `output` at `x_t` and times `(B,)`."""

    @abstractmethod
    def velocity(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The velocity dx/du that the network's `output` at `x_t` and times `(B,)` means, for t < 1."""

    @abstractmethod
    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        """The times at which sigma / alpha has the given values, any shape."""

    def add_noise(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The point x_t of the path between `noise` and data `x` `(B, C, T, H, W)` at times `(B,)`."""
        point = self.point(expand(t))
        return point.alpha * x + point.sigma * noise

    def network_input(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is given at `x_t` and times `(B,)`: a video and times, 0 (noise) to 1 (data)."""
        return x_t, t

    def start(self, noise: Tensor) -> Tensor:
        """Where sampling starts for standard normal `noise`."""
        return noise

    def clean(self, velocity: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean video that a velocity at `x_t` means."""
        p = self.point(expand(t))
        return (p.sigma_rate * x_t - p.sigma * velocity) / (p.alpha * p.sigma_rate - p.sigma * p.alpha_rate)

    def noise(self, velocity: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The noise that a velocity at `x_t` means."""
        p = self.point(expand(t))
        return (p.alpha * velocity - p.alpha_rate * x_t) / (p.alpha * p.sigma_rate - p.sigma * p.alpha_rate)

    def velocity_of_clean(self, clean: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The velocity that a clean video at `x_t` means, for t < 1."""
        p = self.point(expand(t))
        return p.alpha_rate * clean + p.sigma_rate * (x_t - p.alpha * clean) / p.sigma

    def noise_ratios(self) -> tuple[float, float]:
        """The largest and the smallest sigma / alpha that the network is asked at, for schedules of noise levels.

        Raises:
            ValueError: If the path starts at pure noise, where the ratio has no bound.
        """
        raise ValueError(
            f"schedule karras spaces noise levels and needs a largest one, but this {type(self).__name__} starts from"
            " pure noise: choose schedule uniform or linear_quadratic"
        )


def expand(t: Tensor) -> Tensor:
    """Times `(B,)` or a scalar, shaped to multiply videos."""
    return t[..., None, None, None, None] if t.ndim else t
