"""What a scan is: the order in which a (T, H, W) grid of tokens becomes a sequence, and back.

A state space model reads its tokens one after another, so the order decides which neighbors in the video stay
neighbors in the sequence. A scan is a family of orders, one per layer.

Letters: B batch, T frames, H rows, W columns (in tokens), D channels, N = T*H*W.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

Grid = tuple[int, int, int]
"""Tokens along time, height and width."""


def invert(index: Tensor, count: int, whose: str) -> Tensor:
    """The inverse of a permutation.

    Args:
        index: The permutation of `range(count)`, int64.
        count: Its length.
        whose: Who made it, for the message.

    Raises:
        ValueError: If it is none, naming what is missing or comes twice.
    """
    fault = ""
    if index.dtype != torch.int64 or tuple(index.shape) != (count,):
        fault = f"it is {index.dtype} {tuple(index.shape)}, not torch.int64 ({count},)"
    elif index.min() < 0 or index.max() >= count:
        fault = f"it holds {int(index.min())} to {int(index.max())}"
    elif (times := torch.bincount(index, minlength=count)).max() > 1:
        fault = f"{int((times == 0).nonzero()[0])} is missing, {int((times > 1).nonzero()[0])} comes twice"
    if fault:
        raise ValueError(f"{whose} must be a permutation of range({count}): {fault}")
    inverse = torch.empty_like(index)
    inverse[index] = torch.arange(count, device=index.device)
    return inverse


class Scan(ABC):
    """A family of orders, one per layer."""

    @abstractmethod
    def flatten(self, x: Tensor, layer: int) -> Tensor:
        """Read the grid `x` `(B, T, H, W, D)` in the order of `layer` as a sequence `(B, N, D)`."""

    @abstractmethod
    def unflatten(self, sequence: Tensor, grid: Grid, layer: int) -> Tensor:
        """Put a `sequence` `(B, N, D)` read in the order of `layer` back on its `grid`: `(B, T, H, W, D)`."""

    def index(self, grid: Grid, layer: int) -> Tensor:
        """The raster position of each element of the sequence: a permutation of `range(N)`, `(N,)` int64 on the CPU."""
        check_grid(grid)
        raster = torch.arange(math.prod(grid), device="cpu").view(1, *grid, 1)
        return self.flatten(raster, layer).flatten()

    def __repr__(self) -> str:
        """The class and its options, which are its attributes, as `lingen_kit adjacency --scan` reads them."""
        shown = {k: f"[{', '.join(map(str, v))}]" if isinstance(v, tuple) else v for k, v in vars(self).items()}
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in shown.items())})"


def check_grid(grid: Grid) -> None:
    """Raise ValueError unless every side of the grid has a token."""
    if len(grid) != 3 or min(grid) < 1:
        raise ValueError(f"grid {tuple(grid)} must be three sizes (T, H, W) of at least 1")


def check_fit(sequence: Tensor, grid: Grid) -> None:
    """Raise ValueError unless the `sequence` `(B, N, D)` has as many tokens as the grid."""
    check_grid(grid)
    if sequence.shape[1] != math.prod(grid):
        raise ValueError(
            f"a sequence of length {sequence.shape[1]} does not fit grid {tuple(grid)}, which holds {math.prod(grid)} "
            "tokens; unflatten it with the grid that it was flattened from"
        )
