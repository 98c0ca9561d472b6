"""Scans given by a permutation: tokens are gathered by an index, and put back by its inverse.

The gather is a lookup of rows, which torch does fastest as an embedding. The derivative of a permutation is the
inverse permutation, so the backward pass is such a lookup too, where autograd, which knows no permutations, would
scatter and add.

Index tensors are kept outside the scans, in one cache for all: layers and copies of a model share them, a checkpoint
does not carry them, and copying or pickling a scan costs nothing.

Letters: B batch, T frames, H rows, W columns (in tokens), D channels, N = T*H*W.
"""

from abc import abstractmethod
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lingen_kit.scans.base import Grid, Scan, check_fit, check_grid, invert


class IndexScan(Scan):
    """A scan whose orders are permutations of the raster.

    A subclass keeps its options in hashable attributes: two scans of one class with equal options are equal.
    """

    @property
    @abstractmethod
    def period(self) -> int:
        """Layers after which the orders repeat."""

    @abstractmethod
    def permutation(self, grid: Grid, phase: int) -> Tensor:
        """The order of the layers with `layer % period == phase`: what `index` returns.

        Called once for each grid, phase and device; the grid has no empty side.
        """

    def index(self, grid: Grid, layer: int) -> Tensor:
        """The raster position of each element of the sequence: a permutation of `range(N)`, `(N,)` int64 on the CPU."""
        return _index_and_inverse(self, (grid[0], grid[1], grid[2]), layer % self.period, torch.device("cpu"))[
            0
        ].clone()

    def flatten(self, x: Tensor, layer: int) -> Tensor:
        """Gather the tokens: `(B, T, H, W, D)` -> `(B, N, D)`."""
        grid: Grid = (x.shape[1], x.shape[2], x.shape[3])
        index, inverse = _index_and_inverse(self, grid, layer % self.period, x.device)
        return _Permute.apply(x.flatten(1, 3), index, inverse)

    def unflatten(self, sequence: Tensor, grid: Grid, layer: int) -> Tensor:
        """Undo `flatten`: `(B, N, D)` -> `(B, T, H, W, D)`."""
        check_fit(sequence, grid)
        index, inverse = _index_and_inverse(self, (grid[0], grid[1], grid[2]), layer % self.period, sequence.device)
        return _Permute.apply(sequence, inverse, index).unflatten(1, grid)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        try:
            return hash((type(self), *sorted(vars(self).items())))
        except TypeError as error:
            raise ValueError(
                f"{type(self).__name__} keeps {vars(self)}: index tables are looked up by the attributes of a scan, so "
                "each must be hashable; keep a list as a tuple"
            ) from error


def _index_and_inverse(scan: IndexScan, grid: Grid, phase: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The permutation of a scan and its inverse, each `(N,)`."""
    return _make(scan, grid, phase, device)


# A compiled model holds the tensors, and does not trace how they are made. This is all that
# `torch.compiler.assume_constant_result` does, after importing the compiler, which takes longer than importing torch.
_index_and_inverse._dynamo_marked_constant = True  # type: ignore[attr-defined]


# 128 pairs: a dozen orders on the grids of ten buckets. At 512p, 68 s a pair takes 2 MB.
@lru_cache(maxsize=128)
@torch.inference_mode(False)  # an index first made while validating must serve training too
def _make(scan: IndexScan, grid: Grid, phase: int, device: torch.device) -> tuple[Tensor, Tensor]:
    check_grid(grid)
    with torch.device("cpu"):  # whatever the default is: building a model on the meta device must leave no trace here
        index = scan.permutation(grid, phase)
        whose = f"{type(scan).__name__}.permutation({tuple(grid)}, phase={phase})"
        inverse = invert(index, grid[0] * grid[1] * grid[2], whose)
    return index.to(device), inverse.to(device)


class _Permute(torch.autograd.Function):
    """Reorder the tokens of `(B, N, D)` by an index whose inverse is known."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(index, inverse)
        rows = torch.arange(x.shape[0], device=x.device)[:, None] * x.shape[1] + index  # (B, N)
        return F.embedding(rows, x.reshape(-1, x.shape[2]))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        index, inverse = ctx.saved_tensors
        return _Permute.apply(gradient, inverse, index), None, None
