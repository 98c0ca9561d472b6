"""Overlapping tiles of a line: each place belongs to the core of one tile, which sees a margin beyond its core."""

from typing import NamedTuple


class Tile(NamedTuple):
    """One tile, in cells of the line.

    Attributes:
        seen: What the tile reads.
        core: What is kept of its result.
    """

    seen: slice
    core: slice

    def core_of_seen(self, scale: int = 1) -> slice:
        """Where the core is within what the tile sees, in a result of `scale` places a cell."""
        start = self.core.start - self.seen.start
        return slice(start * scale, (start + self.core.stop - self.core.start) * scale)

    def core_scaled(self, scale: int) -> slice:
        """The core in places, `scale` a cell."""
        return slice(self.core.start * scale, self.core.stop * scale)

    def seen_scaled(self, scale: int) -> slice:
        """What the tile reads in places, `scale` a cell."""
        return slice(self.seen.start * scale, self.seen.stop * scale)


def tiles(length: int, size: int | None, margin: int) -> list[Tile]:
    """Cover `length` cells with tiles of at most `size` cells that see `margin` cells beyond their core.

    Args:
        length: Cells of the line.
        size: Cells that a tile sees at most, margins included, above twice the margin; one tile if None.
        margin: Cells on either side of a core, less at the ends of the line.
    """
    if size is None or length <= size:
        return [Tile(slice(0, length), slice(0, length))]
    result = []
    start = 0
    while start < length:
        # At the ends of the line there is no margin to see: the core is larger there.
        stop = length if length - start + min(start, margin) <= size else start - min(start, margin) + size - margin
        result.append(Tile(slice(max(0, start - margin), min(length, stop + margin)), slice(start, stop)))
        start = stop
    return result
