"""What a scan is: the order in which a (T, H, W) grid of tokens becomes a sequence, and back.

A state space model reads its tokens one after another, so the order decides which neighbours in the video stay
neighbours in the sequence. A scan is a family of orders, one per layer.

Letters: B batch, T frames, H rows, W columns (in tokens), D channels, N = T*H*W.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

Grid = tuple[int, int, int]
"""Tokens along time, height and width."""


class Scan(ABC):
    """A family of orders, one per layer."""

    @abstractmethod
    def flatten(self, x: Tensor, layer: int) -> Tensor:
        """Read the grid `x` `(B, T, H, W, D)` in the order of `layer` as a sequence `(B, N, D)`."""

    @abstractmethod
    def unflatten(self, sequence: Tensor, grid: Grid, layer: int) -> Tensor:
        """Put a `sequence` `(B, N, D)` read in the order of `layer` back on its `grid`: `(B, T, H, W, D)`."""

    def index(self, grid: Grid, layer: int) -> Tensor:
        """The raster position of each element of the sequence: a permutation of `range(N)`, `(N,)` int64."""
        raster = torch.arange(grid[0] * grid[1] * grid[2]).view(1, *grid, 1)
        return self.flatten(raster, layer).flatten()
