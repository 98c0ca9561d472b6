"""Scans window by window, after LocalMamba (arXiv 2403.09338): what is near in the video stays near in the sequence.

Letters: T frames, H rows, W columns (in tokens), N = T*H*W.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lingen_kit.scans.base import Grid
from lingen_kit.scans.index import IndexScan
from lingen_kit.scans.orders import OrderedScan


class LocalWindows(OrderedScan, IndexScan):
    """Windows one after another, and the tokens of a window one after another, both as nested loops over the axes.

    Windows at the far borders hold what is left of the grid; one larger than the grid shrinks to it.

    Args:
        window: Tokens of a window along time, height and width. The default is that of LinGen's window attention;
            LocalMamba has windows of 2x2 and 7x7 on images.
        orders: One order per layer, cycled: the axes from slowest to fastest, of the windows and within them. All six
            permutations of `t`, `h`, `w` are valid.
    """

    def __init__(self, window: Grid = (8, 4, 4), orders: Sequence[str] = ("thw",)) -> None:
        """Check window and orders."""
        if len(window) != 3 or min(window) < 1:
            raise ValueError(f"window {tuple(window)} must be three sizes (t, h, w) of at least 1")
        self.window = tuple(window)
        super().__init__(orders)

    def permutation(self, grid: Grid, phase: int) -> Tensor:
        """Cut the raster into windows, padding those at the borders with tokens that are then dropped."""
        window = [min(w, size) for w, size in zip(self.window, grid, strict=True)]
        raster = torch.arange(math.prod(grid)).view(grid)
        pad = [amount for size, w in zip(grid, window, strict=True) for amount in (-size % w, 0)]
        raster = F.pad(raster, pad[::-1], value=-1)
        for axis in (2, 1, 0):
            raster = raster.unflatten(axis, (-1, window[axis]))  # (T/t, t, H/h, h, W/w, w) in the end
        axes = self.axes(phase)
        tokens = raster.permute([2 * axis for axis in axes] + [2 * axis + 1 for axis in axes]).flatten()
        return tokens[tokens >= 0]
