"""Autoencoders between videos and the latents that the denoiser works on."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from lingen_kit.scans import Grid


class Autoencoder(nn.Module, ABC):
    """Interface of every autoencoder.

    Attributes:
        channels: Channels of the latents.
    """

    channels: int

    @abstractmethod
    def encode(self, video: Tensor) -> Tensor:
        """Video `(B, 3, T, H, W)` in [-1, 1] -> latents `(B, C, T', H', W')` of about unit scale."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> video `(B, 3, T, H, W)` in [-1, 1]."""

    @abstractmethod
    def latent_size(self, size: Grid) -> Grid:
        """Latent frames, height and width of a video of `size`."""


class PixelSpace(Autoencoder):
    """No compression: the pixels are the latents. For small videos."""

    channels = 3

    def encode(self, video: Tensor) -> Tensor:
        """Return the video."""
        return video

    def decode(self, latents: Tensor) -> Tensor:
        """Return the latents, clamped to [-1, 1]."""
        return latents.clamp(-1, 1)

    def latent_size(self, size: Grid) -> Grid:
        """Return the size."""
        return size
