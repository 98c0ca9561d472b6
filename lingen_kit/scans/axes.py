"""Scans that permute axes: LinGen's rotary-major scan and the plain raster.

The rotary-major scan changes the order from layer to layer: over a few layers every pair of adjacent tokens is
adjacent in some sequence (supplement, Sec. A), at the price of an axis permutation, with no index tensor and no gather.

Letters: B batch, T frames, H rows, W columns (in tokens), D channels, N = T*H*W.
"""

from collections.abc import Sequence

from torch import Tensor

from lingen_kit.scans.base import Grid, check_fit, check_grid
from lingen_kit.scans.orders import ROTARY, OrderedScan


class AxisScan(OrderedScan):
    """Nested loops over the three axes; which axis is in the outer and which in the inner loop is the order.

    Args:
        orders: One order per layer, cycled: the axes from slowest to fastest, such as `thw` for frame after
            frame, row after row. All six permutations of `t`, `h`, `w` are valid.
    """

    def __init__(self, orders: Sequence[str] = ("thw",)) -> None:
        """The same order in every layer, unless told otherwise."""
        super().__init__(orders)

    def flatten(self, x: Tensor, layer: int) -> Tensor:
        """Permute the axes, then view the grid as a sequence: `(B, T, H, W, D)` -> `(B, N, D)`."""
        check_grid((x.shape[1], x.shape[2], x.shape[3]))
        return x.permute(0, *(axis + 1 for axis in self.axes(layer)), 4).flatten(1, 3)

    def unflatten(self, sequence: Tensor, grid: Grid, layer: int) -> Tensor:
        """Undo `flatten`: `(B, N, D)` -> `(B, T, H, W, D)`."""
        check_fit(sequence, grid)
        axes = self.axes(layer)
        inverse = [axes.index(axis) + 1 for axis in range(3)]
        return sequence.unflatten(1, [grid[axis] for axis in axes]).permute(0, *inverse, 4)


class Raster(AxisScan):
    """Frame after frame, row after row, in every layer."""

    def __init__(self) -> None:
        """The order `thw` everywhere."""
        super().__init__(("thw",))

    def __repr__(self) -> str:
        """Without the order: it is no option."""
        return "Raster()"


class RotaryMajor(AxisScan):
    """LinGen's rotary-major scan: spatial-row, temporal-row, spatial-column, temporal-column major, layer by layer.

    The paper's body names four alternating schedules; which axis is the slowest in each is our reading. With the
    default, face-adjacent tokens are as close after k layers as under a continuous zigzag (supplement, Fig. 1).

    Args:
        orders: The schedule, one order per layer, cycled.
    """

    def __init__(self, orders: Sequence[str] = ROTARY) -> None:
        """The four orders, cycled over the layers."""
        super().__init__(orders)
