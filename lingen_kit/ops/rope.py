"""Rotary position embedding on a (time, height, width) grid.

Source: Su et al. 2021, "RoFormer" (arXiv 2104.09864), section 3.2.2: two neighboring channels are a point in the
plane, turned by an angle that grows with the token's position, so that the product of a query and a key depends on
the difference of their positions only. On a grid each axis turns channels of its own, split as in Wan
(arXiv 2503.20314, `wan/modules/model.py`): of P channels `2 (P // 6)` each for height and width, the rest for time.
That is 44, 42, 42 of 128 and 24, 20, 20 of 64; HunyuanVideo splits its 128 into 16, 56, 56 with base 256 instead.

Letters: B batch, T H W the grid of tokens, A heads, P head dim.
"""

from functools import lru_cache

import torch
from torch import Tensor

Size3 = tuple[int, int, int]


def split_channels(head_dim: int) -> Size3:
    """Channels of a head that turn with time, height and width.

    Raises:
        ValueError: `head_dim` is odd, or too small to give each axis two channels.
    """
    if head_dim < 6 or head_dim % 2:
        raise ValueError(
            f"rotary embedding: head dim {head_dim} must be even and at least 6, two channels for each of time, "
            "height and width; choose a number of heads that makes it so"
        )
    spatial = 2 * (head_dim // 6)
    return head_dim - 2 * spatial, spatial, spatial


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # a table first made while validating must serve training too
def _table(
    grid: Size3, first_frame: int, head_dim: int, base: float, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every token's angles, each `(T, H, W, 1, P/2)`."""
    angles = []
    starts = (first_frame, 0, 0)
    for axis, (start, size, channels) in enumerate(zip(starts, grid, split_channels(head_dim), strict=True)):
        steps = torch.arange(0, channels, 2, dtype=torch.float64, device="cpu") / channels
        positions = torch.arange(start, start + size, dtype=torch.float64, device="cpu")
        turns = torch.outer(positions, base**-steps)  # (size, channels/2)
        shape = [1, 1, 1, channels // 2]
        shape[axis] = size
        angles.append(turns.view(shape).expand(*grid, -1))
    angle = torch.cat(angles, dim=-1).unsqueeze(3)
    return angle.cos().to(device, dtype), angle.sin().to(device, dtype)


def rope3d(x: Tensor, base: float = 10_000.0, first_frame: int = 0) -> Tensor:
    """Turn the queries or keys of a grid by their positions.

    Args:
        x: `(B, T, H, W, A, P)`; the sizes of the grid are read off it.
        base: Sets how slowly the slowest channels turn: pair i of an axis's n pairs turns by `base ** (-i / n)`
            radians a token.
        first_frame: Position of the first frame, where x is a part of a longer video.

    Returns:
        The same shape and dtype; turned in float32 at least.

    Raises:
        ValueError: P is odd or below 6.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    cos, sin = _table((x.shape[1], x.shape[2], x.shape[3]), first_frame, x.shape[-1], base, wide, x.device)
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)  # (B, T, H, W, A, P/2)
    turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return turned.flatten(-2).to(x.dtype)
