"""Hilbert's space-filling curve on a grid of any size: tokens that are near in the sequence are near in the video.

Other boxes than power-of-two cubes are not cut out of an enclosing cube, where the curve would jump. The generalized
construction of J. Červený (github.com/jakubcerveny/gilbert) halves any box into parts whose curves join end to end,
each a smaller box in another orientation:

- a box longer than the rest along its main axis: two parts, one after the other;
- a box flat in one axis: three parts, as in two dimensions (up, along, down);
- any other box: five parts, which halve into the eight octants of the 3D curve.

Halves are even where they can be. So every step goes to a face neighbor if all sides are even or 1; odd sides cost some
diagonal steps, which change two coordinates by one. On cubes of a power of two this is a Hilbert curve: it leaves no
aligned subcube before having visited all of it. An axis of size 1 takes no part: one frame gets the 2D curve.

Letters: T frames, H rows, W columns (in tokens), N = T*H*W; a b c the sides of a box in its own frame, main axis first.
"""

import math

import torch
from torch import Tensor

from lingen_kit.scans.base import Grid
from lingen_kit.scans.index import IndexScan
from lingen_kit.scans.orders import OrderedScan

Sides = tuple[int, int, int]


class Hilbert(OrderedScan, IndexScan):
    """A generalized 3D Hilbert curve in boxes of any size, elongated ones included.

    It starts in the first token of the first frame and ends at the other end of the first axis of the order.

    Args:
        orders: One order per layer, cycled: the axes from the curve's main direction to its last. All six permutations
            of `t`, `h`, `w` are valid.
    """

    def permutation(self, grid: Grid, phase: int) -> Tensor:
        """Lay the curve over the raster."""
        order = self.axes(phase)
        long = [axis for axis in order if grid[axis] != 1]
        axes = [*long, *(axis for axis in order if axis not in long)]  # axes of size 1 go to the end
        raster = torch.arange(math.prod(grid)).view(grid).permute(axes)
        a, b, c = raster.shape
        return raster[tuple(hilbert_curve((a, b, c)))]


def hilbert_curve(sides: Sides) -> Tensor:
    """Coordinates along a curve through a box.

    Args:
        sides: Sizes of the box. The first, the main axis, is 1 only if all are.

    Returns:
        `(3, N)` int32, from `(0, 0, 0)` to `(a - 1, 0, 0)`, or as near to it as parity allows.
    """
    return _curve(sides, {})


def _curve(sides: Sides, known: dict[Sides, Tensor]) -> Tensor:
    """Make a curve, or look it up: a box has thousands of parts, but few sizes of them."""
    if sides in known:
        return known[sides]
    if sides.count(1) >= 2:  # a line
        curve = torch.zeros(3, max(sides), dtype=torch.int32)
        curve[sides.index(max(sides))] = torch.arange(max(sides), dtype=torch.int32)
    else:
        curve = torch.cat([_place(_curve(part, known), axes, start) for part, axes, start in _parts(*sides)], dim=1)
    known[sides] = curve
    return curve


def _parts(a: int, b: int, c: int) -> list[tuple[Sides, str, Sides]]:
    """Cut a box into parts, in their order along the curve.

    Returns:
        For each part its sides, the axes of the box along which they lie (a capital one backwards), and where in the
        box its curve starts.
    """
    i, j, k = _half(a), _half(b), _half(c)
    if 2 * a > 3 * max(b, c):  # long
        return [((i, b, c), "abc", (0, 0, 0)), ((a - i, b, c), "abc", (i, 0, 0))]
    if 3 * b > 4 * c:  # flat in c
        return [
            ((j, c, i), "bca", (0, 0, 0)),
            ((a, b - j, c), "abc", (0, j, 0)),
            ((j, c, a - i), "BcA", (a - 1, j - 1, 0)),
        ]
    if 3 * c > 4 * b:  # flat in b
        return [
            ((k, i, b), "cab", (0, 0, 0)),
            ((a, b, c - k), "abc", (0, 0, k)),
            ((k, a - i, b), "CAb", (a - 1, 0, k - 1)),
        ]
    return [
        ((j, k, i), "bca", (0, 0, 0)),
        ((c, i, b - j), "cab", (0, j, 0)),
        ((a, j, c - k), "aBC", (0, j - 1, c - 1)),
        ((c, a - i, b - j), "CAb", (a - 1, j, c - 1)),
        ((j, k, a - i), "BcA", (a - 1, j - 1, 0)),
    ]


def _place(curve: Tensor, axes: str, start: Sides) -> Tensor:
    """Move the curve of a part `(3, n)` into the box."""
    placed = torch.empty_like(curve)
    for x, letter in zip(curve, axes, strict=True):
        axis = "abc".index(letter.lower())
        placed[axis] = start[axis] + (x if letter.islower() else -x)
    return placed


def _half(size: int) -> int:
    """Half of a side, made even: parity is what lets the parts join."""
    half = size // 2
    return half + 1 if half % 2 and size > 2 else half
