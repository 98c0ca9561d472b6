"""Embeddings of position and time.

Letters: B batch, T H W the grid of tokens, D channels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lingen_kit.parallel import current
from lingen_kit.scans import Grid


class FactorizedPosition(nn.Module):
    """Learnable positional embedding with one table per axis, summed (NaViT, arXiv 2307.06304).

    Args:
        grid: The largest number of tokens along time, height and width; smaller grids use the first rows.
        dim: Channels D.
    """

    def __init__(self, grid: Grid, dim: int) -> None:
        """Small random tables, as in ViT."""
        super().__init__()
        self.grid = grid
        self.tables = nn.ParameterList(nn.Parameter(0.02 * torch.randn(size, dim)) for size in grid)

    def forward(self, x: Tensor) -> Tensor:
        """Add the position to tokens `(B, T, H, W, D)`; in a context, to this rank's slab of them.

        Raises:
            ValueError: If the grid is larger than the tables.
        """
        context = current()
        grid = tuple(x.shape[1:4]) if context is None else context.grid(x)
        if any(size > limit for size, limit in zip(grid, self.grid, strict=True)):
            raise ValueError(
                f"a grid of {grid} tokens (time, height, width) exceeds the positional tables of {self.grid}: "
                "ask for a smaller video, or train with larger frames, height and width"
            )
        t, h, w = (table[:size] for table, size in zip(self.tables, grid, strict=True))
        if context is not None:
            t = t[context.first :][: x.shape[1]]
        return x + t[:, None, None] + h[:, None] + w

    def extra_repr(self) -> str:
        """The tables' lengths."""
        return f"grid={self.grid}"


def resize_table(table: Tensor, length: int) -> Tensor:
    """Interpolate a positional table linearly along its axis, `(N, D)` -> `(length, D)`.

    Both tables cover the same extent: row i stands for the place (i + 1/2) / N of it, and what lies beyond the middle
    of the first or last row takes that row.
    """
    resized = F.interpolate(table.float().T[None], size=length, mode="linear", align_corners=False)
    return resized[0].T.to(table.dtype).contiguous()


class TimeEmbedding(nn.Module):
    """Sinusoids of the diffusion time through a two-layer MLP (DiT, arXiv 2212.09748).

    Args:
        dim: Channels D of the result.
        frequencies: Number of sinusoids, half sines and half cosines.
    """

    frequency: Tensor

    def __init__(self, dim: int, frequencies: int = 256) -> None:
        """Geometric frequencies over four decades, for times in [0, 1] scaled by 1000."""
        super().__init__()
        half = frequencies // 2
        self.register_buffer("frequency", torch.exp(-math.log(10_000) / half * torch.arange(half)), persistent=False)
        self.in_proj = nn.Linear(frequencies, dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, t: Tensor) -> Tensor:
        """Times `(B,)` in [0, 1] -> `(B, D)`."""
        angle = 1000 * t.float()[:, None] * self.frequency
        waves = torch.cat([angle.cos(), angle.sin()], dim=-1).to(self.in_proj.weight.dtype)
        return self.out_proj(F.silu(self.in_proj(waves)))
