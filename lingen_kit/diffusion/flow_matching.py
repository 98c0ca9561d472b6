"""Flow matching along Movie Gen's path (arXiv 2410.13720, Sec. 3.1.2), with prediction and loss in any space.

The path from noise X0 to data X1 is `X_t = t X1 + (1 - (1 - s) t) X0` with s = 1e-5, its velocity
`V = X1 - (1 - s) X0`. Given X_t and t, any one of X1, V and X0 tells the other two, so what the network predicts and
where the squared error is taken are two separate choices. With b = 1 - (1 - s) t, the factor of the noise:

    V = (X1 - (1 - s) X_t) / b        V = (X_t - X0) / t

Letters: B batch, C channels, T frames, H height, W width.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from lingen_kit.diffusion.checks import require_choice
from lingen_kit.diffusion.objective import Objective, Point, Schedule, expand

Space = Literal["x", "velocity", "noise"]
Times = Literal["logit_normal", "uniform", "cosmap"]

_SIGMA_MIN = 1e-5


class FlowMatching(Objective):
    """Flow matching: a straight path, walked in t itself.

    Args:
        prediction: What the network outputs: the clean video `x`, the `velocity` or the `noise`.
        loss_space: Where the squared error is taken. Data in a low-dimensional set is far easier to predict as `x`,
            and the error is still best weighted as that of the `velocity` (arXiv 2511.13720).
        time_distribution: Which times are trained on: those whose logit is normal, all alike, or `cosmap`, which
            matches the log-SNR of a cosine path (Stable Diffusion 3, arXiv 2403.03206, Sec. 3.1).
        time_mean: Mean of the logit of t; t = 1 is data, so below 0 means more noise.
        time_std: Standard deviation of the logit of t.
        min_denominator: Floor under b (and t) when the loss converts between spaces; without it the loss is
            unbounded where a prediction is divided by almost nothing.

    Raises:
        ValueError: If `time_std` or `min_denominator` is not positive, or a choice is unknown.
    """

    schedule: Schedule = "linear_quadratic"

    def __init__(
        self,
        *,
        prediction: Space = "velocity",
        loss_space: Space = "velocity",
        time_distribution: Times = "logit_normal",
        time_mean: float = 0.0,
        time_std: float = 1.0,
        min_denominator: float = 0.05,
    ) -> None:
        """Keep the choices."""
        if not (time_std > 0 and min_denominator > 0 and math.isfinite(time_mean)):
            raise ValueError(
                f"time_std {time_std} and min_denominator {min_denominator} must be above 0 and "
                f"time_mean {time_mean} finite"
            )
        require_choice("FlowMatching", Space, prediction=prediction, loss_space=loss_space)
        require_choice("FlowMatching", Times, time_distribution=time_distribution)
        self.prediction: Space = prediction
        self.loss_space: Space = loss_space
        self.time_distribution: Times = time_distribution
        self.time_mean, self.time_std, self.min_denominator = time_mean, time_std, min_denominator

    def times(self, quantiles: Tensor) -> Tensor:
        """Times with the given quantiles in (0, 1) of the distribution, any shape."""
        if self.time_distribution == "uniform":
            return quantiles
        if self.time_distribution == "cosmap":
            return 1 - 1 / (1 + torch.tan(math.pi / 2 * quantiles))
        return torch.sigmoid(self.time_mean + self.time_std * torch.special.ndtri(quantiles))

    def point(self, t: Tensor) -> Point:
        """The path at times of any shape."""
        one = torch.ones_like(t)
        return Point(t, t, _noise_factor(t), one, -(1 - _SIGMA_MIN) * one)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        """The times at which b / t has the given values, any shape."""
        return 1 / (ratio + 1 - _SIGMA_MIN)

    def loss(self, output: Tensor, x: Tensor, noise: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Mean squared error of each sample, `(B,)`, of the network's `output` at `x_t`."""
        truth = {"x": x, "noise": noise, "velocity": x - (1 - _SIGMA_MIN) * noise}[self.prediction]
        # Both sides go through the same floored conversion, so a perfect prediction has loss zero at every t.
        error = self._convert(output.float(), x_t, t) - self._convert(truth, x_t, t)
        return error.square().flatten(1).mean(1)

    @property
    def first_time(self) -> float:
        """Where sampling starts: a predicted noise says next to nothing about the data while t is almost 0.

        There the velocity is the error of the prediction divided by t.
        """
        return 0.02 if self.prediction == "noise" else 0.0

    def velocity(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The velocity that the network's `output` at `x_t` means, for t < 1 (and t > 0 if it predicts noise)."""
        return to_velocity(output, self.prediction, x_t, t, floor=1e-6)

    def _convert(self, value: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        if self.prediction == self.loss_space:
            return value
        velocity = to_velocity(value, self.prediction, x_t, t, self.min_denominator)
        if self.loss_space == "x":
            return (1 - _SIGMA_MIN) * x_t + _noise_factor(expand(t)) * velocity
        if self.loss_space == "noise":
            return x_t - expand(t) * velocity
        return velocity


def to_velocity(value: Tensor, space: Space, x_t: Tensor, t: Tensor, floor: float) -> Tensor:
    """Convert a clean video, velocity or noise at `x_t` to the velocity, with denominators of at least `floor`."""
    if space == "x":
        return (value - (1 - _SIGMA_MIN) * x_t) / _noise_factor(expand(t)).clamp(min=floor)
    if space == "noise":
        return (x_t - value) / expand(t).clamp(min=floor)
    return value


def _noise_factor(t: Tensor) -> Tensor:
    return 1 - (1 - _SIGMA_MIN) * t
