"""Scans that permute axes: LinGen's rotary-major scan and the plain raster.

The rotary-major scan changes the order from layer to layer: over a few layers every pair of adjacent tokens is
adjacent in some sequence (supplement, Sec. A), at the price of an axis permutation, with no index tensor and no gather.

Letters: B batch, T frames, H rows, W columns (in tokens), D channels, N = T*H*W.
"""

from collections.abc import Sequence

from torch import Tensor

from lingen_kit.scans.base import Grid, Scan

_AXES = "thw"


class AxisScan(Scan):
    """Nested loops over the three axes; which axis is in the outer and which in the inner loop is the order.

    Args:
        orders: One order per layer, cycled: the axes from slowest to fastest, such as `thw` for frame after
            frame, row after row. All six permutations of `t`, `h`, `w` are valid.
    """

    def __init__(self, orders: Sequence[str] = ("thw",)) -> None:
        """Check the orders; nothing is computed until a tensor comes."""
        for order in orders:
            if sorted(order) != sorted(_AXES):
                raise ValueError(f"scan order {order!r} is not a permutation of 'thw' (such as 'thw' or 'hwt')")
        if not orders:
            raise ValueError("a scan needs at least one order, such as ['thw']")
        self.orders = tuple(orders)

    def flatten(self, x: Tensor, layer: int) -> Tensor:
        """Permute the axes, then view the grid as a sequence: `(B, T, H, W, D)` -> `(B, N, D)`."""
        return x.permute(0, *self._permutation(layer), 4).flatten(1, 3)

    def unflatten(self, sequence: Tensor, grid: Grid, layer: int) -> Tensor:
        """Undo `flatten`: `(B, N, D)` -> `(B, T, H, W, D)`."""
        permutation = self._permutation(layer)
        sizes = [grid[axis - 1] for axis in permutation]
        inverse = [permutation.index(axis) + 1 for axis in (1, 2, 3)]
        return sequence.unflatten(1, sizes).permute(0, *inverse, 4)

    def _permutation(self, layer: int) -> list[int]:
        order = self.orders[layer % len(self.orders)]
        return [_AXES.index(axis) + 1 for axis in order]

    def __repr__(self) -> str:
        """Name the class and its orders."""
        return f"{type(self).__name__}({', '.join(self.orders)})"


class Raster(AxisScan):
    """Frame after frame, row after row, in every layer."""

    def __init__(self) -> None:
        """The order `thw` everywhere."""
        super().__init__(("thw",))


class RotaryMajor(AxisScan):
    """LinGen's rotary-major scan: spatial-row, temporal-row, spatial-column, temporal-column major, layer by layer.

    The paper's body names four alternating schedules; which axis is the slowest in each is our reading. With the
    default, face-adjacent tokens are as close after k layers as under a continuous zigzag (supplement, Fig. 1).

    Args:
        orders: The schedule, one order per layer, cycled.
    """

    def __init__(self, orders: Sequence[str] = ("thw", "hwt", "twh", "wht")) -> None:
        """The four orders, cycled over the layers."""
        super().__init__(orders)
