"""The continuous boustrophedon through the volume: our reading of the zigzag in Fig. 1 of LinGen's supplement.

Letters: T frames, H rows, W columns (in tokens), N = T*H*W; A B C the axes from slowest to fastest.
"""

import math

import torch
from torch import Tensor

from lingen_kit.scans.base import Grid
from lingen_kit.scans.index import IndexScan
from lingen_kit.scans.orders import OrderedScan


class Snake(OrderedScan, IndexScan):
    """Nested loops that turn back at the end of each line and of each plane: every step goes to a face neighbor.

    Args:
        orders: One order per layer, cycled: the axes from slowest to fastest. All six permutations of `t`, `h`, `w`
            are valid.
    """

    def permutation(self, grid: Grid, phase: int) -> Tensor:
        """Reverse every other line and every other plane of the raster."""
        raster = torch.arange(math.prod(grid)).view(grid).permute(self.axes(phase)).clone()  # (A, B, C)
        raster[1::2] = raster[1::2].flip(1)
        lines = raster.flatten(0, 1)  # (A*B, C)
        lines[1::2] = lines[1::2].flip(1)
        return lines.flatten()
