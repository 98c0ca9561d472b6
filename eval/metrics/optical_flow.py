"""Dense optical flow without a network: coarse to fine, windows solved by least squares, seen from half-way.

Lucas and Kanade's windows with Horn and Schunck's smoothness (Bruhn, Weickert, Schnoerr, Lucas/Kanade meets
Horn/Schunck, IJCV 2005) in a pyramid: windows with texture follow it, flat ones their neighbors. The displacement is
measured at the time half-way between the two frames, `after(x + flow/2) = before(x - flow/2)`. So neither frame comes
first, the flow of the two in reverse is the negative, and a frame between them needs no further flow. Frames are first
reduced to their brightness at a short side of at most 128 and normalized against their surroundings, so that flicker
of the light is no motion.

Letters: N images, C channels, H height, W width of a frame, h height, w width of a reduced frame or of a level of its
pyramid.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["SHORT_SIDE", "View", "flow_between", "reduced", "sampled", "view"]

Frame = NDArray[np.uint8]

SHORT_SIDE = 128
_LUMA = (0.299, 0.587, 0.114)
_COARSEST = 12  # short side at which the pyramid ends, at least
_SURROUNDINGS = 4.0  # standard deviation, in pixels, of what brightness and contrast are normalized against
_FAINT = 9.0  # contrast in gray levels below which it is hardly raised: noise in flat areas stays faint
_WINDOW = 3.0  # standard deviation of the windows, in pixels
_ROUNDS = 3  # of warping and least squares a level
_SWEEPS = 3  # of smoothing a round
_STIFF = 0.03  # weight of the smoothness, in squared normalized contrast a pixel
_SPREAD = 5.0  # standard deviation, in pixels, of the neighborhood that the smoothness asks
_STEP = 1.0  # most pixels that one round changes a half displacement

View = list[Tensor]
"""A frame as the flow sees it: from fine to coarse `(1, 3, h, w)`, normalized brightness and its two slopes."""


def reduced(frame: Frame) -> Tensor:
    """Brightness `(h, w)` of a frame `(H, W, 3)` in gray levels, averaged down to a short side of at most 128."""
    luma = torch.from_numpy(np.ascontiguousarray(frame)).float() @ torch.tensor(_LUMA)  # (H, W)
    scale = min(1.0, SHORT_SIDE / min(luma.shape))
    size = [round(side * scale) for side in luma.shape]
    return F.interpolate(luma[None, None], size, mode="area")[0, 0]


def view(frame: Frame) -> View:
    """A frame `(H, W, 3)` as `flow_between` takes it."""
    image = reduced(frame)[None, None]
    levels = []
    while True:
        deviation = image - _blurred(image, _SURROUNDINGS)
        level = deviation / (_blurred(deviation.square(), _SURROUNDINGS) + _FAINT**2).sqrt()
        wide = F.pad(level, (1, 1, 1, 1), mode="replicate")
        across = (wide[:, :, 1:-1, 2:] - wide[:, :, 1:-1, :-2]) / 2
        down = (wide[:, :, 2:, 1:-1] - wide[:, :, :-2, 1:-1]) / 2
        levels.append(torch.cat((level, across, down), 1))
        if min(image.shape[2:]) < 2 * _COARSEST:
            return levels
        image = F.interpolate(image, _half(image.shape[2:]), mode="bilinear", antialias=True)


def flow_between(before: View, after: View) -> Tensor:
    """How far each point moves from one frame to the next, by where it is half-way between them.

    Args:
        before: The earlier frame.
        after: The later frame, of the same size.

    Returns:
        `(2, h, w)`: pixels of the reduced frame to the right and down.

    Raises:
        ValueError: If the sizes differ.
    """
    if before[0].shape != after[0].shape:
        raise ValueError(f"flow is between frames of one size, got {(*before[0].shape,)} and {(*after[0].shape,)}")
    half = torch.zeros_like(before[-1][:, :2])  # (1, 2, h, w)
    height, width = before[-1].shape[2:]
    for early, late in zip(reversed(before), reversed(after), strict=True):
        size = early.shape[2:]
        ratio = torch.tensor([size[1] / width, size[0] / height]).view(2, 1, 1)
        half = _refined(early, late, F.interpolate(half, _half(size), mode="bilinear") * ratio)
        height, width = size
    return 2 * F.interpolate(half, (height, width), mode="bilinear")[0]


def sampled(images: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Images at displaced places, by bilinear interpolation.

    Args:
        images: `(N, C, h, w)`.
        flow: `(N, 2, h, w)`: pixels to the right and down of each place.

    Returns:
        `(N, C, h, w)` with the border carried on outside, and `(N, 1, h, w)`: 1 where the place lies inside, else 0.
    """
    height, width = images.shape[2:]
    x = flow[:, 0] + torch.arange(float(width))
    y = flow[:, 1] + torch.arange(float(height))[:, None]
    grid = torch.stack((x * (2 / max(1, width - 1)) - 1, y * (2 / max(1, height - 1)) - 1), -1)  # (N, h, w, 2)
    inside = (grid.abs().amax(-1) <= 1 + 1e-5)[:, None].to(images.dtype)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True), inside


def _refined(before: Tensor, after: Tensor, half: Tensor) -> Tensor:
    """Half displacements after some rounds at one level.

    Args:
        before: `(1, 3, h, w)`.
        after: `(1, 3, h, w)`.
        half: `(1, 2, h/2, w/2)`, in pixels of the level. Sums over windows are smooth: half the size holds them.
    """
    for _ in range(_ROUNDS):
        way = F.interpolate(half, before.shape[2:], mode="bilinear")
        (early, inside), (late, inside_too) = sampled(before, -way), sampled(after, way)
        change = (late - early)[:, :1]
        slopes = (late + early)[:, 1:] * (inside * inside_too)
        products = torch.cat((slopes.square(), slopes[:, :1] * slopes[:, 1:], slopes * change), 1)
        sums = _blurred(F.interpolate(products, half.shape[2:], mode="area"), _WINDOW / 2)
        xx, yy, xy, xc, yc = sums.split(1, 1)
        x, y = half.split(1, 1)
        # The window's best displacement solves (xx xy; xy yy) new = (right, down); smoothness pulls to the neighbors.
        right, down = xx * x + xy * y - xc, xy * x + yy * y - yc
        xx, yy = xx + _STIFF, yy + _STIFF
        scale = 1 / (xx * yy - xy * xy)
        new = half
        for _ in range(_SWEEPS):
            pull = _STIFF * _blurred(new, _SPREAD / 2)
            a, b = right + pull[:, :1], down + pull[:, 1:]
            new = torch.cat((yy * a - xy * b, xx * b - xy * a), 1) * scale
        half = half + (new - half).clamp(-_STEP, _STEP)
    return _median(half)


def _half(size: Sequence[int]) -> list[int]:
    """Half of each side, rounded up."""
    return [math.ceil(side / 2) for side in size]


def _median(flow: Tensor) -> Tensor:
    """Median over 3 x 3 pixels: single wrong displacements vanish, edges of motion stay."""
    wide = F.pad(flow, (1, 1, 1, 1), mode="replicate")
    height, width = flow.shape[2:]
    low, middle, high = [], [], []
    for y in range(3):
        a, b, c = (wide[:, :, y : y + height, x : x + width] for x in range(3))
        least, most = torch.minimum(a, b), torch.maximum(a, b)
        low.append(torch.minimum(least, c))
        high.append(torch.maximum(most, c))
        middle.append(torch.maximum(least, torch.minimum(most, c)))
    # Of nine numbers in sorted rows of three, the median is that of the greatest low, middle middle, least high one.
    greatest = torch.maximum(torch.maximum(low[0], low[1]), low[2])
    least = torch.minimum(torch.minimum(high[0], high[1]), high[2])
    return _middle(greatest, _middle(*middle), least)


def _middle(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Median of three."""
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))


def _blurred(images: Tensor, sigma: float) -> Tensor:
    """Mean around each pixel of `(N, C, h, w)` by a normal distribution, over those within the frame."""
    height, width = images.shape[2:]
    return _bell(height, sigma) @ (images @ _bell(width, sigma).T)


@functools.cache
def _bell(length: int, sigma: float) -> Tensor:
    """The blur of a line as a matrix `(length, length)`: at these lengths the fastest way to do it."""
    place = torch.arange(float(length))
    weights = torch.exp(-0.5 * ((place[:, None] - place) / sigma) ** 2)
    return weights / weights.sum(1, keepdim=True)
