"""The scale of latents: measured while their autoencoder learns, so that diffusion sees mean 0 and variance 1."""

import torch
from torch import Tensor, nn


class LatentScale(nn.Module):
    """Mean and standard deviation of each latent channel, as buffers that travel with the weights.

    Args:
        channels: Latent channels C.
        memory: Batches over which the running averages reach back.
    """

    mean: Tensor
    square: Tensor
    batches: Tensor

    def __init__(self, channels: int, memory: int = 200) -> None:
        """Start from mean 0 and variance 1."""
        super().__init__()
        self.memory = memory
        self.fixed = False
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("square", torch.ones(channels))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def fix(self, mean: list[float] | float | None, std: list[float] | float | None) -> None:
        """Take given values instead of measured ones; None leaves them measured.

        Raises:
            ValueError: If one alone is given, their number is wrong, or a deviation is not positive.
        """
        if mean is None and std is None:
            return
        if mean is None or std is None:
            raise ValueError("latent_mean and latent_std go together: give both, or neither")
        channels = len(self.mean)
        for name, value in (("latent_mean", mean), ("latent_std", std)):
            if isinstance(value, list) and len(value) != channels:
                raise ValueError(
                    f"{name} has {len(value)} values for {channels} channels; give one each, or one for all"
                )
        means, stds = (torch.as_tensor(value, dtype=torch.float32).expand(channels) for value in (mean, std))
        if not (stds > 0).all():
            raise ValueError(f"latent_std {std} must be above 0")
        self.fixed = True
        with torch.no_grad():
            self.mean.copy_(means)
            self.square.copy_(means.square() + stds.square())

    @torch.no_grad()
    def update(self, moments: Tensor) -> None:
        """Take the next batch into account, given as means and mean squares `(2, C)` of its latents."""
        if self.fixed:
            return
        self.batches += 1
        share = (1 / self.batches).clamp(min=1 / self.memory)
        self.mean.lerp_(moments[0].to(self.mean.dtype), share)
        self.square.lerp_(moments[1].to(self.square.dtype), share)

    def scale(self, latents: Tensor) -> Tensor:
        """`(B, C, ...)` as the autoencoder makes them -> mean 0 and variance 1."""
        mean, std = self._shaped(latents)
        return (latents - mean) / std

    def unscale(self, latents: Tensor) -> Tensor:
        """Undo `scale`."""
        mean, std = self._shaped(latents)
        return latents * std + mean

    def _shaped(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        std = (self.square - self.mean.square()).clamp(min=1e-12).sqrt()
        shape = (-1, *[1] * (latents.ndim - 2))
        return self.mean.view(shape).to(latents.dtype), std.view(shape).to(latents.dtype)


def channel_moments(latents: Tensor) -> Tensor:
    """Mean and mean square of each channel of `(B, C, T, H, W)`, as `(2, C)` in float32."""
    latents = latents.detach().float()
    return torch.stack([latents.mean((0, 2, 3, 4)), latents.square().mean((0, 2, 3, 4))])
