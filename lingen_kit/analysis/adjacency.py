"""How far adjacent tokens stand apart in the sequence: d_k of LinGen's supplement, Sec. A and Fig. 1.

A mixer that reads a sequence forgets with the distance. If the scan changes from layer to layer, what counts is the
layer in which two tokens are nearest:

    d_k = mean over adjacent tokens i, j of  min over layers l < k of |p_l(i) - p_l(j)|

where p_l is the place in the sequence of layer l. The supplement calls tokens adjacent "in a 2x2x2 cube", which leaves
two readings. Of face-adjacent pairs, d_4 on 32x32x32 is 1.00 for the rotary-major scan and for the continuous zigzag
alike, which is what the supplement says. Of all 28 pairs of each cube, a pair counting once for every cube that it
is in, it is 158.07 and 82.22.

Letters: T frames, H rows, W columns (in tokens), N = T*H*W.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lingen_kit.scans import Grid, Scan
from lingen_kit.scans.base import invert

Pairs = Literal["face", "cube"]
"""Face-adjacent pairs, or all pairs of each 2x2x2 cube (1x2x2 on a single frame, and so on)."""


def mean_distances(scan: Scan, grid: Grid, layers: Sequence[int], pairs: Pairs = "face") -> list[float]:
    """Mean over adjacent tokens of their smallest distance in the sequence within the first k layers.

    Time and memory are linear in the tokens.

    Args:
        scan: The order of the tokens in each layer.
        grid: Tokens along time, height and width.
        layers: The numbers of layers k.
        pairs: Which tokens are adjacent.

    Returns:
        d_k for each of `layers`.

    Raises:
        ValueError: If the grid has no adjacent tokens, or a number of layers is below 1.
    """
    if not layers or min(layers) < 1:
        raise ValueError(f"layers {list(layers)} must be numbers of layers of at least 1, such as 1 2 4")
    offsets = _offsets(grid, pairs)
    if not offsets:
        raise ValueError(f"grid {tuple(grid)} has no adjacent tokens")
    weights = [[_weights(size, step, pairs) for size, step in zip(grid, offset, strict=True)] for offset in offsets]
    total = sum(math.prod(w.sum().item() for w in axes) for axes in weights)

    nearest: list[Tensor] = []  # of each offset, the smallest distances so far
    means: dict[int, float] = {}
    for k in range(1, max(layers) + 1):
        place = places(scan, grid, k - 1)
        distances = [(place[_shift(offset, 1)] - place[_shift(offset, -1)]).abs_() for offset in offsets]
        nearest = [torch.minimum(*both) for both in zip(nearest, distances, strict=True)] if nearest else distances
        if k in layers:
            sums = [torch.einsum("thw,t,h,w->", d.double(), *w) for d, w in zip(nearest, weights, strict=True)]
            means[k] = torch.stack(sums).sum().item() / total
    return [means[k] for k in layers]


def places(scan: Scan, grid: Grid, layer: int) -> Tensor:
    """The place of each token in the sequence of a layer: `(T, H, W)` int64."""
    whose = f"{type(scan).__name__}.index({tuple(grid)}, layer={layer})"
    return invert(scan.index(grid, layer), math.prod(grid), whose).view(grid)


def _offsets(grid: Grid, pairs: Pairs) -> list[tuple[int, ...]]:
    """Steps (t, h, w) from a token to those adjacent to it that come later in the raster."""
    steps = itertools.product(*((-1, 0, 1) if size > 1 else (0,) for size in grid))
    later = [step for step in steps if step > (0, 0, 0)]
    return later if pairs == "cube" else [step for step in later if sum(map(abs, step)) == 1]


def _shift(offset: tuple[int, ...], direction: int) -> tuple[slice, ...]:
    """The part of the grid that `offset` leads out of (direction 1) or into (direction -1)."""
    ends = {0: slice(None), 1: slice(None, -1), -1: slice(1, None)}
    return tuple(ends[direction * step] for step in offset)


def _weights(size: int, step: int, pairs: Pairs) -> Tensor:
    """How often the pairs along an axis count: by the cubes that hold them, a product over the axes; or once."""
    weights = torch.ones(size - abs(step), dtype=torch.float64)
    if pairs == "cube" and step == 0:
        weights[1:-1] = 2  # inside the grid a cube ends and another begins
    return weights
