"""Morton's Z-order on a grid of any size: recursively the corner blocks of a block, by interleaving coordinate bits.

Letters: T frames, H rows, W columns (in tokens), N = T*H*W; A B C the axes from slowest to fastest.
"""

import torch
from torch import Tensor

from lingen_kit.scans.base import Grid
from lingen_kit.scans.index import IndexScan
from lingen_kit.scans.orders import OrderedScan


class Morton(OrderedScan, IndexScan):
    """Z-order: blocks within blocks, with a jump from one to the next; simpler than Hilbert's curve, not continuous.

    A grid is what is inside of its power-of-two box. A box longer than it is wide is a row of cubes: the sides' lowest
    bits are interleaved, and the bits that only a long side has come first.

    Args:
        orders: One order per layer, cycled: the axes from slowest to fastest among the eight corners of a block. All
            six permutations of `t`, `h`, `w` are valid.
    """

    def permutation(self, grid: Grid, phase: int) -> Tensor:
        """Sort the raster by interleaved coordinates."""
        axes = self.axes(phase)
        key = torch.zeros(grid, dtype=torch.int64)
        place = 0
        for bit in range((max(grid) - 1).bit_length()):
            for axis in reversed(axes):
                if (grid[axis] - 1) >> bit:  # this side has such a bit
                    shape = [-1 if i == axis else 1 for i in range(3)]
                    key += ((torch.arange(grid[axis]) >> bit & 1) << place).view(shape)
                    place += 1
        return key.flatten().argsort()
