"""A critic of small patches of a video, for sharp reconstructions (PatchGAN, arXiv 1611.07004, over time, too)."""

from torch import Tensor, nn

from lingen_kit.errors import require_at_least


class PatchDiscriminator(nn.Module):
    """Tells real patches from reconstructed ones; an image is a video of one frame.

    Args:
        dim: Channels after the first convolution; they double with each of the next, up to eightfold.
        layers: Convolutions that halve height and width; all but the first halve the frames as well.
    """

    def __init__(self, dim: int = 64, layers: int = 3) -> None:
        """Build the convolutions."""
        super().__init__()
        require_at_least("PatchDiscriminator", 1, dim=dim, layers=layers)
        parts: list[nn.Module] = [nn.Conv3d(3, dim, (3, 4, 4), (1, 2, 2), 1), nn.LeakyReLU(0.2)]
        before = dim
        for number in range(1, layers):
            after = dim * min(2**number, 8)
            parts += [
                nn.Conv3d(before, after, (3, 4, 4), (2, 2, 2), 1, bias=False),
                nn.GroupNorm(1, after),
                nn.LeakyReLU(0.2),
            ]
            before = after
        self.layers = nn.Sequential(*parts, nn.Conv3d(before, 1, 3, 1, 1))

    def forward(self, video: Tensor) -> Tensor:
        """Video `(B, 3, T, H, W)` in [-1, 1] -> how real each patch looks, `(B, 1, T', H', W')`."""
        return self.layers(video)


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss: it should score real patches above 1 and others below -1."""
    return 0.5 * ((1 - real).relu().mean() + (1 + fake).relu().mean())
