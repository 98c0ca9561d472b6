"""What a mixer is.

Letters: B batch, T H W the grid of tokens, D channels.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from lingen_kit.scans import Grid


class Mixer(nn.Module, ABC):
    """Mixes the tokens of a video; its class path in YAML is all the registration there is.

    A subclass is built with `(dim, layer)` and typed options of its own.

    Args:
        dim: Channels D.
        layer: Which of the denoiser's mixers of this class it is, for those that differ from layer to layer.
    """

    context_parallel: ClassVar[bool] = False
    """Whether it can mix a video that is split over ranks (`lingen_kit.parallel`)."""

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


def require_context_parallel(module: nn.Module) -> None:
    """Refuse mixers that would mix each rank's slab for itself.

    Raises:
        ValueError: If `module` is or holds one, naming it.
    """
    for mixer in module.modules():
        if isinstance(mixer, Mixer) and not mixer.context_parallel:
            raise ValueError(
                f"the mixer {type(mixer).__name__} does not support context parallelism, which splits a video over "
                "ranks: choose another mixer (MATE, Mamba2, WindowAttention, SelfAttention, LinearAttention) or set "
                "context_parallel to 1"
            )
