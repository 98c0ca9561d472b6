"""What keeps the latents of an autoencoder easy to model.

Letters: B batch, C latent channels, T frames, H height, W width.
"""

from torch import Tensor


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of each value's normal distribution from the standard one, in nats, averaged over all values."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


def outlier_penalty(latents: Tensor, deviations: float = 3.0) -> Tensor:
    """How far latents lie beyond `deviations` standard deviations from their mean, averaged over all values.

    Movie Gen's outlier penalty (arXiv 2410.13720, 3.1.1, r = 3) against single positions of large norm, which show as
    spots in the video. Mean and deviation are those of a channel over the positions of a frame, our reading.

    Args:
        latents: `(B, C, T, H, W)`.
        deviations: r.
    """
    mean = latents.mean((3, 4), keepdim=True)
    variance = (latents - mean).square().mean((3, 4), keepdim=True)
    std = (variance + 1e-8).sqrt()  # the gradient of a root at 0 is infinite
    return ((latents - mean).abs() - deviations * std).relu().mean()
