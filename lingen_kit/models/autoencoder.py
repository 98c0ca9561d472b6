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
    def decode(self, latents: Tensor, frames: int | None = None) -> Tensor:
        """Latents -> video `(B, 3, T, H, W)` in [-1, 1].

        One number of latent frames can stand for several numbers of frames: `frames` says which T is wanted, such as
        1 for images. If None it is the largest.
        """

    @abstractmethod
    def latent_size(self, size: Grid) -> Grid:
        """Latent frames, height and width of a video of `size`.

        Raises:
            ValueError: If it cannot encode that size.
        """


class PixelSpace(Autoencoder):
    """No compression: the pixels are the latents. For small videos."""

    channels = 3

    def encode(self, video: Tensor) -> Tensor:
        """Return the video."""
        return video

    def decode(self, latents: Tensor, frames: int | None = None) -> Tensor:
        """Return the latents, clamped to [-1, 1]."""
        return latents.clamp(-1, 1)

    def latent_size(self, size: Grid) -> Grid:
        """Return the size."""
        return size


def wanted_frames(frames: int | None, latent_frames: int, longest: int, shortest: int) -> int:
    """How many frames to decode.

    Args:
        frames: The frames asked for, if any.
        latent_frames: Latent frames T'.
        longest: Most frames that T' stands for.
        shortest: Fewest frames that T' stands for.

    Raises:
        ValueError: If T' latent frames do not stand for so many.
    """
    if frames is not None and not shortest <= frames <= longest:
        raise ValueError(
            f"{frames} frames cannot be decoded from {latent_frames} latent frames, which stand for {shortest} to "
            f"{longest}; ask for one of these"
        )
    return longest if frames is None else frames
