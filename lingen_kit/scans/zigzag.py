"""ZigMa's zigzag scan (arXiv 2403.13802) and the discontinuous sweep it is compared with.

A frame has eight schemes: from each of four corners, row after row or column after column. The zigzag turns back at
the end of each line, so that within a frame every step goes to a neighbor; the sweep starts every line at the same
side. Four of the sweep's eight are the cross scan of VMamba (arXiv 2401.10166).

A video has spatial and temporal layers ("factorized 3D" in Sec. 3.3 of ZigMa), in the pattern `sst`:

- A spatial layer reads frame after frame, t = 0 first, each along the same scheme, which starts again at its corner in
  each frame. The schemes take turns over the spatial layers.
- A temporal layer reads pixel after pixel, each through all of its frames: forward in the first temporal layer,
  backward in the second, and so on. The pixels follow the scheme of the next spatial layer; so on a grid of a single
  frame temporal layers are spatial ones.

ZigMa makes each frame, or each pixel, a sequence of its own, whose state starts from nothing; there the order of the
pixels does not matter. A scan orders one sequence: here the state goes on from frame to frame and from pixel to pixel.

Letters: T frames, H rows, W columns (in tokens), N = T*H*W.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from lingen_kit.scans.base import Grid
from lingen_kit.scans.index import IndexScan

# (from the bottom, from the right, columns instead of rows), in ZigMa's order
_SCHEMES = [(bottom, right, column) for bottom in (False, True) for right in (False, True) for column in (False, True)]


class _FactorizedScan(IndexScan):
    turns_back: ClassVar[bool]

    def __init__(self, pattern: str = "sst", schemes: int = 8) -> None:
        if not pattern or set(pattern) - set("st"):
            raise ValueError(f"pattern {pattern!r} must be made of 's' (spatial) and 't' (temporal), such as 'sst'")
        if not 1 <= schemes <= len(_SCHEMES):
            raise ValueError(f"schemes {schemes} must be between 1 and {len(_SCHEMES)}")
        self.pattern, self.schemes = pattern, schemes

    @property
    def period(self) -> int:
        """Layers after which pattern, schemes and directions of time all repeat."""
        spatial, temporal = self.pattern.count("s"), self.pattern.count("t")
        repeats = math.lcm(self.schemes // math.gcd(self.schemes, spatial), 2 // math.gcd(2, temporal))
        return len(self.pattern) * repeats

    def permutation(self, grid: Grid, phase: int) -> Tensor:
        """Frames one after another, or pixels one after another."""
        frames, rows, columns = grid
        repeats, place = divmod(phase, len(self.pattern))
        before = self.pattern * repeats + self.pattern[:place]  # the layers under this one
        path = self._path(rows, columns, before.count("s") % self.schemes)  # (H*W,)
        starts = torch.arange(frames) * (rows * columns)  # (T,)
        if self.pattern[place] == "s":
            return (starts[:, None] + path).flatten()
        if before.count("t") % 2:
            starts = starts.flip(0)
        return (path[:, None] + starts).flatten()

    def _path(self, rows: int, columns: int, scheme: int) -> Tensor:
        """Positions within a frame in the order of a scheme: `(H*W,)`."""
        bottom, right, column = _SCHEMES[scheme]
        lines = torch.arange(rows * columns).view(rows, columns)
        lines = lines.flip([axis for axis, flipped in enumerate((bottom, right)) if flipped])
        if column:
            lines = lines.T
        if self.turns_back:
            lines = lines.clone()
            lines[1::2] = lines[1::2].flip(1)
        return lines.flatten()


class Zigzag(_FactorizedScan):
    """ZigMa's zigzag: lines that turn back at their ends, from each corner of the frame, by rows or by columns.

    Args:
        pattern: Which layers read along space (`s`) and which along time (`t`), cycled.
        schemes: How many of the eight schemes take turns, in ZigMa's order: by rows, then by columns from the top left,
            the top right, the bottom left, the bottom right.
    """

    turns_back = True


class Sweep(_FactorizedScan):
    """The raster from each corner of the frame, by rows or by columns: zigzag's twin whose lines do not turn back.

    Args:
        pattern: Which layers read along space (`s`) and which along time (`t`), cycled.
        schemes: How many of the eight schemes take turns, in ZigMa's order: by rows, then by columns from the top left,
            the top right, the bottom left, the bottom right.
    """

    turns_back = False
