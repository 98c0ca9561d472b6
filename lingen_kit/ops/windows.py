"""Windows of a (T, H, W) grid, packed one after another: the order of tokens in which windowed attention is plain.

Shifted as in Swin (arXiv 2103.14030) and Video Swin (arXiv 2106.13230), but nothing is rolled, padded or masked:
along an axis the windows are at most three runs of equal ones (a short first one, the full ones, a short last one),
so a grid is at most 27 boxes, and in each all windows have one shape. Packing is a permutation of the tokens that
puts windows with equally many of them side by side; each such group is one batch of ordinary sequences.

Letters: B batch, T H W the grid of tokens, M = B*T*H*W packed tokens, D channels, w windows of a group, n tokens of
each of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

Size3 = tuple[int, int, int]


class Run(NamedTuple):
    """Neighboring windows of one size along an axis: where the first starts, how long each is, how many there are."""

    start: int
    size: int
    repeats: int


def axis_windows(length: int, window: int, shift: int) -> list[Run]:
    """Cut an axis into windows: position i belongs to window `floor((i - shift) / window)`.

    Args:
        length: Positions of the axis.
        window: Positions of a full window. An axis no longer than that is one window, whatever the shift.
        shift: Offset of the first border, in `range(window)`.

    Returns:
        At most three runs, in order.
    """
    if length <= window:
        return [Run(0, length, 1)]
    full, rest = divmod(length - shift, window)
    runs = [Run(0, shift, 1), Run(shift, window, full), Run(length - rest, rest, 1)]
    return [run for run in runs if run.size and run.repeats]


def check_window(window: Size3, shift: Size3 = (0, 0, 0)) -> None:
    """Refuse windows that hold nothing, and shifts by a whole window or more.

    Raises:
        ValueError: A window size is below 1, or a shift is not in `range(window)`.
    """
    if len(window) != 3 or min(window) < 1:
        raise ValueError(f"window {window} must be three sizes of at least 1 (time, height, width)")
    if len(shift) != 3 or not all(0 <= s < w for s, w in zip(shift, window, strict=True)):
        raise ValueError(
            f"shift {shift} must be three offsets, each at least 0 and below its size of the window {window}; "
            "a shift by a whole window is none: take the remainder"
        )


class _Permute(torch.autograd.Function):
    """`x[order]` along the first dimension; its gradient is one more gather rather than a scatter of sums."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors
        return _Permute.apply(gradient, inverse, order), None, None


def reorder(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """`x[order]` along the first dimension, for a permutation whose inverse is known."""
    reordered: Tensor = _Permute.apply(x, order, inverse)
    return reordered


@dataclass(frozen=True)
class Windows:
    """The tokens of a batch of grids, window after window. Made by `cut_windows`.

    Attributes:
        shape: B, T, H, W.
        order: Raster position in the batch of each packed token, `(M,)`, int32.
        inverse: Packed position of each token of the batch, `(M,)`, int32.
        groups: (w, n) of each group, in the order in which they are packed.
    """

    shape: tuple[int, int, int, int]
    order: Tensor
    inverse: Tensor
    groups: tuple[tuple[int, int], ...]

    def pack(self, x: Tensor) -> Tensor:
        """Read tokens on their grid, `(B, T, H, W, ...)`, window after window: `(M, ...)`."""
        return reorder(x.flatten(0, 3), self.order, self.inverse)

    def unpack(self, packed: Tensor) -> Tensor:
        """Put packed tokens `(M, ...)` back on their grid: `(B, T, H, W, ...)`."""
        return reorder(packed, self.inverse, self.order).unflatten(0, self.shape)

    def blocks(self, at_most: int) -> list[list[tuple[int, int]]]:
        """Cut the packed tokens into blocks of whole windows: the (w, n) of each block's parts.

        Args:
            at_most: Tokens of a block, or one window if that is more.
        """
        blocks: list[list[tuple[int, int]]] = [[]]
        room = at_most
        for count, length in self.groups:
            while count:
                taken = min(count, max(0, room) // length)
                if not taken and blocks[-1]:
                    blocks.append([])
                    room = at_most
                    continue
                taken = max(1, taken)
                blocks[-1].append((taken, length))
                count, room = count - taken, room - taken * length
        return blocks


def split_windows(packed: Tensor, groups: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Views of packed tokens, `(w, n, ...)` for each (w, n) of `groups`, which together are all of them."""
    if len(groups) == 1:  # the gradient of a split into one part would be a copy
        return [packed.unflatten(0, groups[0])]
    parts = packed.split([w * n for w, n in groups])
    return [part.unflatten(0, group) for part, group in zip(parts, groups, strict=True)]


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # an order first made while validating must serve training too
def cut_windows(shape: tuple[int, int, int, int], window: Size3, shift: Size3, device: torch.device) -> Windows:
    """Cut the grids of a batch into windows.

    Args:
        shape: B, T, H, W.
        window: Tokens of a window along T, H, W, as `axis_windows` takes them.
        shift: Offset of the first window border along T, H, W.
        device: Where the tokens lie.

    Returns:
        The order in which to pack the tokens; 8 bytes a token, kept for the last 32 batches that differ.

    Raises:
        ValueError: A size of the batch or its grid is zero, or the window or shift does not fit.
    """
    if min(shape) < 1:
        raise ValueError(f"a batch of grids (batch, time, height, width) = {shape} must have at least 1 of each")
    check_window(window, shift)
    positions = torch.arange(math.prod(shape), device="cpu").view(shape)
    by_length: dict[int, list[Tensor]] = {}
    for t, h, w in product(*map(axis_windows, shape[1:], window, shift)):
        box = positions
        for axis, run in enumerate((t, h, w), start=1):
            box = box.narrow(axis, run.start, run.size * run.repeats)
        box = box.reshape(shape[0], t.repeats, t.size, h.repeats, h.size, w.repeats, w.size)
        box = box.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, t.size * h.size * w.size)  # windows of the box, n
        by_length.setdefault(box.shape[1], []).append(box)
    packed = [torch.cat(boxes) for _, boxes in sorted(by_length.items(), reverse=True)]
    order = torch.cat([group.flatten() for group in packed])
    groups = tuple((group.shape[0], group.shape[1]) for group in packed)
    return Windows(shape, order.int().to(device), order.argsort().int().to(device), groups)
