"""A small network that reads a clip of moving shapes: ShapeBench's second judge, trained where the first has formulas.

Objects of a scene have different colors, so an answer has one slot a color, and nothing needs to be matched. Features
are computed per frame and mixed over neighboring frames; each slot looks where its color is (a softmax over the places
of each frame), and reads its words off what it saw there, and where, in all frames.

Letters: B clips, T frames (8), H and W height and width (the shorter one 32), K colors (11), D features, P places
(H/4 * W/4).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lingen_kit.data.shapes_grammar import ACTIONS, BACKGROUNDS, COLORS, SHAPES, SIZES, canonical_color

__all__ = ["SLOT_COLORS", "Reading", "ShapeJudgeNetwork"]

SLOT_COLORS = tuple(dict.fromkeys(canonical_color(color) for color in COLORS))
"""The color of each slot."""

FRAMES, SIDE = 8, 32
_FIRST, _LAST = (0, 0, 0, 0, 0, 0, 1, 0), (0, 0, 0, 0, 0, 0, 0, 1)  # a frame of zeros before, or after
_SHARPEST = 4.0  # standard deviations of attention logits count this many times: places are told apart from the start


class Reading(NamedTuple):
    """What the network says of clips, as logits but for the positions.

    Attributes:
        present: `(B, K)`, whether there is an object of the color.
        shape: `(B, K, 5)`.
        action: `(B, K, 9)`.
        size: `(B, K, 2)`.
        positions: `(B, K, T, 2)` centers (x, y) as shares of the frame.
        background: `(B, 5)`.
    """

    present: Tensor
    shape: Tensor
    action: Tensor
    size: Tensor
    positions: Tensor
    background: Tensor


class ShapeJudgeNetwork(nn.Module):
    """Reads clips.

    Args:
        dim: Features D.
        depth: Blocks.
        hidden: Width of the layer that reads a slot's words.
    """

    def __init__(self, dim: int = 64, depth: int = 2, hidden: int = 256) -> None:
        super().__init__()
        if dim % 8:
            raise ValueError(f"ShapeJudgeNetwork: dim {dim} must be a multiple of 8, of which each frame sends two on")
        self.stem = nn.Sequential(nn.Conv2d(3, dim // 2, 4, 2, 1), nn.ReLU(), nn.Conv2d(dim // 2, dim, 4, 2, 1))
        self.blocks = nn.ModuleList(_Block(dim) for _ in range(depth))
        self.look = nn.Linear(dim, len(SLOT_COLORS))
        seen = FRAMES * (dim + 4)  # features, how strongly, and where: x, y and spread
        self.color = nn.Parameter(torch.zeros(len(SLOT_COLORS), hidden))
        self.read = nn.Sequential(nn.Linear(seen, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU())
        self.words = nn.Linear(hidden, 1 + len(SHAPES) + len(ACTIONS) + len(SIZES))
        self.background = nn.Linear(dim, len(BACKGROUNDS))

    def forward(self, video: Tensor) -> Reading:
        """Read clips.

        Args:
            video: `(B, 3, T', H', W')` in [-1, 1], of any length and size: 8 frames, evenly spaced, are looked at, at
                a short side of 32 pixels. The packaged weights were trained on 8 frames of squares: in other frames
                shapes keep their proportions, but of three objects in 36x64 only 79% of sizes are right, and of clips
                of 4 frames 91% of actions.
        """
        frames = _fitted(video)  # B T 3 H W
        count = len(frames)
        x = self.stem(frames.flatten(0, 1)).unflatten(0, (count, FRAMES))  # B T D H/4 W/4
        for block in self.blocks:
            x = block(x)
        features = x.flatten(3).transpose(2, 3)  # B T P D
        logits = self.look(features)  # B T P K
        attention = (_SHARPEST * logits).softmax(2)
        there = torch.einsum("btpk,btpd->bktd", attention, features)
        strength = logits.logsumexp(2).transpose(1, 2).unsqueeze(-1)  # B K T 1
        place = _places(x.shape[-2], x.shape[-1]).to(x)  # P 2
        positions = torch.einsum("btpk,pc->bktc", attention, place)
        squares = torch.einsum("btpk,pc->bktc", attention, place.square())
        spread = (squares - positions.square()).sum(-1, keepdim=True).clamp_min(0).add(1e-6).sqrt()
        seen = torch.cat([there, strength, positions - 0.5, spread], -1).flatten(2)  # B K T*(D+4)
        hidden = self.read[0](seen) + self.color
        words = self.words(self.read[1:](hidden))
        present, shape, action, size = words.split([1, len(SHAPES), len(ACTIONS), len(SIZES)], -1)
        background = self.background(features.flatten(1, 2).median(1).values)  # most places are background
        return Reading(present.squeeze(-1), shape, action, size, positions, background)


class _Block(nn.Module):
    """Mixes neighboring places and frames: convolutions over space, with channels that come from the frames beside.

    The shift over time (Lin et al., TSM, arXiv 1811.08383) costs nothing.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, dim)
        self.mix = nn.Conv2d(dim, dim, 3, padding=1)
        self.out = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, D, H, W)` -> the same."""
        count, dim = len(x), x.shape[2]
        y = self.norm(x.flatten(0, 1)).unflatten(0, (count, FRAMES))
        later, earlier, same = y.split([dim // 4, dim // 4, dim // 2], 2)
        y = torch.cat([F.pad(later[:, :-1], _FIRST), F.pad(earlier[:, 1:], _LAST), same], 2)
        y = self.out(F.relu(self.mix(y.flatten(0, 1))))
        return x + y.unflatten(0, (count, FRAMES))


def _fitted(video: Tensor) -> Tensor:
    """8 frames, `(B, T, 3, H, W)`: the first, the last and evenly spaced ones between, their short side 32 pixels.

    The long side is the multiple of 4, the stride of places, that keeps proportions best: a squashed circle is no
    circle, and the size of objects is relative to the short side.
    """
    chosen = torch.linspace(0, video.shape[2] - 1, FRAMES).round().long()
    frames = video[:, :, chosen].transpose(1, 2)
    short = min(frames.shape[-2:])
    size = [max(SIDE, 4 * round(extent * SIDE / short / 4)) for extent in frames.shape[-2:]]
    if list(frames.shape[-2:]) == size:
        return frames
    flat = F.interpolate(frames.flatten(0, 1), size, mode="bilinear", antialias=True, align_corners=False)
    return flat.unflatten(0, frames.shape[:2])


def _places(height: int, width: int) -> Tensor:
    """Centers (x, y) of places as shares of the frame, `(P, 2)`."""
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return torch.stack([x, y], -1).flatten(0, 1)
