"""What a mixer is.

Letters: B batch, T H W the grid of tokens, D channels.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from lingen_kit.scans import Grid


class Mixer(nn.Module, ABC):
    """Mixes the tokens of a video; its class path in YAML is all the registration there is.

    A subclass is built with `(dim, layer)` and typed options of its own.

    Args:
        dim: Channels D.
        layer: Which of the denoiser's mixers of this class it is, for those that differ from layer to layer.
    """

    def __init__(self, dim: int, layer: int) -> None:
        """Keep both."""
        super().__init__()
        self.dim, self.layer = dim, layer

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of a grid of any size: `(B, T, H, W, D)` -> the same."""

    @abstractmethod
    def flops(self, grid: Grid) -> int:
        """FLOPs of one forward pass over one grid, two per multiply-add."""
