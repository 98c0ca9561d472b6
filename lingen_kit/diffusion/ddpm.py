"""Denoising diffusion (DDPM, arXiv 2006.11239): a variance-preserving path, given by the betas of its N steps.

On the path `x_t = alpha x + sigma noise` with alpha^2 + sigma^2 = 1, so a point of it is an angle psi, alpha = sin psi
and sigma = cos psi, which rises from noise to data. The network predicts the noise (epsilon), the clean video (x) or
`v = alpha noise - sigma x` (arXiv 2202.00512), and the ODE is `dx_t / dpsi = sigma x - alpha noise = -v`.

Time runs from 0, the last and noisiest of the N steps, to 1, the data before the first: step n is t = 1 - n / N. So
equal steps of time are the `trailing` spacing of arXiv 2305.08891. Between two steps the angle is interpolated.

Letters: B batch, C channels, T frames, H height, W width.
"""

import math
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from lingen_kit.diffusion.checks import require_choice
from lingen_kit.diffusion.objective import Objective, Point, expand
from lingen_kit.errors import require_at_least

Betas = Literal["linear", "scaled_linear", "cosine"]
Prediction = Literal["epsilon", "v", "x"]


class DDPM(Objective):
    """Denoising diffusion over N steps.

    Args:
        prediction: What the network outputs, and where the squared error is taken: the noise `epsilon`, `v` or the
            clean video `x`.
        betas: How the variance of the noise added in a step grows: `linear`, `scaled_linear` (linear in its square
            root, as in Stable Diffusion) or `cosine` (arXiv 2102.09672, Eq. 17).
        beta_start: The first beta; not used by `cosine`.
        beta_end: The last beta; not used by `cosine`.
        noise_steps: Number N of steps that the betas are given at.
        zero_terminal_snr: Stretch the path so that it begins at pure noise, as sampling does (arXiv 2305.08891,
            Alg. 1). Otherwise a trace of the data is left there: the model never learns its mean brightness.
        min_snr_gamma: Weight an error of the clean video by its signal-to-noise ratio, but by this at most (5 in
            arXiv 2303.09556). Null weights all errors of the prediction alike.

    Raises:
        ValueError: If a value is out of its range, or `epsilon` is to be predicted from pure noise.
    """

    def __init__(
        self,
        *,
        prediction: Prediction = "v",
        betas: Betas = "cosine",
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        noise_steps: int = 1000,
        zero_terminal_snr: bool = False,
        min_snr_gamma: float | None = None,
    ) -> None:
        """Keep the choices."""
        require_choice("DDPM", Prediction, prediction=prediction)
        require_choice("DDPM", Betas, betas=betas)
        require_at_least("DDPM", 2, noise_steps=noise_steps)
        if not 0 < beta_start <= beta_end < 1:
            raise ValueError(f"DDPM: beta_start {beta_start} and beta_end {beta_end} must rise between 0 and 1")
        if min_snr_gamma is not None and not 0 < min_snr_gamma < math.inf:
            raise ValueError(f"DDPM: min_snr_gamma {min_snr_gamma} must be above 0, such as 5; null is no bound")
        if zero_terminal_snr and prediction == "epsilon":
            raise ValueError(
                "DDPM: zero_terminal_snr with prediction epsilon: the noise in pure noise tells nothing about the data;"
                " choose prediction v or x"
            )
        self.prediction: Prediction = prediction
        self.betas: Betas = betas
        self.beta_start, self.beta_end, self.noise_steps = beta_start, beta_end, noise_steps
        self.zero_terminal_snr, self.min_snr_gamma = zero_terminal_snr, min_snr_gamma

    @property
    def first_time(self) -> float:
        """Where sampling starts: where alpha is almost 0, an error of a predicted epsilon, over alpha, is all of x."""
        if self.prediction != "epsilon":
            return 0.0
        return next(i for i, angle in enumerate(self._angles) if math.sin(angle) >= 0.005) / self.noise_steps

    def point(self, t: Tensor) -> Point:
        """The path at times of any shape."""
        angles = torch.tensor(self._angles, dtype=t.dtype, device=t.device)
        place = t * self.noise_steps
        below = place.floor().clamp(0, self.noise_steps - 1).long()
        angle = torch.lerp(angles[below], angles[below + 1], place - below)
        alpha, sigma = angle.sin(), angle.cos().clamp(min=0)  # at t = 1 rounding makes it less than 0
        return Point(angle, alpha, sigma, sigma, -alpha)

    def times(self, quantiles: Tensor) -> Tensor:
        """Training times with the given quantiles in (0, 1): all alike."""
        return quantiles

    def loss(self, output: Tensor, x: Tensor, noise: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Mean squared error of each sample, `(B,)`, weighted by min-SNR if so configured."""
        p = self.point(expand(t))
        truth = {"epsilon": noise, "x": x, "v": p.alpha * noise - p.sigma * x}[self.prediction]
        error = (output.float() - truth).square().flatten(1).mean(1)
        return error if self.min_snr_gamma is None else error * self._weight(t, self.min_snr_gamma)

    def velocity(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The velocity along the angle that the network's `output` at `x_t` means, for t < 1."""
        if self.prediction == "v":
            return -output
        if self.prediction == "x":
            return self.velocity_of_clean(output, x_t, t)
        p = self.point(expand(t))
        return p.sigma * (x_t - p.sigma * output) / p.alpha - p.alpha * output

    def noise_ratios(self) -> tuple[float, float]:
        """Sigma / alpha at the last and at the first of the N steps."""
        if self._angles[0] == 0:
            return super().noise_ratios()
        first = self._angles[round(self.first_time * self.noise_steps)]
        return 1 / math.tan(first), 1 / math.tan(self._angles[-2])

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        """The times at which sigma / alpha has the given values, any shape."""
        angles = torch.tensor(self._angles, dtype=ratio.dtype, device=ratio.device)
        angle = torch.atan2(torch.ones_like(ratio), ratio)
        below = (torch.searchsorted(angles, angle, right=True) - 1).clamp(0, self.noise_steps - 1)
        rest = (angle - angles[below]) / (angles[below + 1] - angles[below])
        return (below + rest) / self.noise_steps

    def _weight(self, t: Tensor, gamma: float) -> Tensor:
        """The min-SNR weight of an error of the prediction `(B,)`: that of an error of x is min(SNR, gamma)."""
        p = self.point(t)
        bounded = torch.minimum(p.alpha.square(), gamma * p.sigma.square())  # min(SNR, gamma) sigma^2
        # An error of x is that of epsilon times sigma / alpha, and that of v times sigma.
        return bounded / {"epsilon": p.alpha, "v": torch.ones_like(t), "x": p.sigma}[self.prediction].square()

    @property
    def _angles(self) -> tuple[float, ...]:
        return _angles(self.betas, self.beta_start, self.beta_end, self.noise_steps, self.zero_terminal_snr)


@cache
def _angles(betas: Betas, start: float, end: float, steps: int, zero_terminal_snr: bool) -> tuple[float, ...]:
    """The angle psi of the N steps and of the data, `(N + 1,)` rising: place i is step N - i, at t = i / N."""
    cosines = [math.cos((n / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for n in range(steps + 1)]
    alphas, kept = [], 1.0  # kept is the variance of the data that is left: the product of all 1 - beta
    for n in range(steps):
        share = n / (steps - 1)
        if betas == "linear":
            beta = start + share * (end - start)
        elif betas == "scaled_linear":
            beta = (math.sqrt(start) + share * (math.sqrt(end) - math.sqrt(start))) ** 2
        else:
            beta = min(1 - cosines[n + 1] / cosines[n], 0.999)
        kept *= 1 - beta
        alphas.append(math.sqrt(kept))
    if zero_terminal_snr:
        first, last = alphas[0], alphas[-1]
        alphas = [(alpha - last) * first / (first - last) for alpha in alphas]
    return (*(math.asin(alpha) for alpha in reversed(alphas)), math.pi / 2)
