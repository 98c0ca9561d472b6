"""EDM (arXiv 2206.00364): noise added to data that stays as it is, and a network that sees and says unit variances.

The path is `x_t = x + sigma noise` and the ODE is walked in sigma: `dx_t / dsigma = noise`. The network F is
preconditioned (Table 1): with s the standard deviation of the data,

    x = c_skip x_t + c_out F(c_in x_t, c_noise)
    c_skip = s^2 / (sigma^2 + s^2)      c_out = sigma s / sqrt(sigma^2 + s^2)      c_in = 1 / sqrt(sigma^2 + s^2)

and the loss of x, weighted by 1 / c_out^2, is the plain squared error of F.

Time is an angle: `sigma = s / tan(pi t / 2)`, so that sigma is s half way. Training does not depend on it.

Letters: B batch, C channels, T frames, H height, W width.
"""

import math

import torch
from torch import Tensor

from lingen_kit.diffusion.objective import Objective, Point, Schedule, expand


class EDM(Objective):
    """EDM's path, preconditioning and loss, with its distribution of noise levels.

    Args:
        sigma_data: Standard deviation of the data (of latents, 1 as a rule).
        sigma_min: Lowest noise level of sampling.
        sigma_max: Highest noise level, where sampling starts.
        log_sigma_mean: Mean of ln(sigma) in training; P_mean in the paper.
        log_sigma_std: Standard deviation of ln(sigma) in training; P_std in the paper.

    Raises:
        ValueError: If a value is out of its range.
    """

    schedule: Schedule = "karras"

    def __init__(
        self,
        *,
        sigma_data: float = 0.5,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        log_sigma_mean: float = -1.2,
        log_sigma_std: float = 1.2,
    ) -> None:
        """Keep the choices."""
        if not 0 < sigma_data < math.inf:
            raise ValueError(f"EDM: sigma_data {sigma_data} must be above 0: the standard deviation of the data")
        if not 0 < sigma_min < sigma_max < math.inf:
            raise ValueError(f"EDM: sigma_min {sigma_min} must be above 0 and below sigma_max {sigma_max}")
        if not (math.isfinite(log_sigma_mean) and 0 < log_sigma_std < math.inf):
            raise ValueError(
                f"EDM: log_sigma_mean {log_sigma_mean} must be finite and log_sigma_std {log_sigma_std} above 0"
            )
        self.sigma_data, self.sigma_min, self.sigma_max = sigma_data, sigma_min, sigma_max
        self.log_sigma_mean, self.log_sigma_std = log_sigma_mean, log_sigma_std

    @property
    def first_time(self) -> float:
        """The time of the highest noise level."""
        return 2 / math.pi * math.atan2(self.sigma_data, self.sigma_max)

    def point(self, t: Tensor) -> Point:
        """The path at times of any shape, above 0."""
        sigma = (self.sigma_data / torch.tan(math.pi / 2 * t)).clamp(min=0)  # at t = 1 rounding makes it less than 0
        one, zero = torch.ones_like(t), torch.zeros_like(t)
        return Point(sigma, one, sigma, zero, one)

    def times(self, quantiles: Tensor) -> Tensor:
        """Training times of the noise levels with the given upper quantiles in (0, 1), any shape."""
        log_sigma = self.log_sigma_mean - self.log_sigma_std * torch.special.ndtri(quantiles)
        return self.time_of_ratio(log_sigma.exp())

    def network_input(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The video scaled by c_in, and c_noise = ln(sigma) / 4 carried to [0, 1], where the network expects a time."""
        log_min, log_max = math.log(self.sigma_min), math.log(self.sigma_max)
        time = (log_max - self.point(t).sigma.log()) / (log_max - log_min)
        return x_t / self._scale(t), time

    def start(self, noise: Tensor) -> Tensor:
        """Noise of the highest level."""
        return self.sigma_max * noise

    def loss(self, output: Tensor, x: Tensor, noise: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """EDM's loss of each sample, `(B,)`: (x' - x)^2 / c_out^2, written as an error of the network itself."""
        sigma = self.point(expand(t)).sigma
        truth = (sigma / self.sigma_data * x - self.sigma_data * noise) / self._scale(t)
        return (output.float() - truth).square().flatten(1).mean(1)

    def velocity(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """(x_t - x') / sigma, with sigma canceled."""
        sigma, scale = self.point(expand(t)).sigma, self._scale(t)
        return sigma / scale**2 * x_t - self.sigma_data / scale * output

    def noise_ratios(self) -> tuple[float, float]:
        """The highest and the lowest noise level."""
        return self.sigma_max, self.sigma_min

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        """The times of the given noise levels, any shape."""
        return 2 / math.pi * torch.atan2(torch.full_like(ratio, self.sigma_data), ratio)

    def _scale(self, t: Tensor) -> Tensor:
        """Standard deviation of x_t, 1 / c_in, shaped to multiply videos."""
        return (self.point(expand(t)).sigma.square() + self.sigma_data**2).sqrt()
