"""Orders of the three axes, one per layer: what scans that rotate their axes share."""

from collections.abc import Sequence

from lingen_kit.scans.base import Scan

AXES = "thw"

ROTARY = ("thw", "hwt", "twh", "wht")
"""LinGen's schedule: spatial-row, temporal-row, spatial-column, temporal-column major (our reading of the paper)."""


class OrderedScan(Scan):
    """A scan whose axes change places from layer to layer.

    Args:
        orders: One order per layer, cycled: the axes from slowest to fastest, such as `thw` for frame after
            frame, row after row. All six permutations of `t`, `h`, `w` are valid.
    """

    def __init__(self, orders: Sequence[str] = ROTARY) -> None:
        """Check the orders; nothing is computed until a tensor comes."""
        for order in orders:
            if sorted(order) != sorted(AXES):
                raise ValueError(f"scan order {order!r} is not a permutation of 'thw' (such as 'thw' or 'hwt')")
        if not orders:
            raise ValueError("a scan needs at least one order, such as ['thw']")
        self.orders = tuple(orders)

    @property
    def period(self) -> int:
        """Layers after which the orders repeat."""
        return len(self.orders)

    def axes(self, layer: int) -> tuple[int, int, int]:
        """The axes of the grid (0 time, 1 height, 2 width) from slowest to fastest in this layer."""
        slow, middle, fast = (AXES.index(axis) for axis in self.orders[layer % self.period])
        return slow, middle, fast
