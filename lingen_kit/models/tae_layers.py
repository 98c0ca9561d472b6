"""Layers of the temporal autoencoder, each of which takes a video whole or piece by piece with the same result.

As in Movie Gen's TAE (arXiv 2410.13720, 3.1.1), an image autoencoder is inflated: a 1D convolution over time follows
each 2D one over space, and starts as the identity. Only the convolutions over time look at other frames. Fed with
pieces, each of them keeps the last two frames that it has seen for the next piece: nothing is computed twice, no seam
is left, and what must be held does not grow with the length.

Norms are taken over the channels of each position (RMSNorm), never over space or time: so a piece of a video
is normalized as the whole is. Group norms, the usual choice, would make tiles differ from the whole.

Letters: B batch, C channels, T frames, H height, W width.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

Stream = Iterator[tuple[Tensor, bool]]
"""Consecutive pieces `(B, C, T, H, W)` of a video, each with whether it is the last."""


class StreamLayer(nn.Module, ABC):
    """A layer whose frames depend on other frames."""

    @abstractmethod
    def stream(self, pieces: Stream) -> Stream:
        """Frames out as soon as the frames that they need are in; one last piece in gives one last piece out."""

    def forward(self, x: Tensor) -> Tensor:
        """The whole video `(B, C, T, H, W)` as one piece."""
        return next(self.stream(iter([(x, True)])))[0]


def run_layers(layers: Iterable[nn.Module], pieces: Stream, at_once: int | None = None) -> Stream:
    """Lead pieces through layers one after the other, each of which handles at most `at_once` frames at once."""
    for layer in layers:
        pieces = layer.stream(pieces) if isinstance(layer, StreamLayer) else _each(layer, pieces)
        if at_once is not None:
            pieces = _cut(pieces, at_once)
    return pieces


# A generator keeps its variables while others work with what it has yielded, and dozens of them are chained. So each
# lets go of a piece before handing on what became of it.


def _each(layer: Callable[[Tensor], Tensor], pieces: Stream) -> Stream:
    for x, last in pieces:
        out = [layer(x)]
        del x
        yield out.pop(), last


def _cut(pieces: Stream, length: int) -> Stream:
    for x, last in pieces:
        parts = deque(x.split(length, dim=2))
        del x
        while parts:
            yield parts.popleft(), last and not parts


class SpatialConv(nn.Conv3d):
    """A 3x3 convolution of each frame, with zeros around it.

    Args:
        dim: Channels in.
        out_dim: Channels out.
        stride: 1, or 2 to halve height and width.
    """

    def __init__(self, dim: int, out_dim: int, stride: int = 1) -> None:
        """Build the weights."""
        super().__init__(dim, out_dim, (1, 3, 3), (1, stride, stride), (0, 1, 1))


class TemporalConv(StreamLayer):
    """A convolution of three frames over time; the first and last frames are repeated beyond the ends.

    It starts as the identity, or as as many copies of it as fit into the channels out.

    Args:
        dim: Channels in.
        out_dim: Channels out; a multiple of `dim`.
        stride: 1, or 2 to halve the frames, rounding up. A frame of the half then sees the two frames that it stands
            for and the one before them.
        causal: With stride 1, look at the frame and the two before instead of at one on either side.
    """

    def __init__(self, dim: int, out_dim: int | None = None, *, stride: int = 1, causal: bool = False) -> None:
        """Build the weights."""
        super().__init__()
        out_dim = out_dim or dim
        self.stride = stride
        self.before, self.after = (1, 0) if stride == 2 else (2, 0) if causal else (1, 1)
        weight = torch.zeros(out_dim, dim, 3)
        weight[:, :, self.before] = torch.eye(dim).repeat(out_dim // dim, 1)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(out_dim))

    def stream(self, pieces: Stream) -> Stream:
        """Frames `(B, C, T, H, W)` -> `(B, C', T or T / 2, H, W)`."""
        kept: Tensor | None = None
        for x, last in pieces:
            earlier = x[:, :, :1].expand(-1, -1, self.before, -1, -1) if kept is None else kept
            frames = earlier.shape[2] + x.shape[2]
            missing = self.after + (3 - frames - self.after) % self.stride if last else 0
            x = torch.cat([earlier, x, x[:, :, -1:].expand(-1, -1, missing, -1, -1)], dim=2)
            count = (x.shape[2] - 3) // self.stride + 1
            kept = None if last else x[:, :, max(0, count) * self.stride :].contiguous()
            out = [self._convolve(x)] if count > 0 else []
            del x, earlier
            while out:
                yield out.pop(), last

    def _convolve(self, x: Tensor) -> Tensor:
        """As a 2D convolution of the plane (T, H * W): on a CPU several times as fast as torch's 3D one."""
        out = F.conv2d(x.flatten(3), self.weight[..., None].to(x.dtype), self.bias, (self.stride, 1))
        return out.unflatten(3, x.shape[3:])

    def extra_repr(self) -> str:
        """Sizes of the layer."""
        out_dim, dim, _ = self.weight.shape
        return f"{dim}, {out_dim}, stride={self.stride}, before={self.before}, after={self.after}"


class ChannelNorm(nn.Module):
    """RMSNorm over the channels of each position of each frame.

    Args:
        dim: Channels C.
    """

    def __init__(self, dim: int) -> None:
        """Build the scale."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` -> the same."""
        size = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32) / x.shape[1] ** 0.5
        return x * size.add(1e-6).reciprocal().to(x.dtype) * self.weight.to(x.dtype)[:, None, None, None]


class ResBlock(StreamLayer):
    """Two times norm, SiLU, convolution over space and over time, added to the input; at first nothing is added.

    Args:
        dim: Channels in.
        out_dim: Channels out.
        causal: Whether frames see earlier frames alone.
    """

    def __init__(self, dim: int, out_dim: int, *, causal: bool) -> None:
        """Build both halves."""
        super().__init__()
        self.layers = nn.ModuleList([*_normed_conv(dim, out_dim, causal), *_normed_conv(out_dim, out_dim, causal)])
        last: SpatialConv = self.layers[-2]  # type: ignore[assignment]
        for parameter in (last.weight, last.bias):
            nn.init.zeros_(parameter)  # type: ignore[arg-type]
        self.skip = nn.Identity() if dim == out_dim else nn.Conv3d(dim, out_dim, 1)

    def stream(self, pieces: Stream) -> Stream:
        """Frames `(B, C, T, H, W)` -> `(B, C', T, H, W)`; the input waits until its frames come out."""
        waiting: deque[Tensor] = deque()

        def noted() -> Stream:
            for x, last in pieces:
                waiting.append(x)
                out = [x]
                del x
                yield out.pop(), last

        for y, last in run_layers(self.layers, noted()):
            out = [y + self.skip(_take(waiting, y.shape[2]))]
            del y
            yield out.pop(), last


def _normed_conv(dim: int, out_dim: int, causal: bool) -> list[nn.Module]:
    return [ChannelNorm(dim), nn.SiLU(), SpatialConv(dim, out_dim), TemporalConv(out_dim, causal=causal)]


def _take(waiting: deque[Tensor], frames: int) -> Tensor:
    """Remove the first frames from a queue of pieces."""
    parts = []
    while frames:
        piece = waiting.popleft()
        parts.append(piece[:, :, :frames])
        if piece.shape[2] > frames:
            waiting.appendleft(piece[:, :, frames:])
        frames -= parts[-1].shape[2]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


class TemporalUpsample(StreamLayer):
    """Doubles the frames.

    Args:
        dim: Channels.
        how: `nearest` repeats frames and convolves them over time; `shuffle` has a convolution make both frames.
        causal: Whether frames see earlier frames alone.
    """

    def __init__(self, dim: int, *, how: Literal["nearest", "shuffle"], causal: bool) -> None:
        """Build the convolution."""
        super().__init__()
        self.shuffle = how == "shuffle"
        self.conv = TemporalConv(dim, 2 * dim if self.shuffle else dim, causal=causal)

    def stream(self, pieces: Stream) -> Stream:
        """Frames `(B, C, T, H, W)` -> `(B, C, 2 T, H, W)`."""
        if self.shuffle:
            return _each(_interleave, self.conv.stream(pieces))
        return self.conv.stream(_each(_double, pieces))


def _double(x: Tensor) -> Tensor:
    return repeat(x, "b c t h w -> b c (t two) h w", two=2)


def _interleave(x: Tensor) -> Tensor:
    return rearrange(x, "b (two c) t h w -> b c (t two) h w", two=2)


class SpatialUpsample(nn.Module):
    """Doubles height and width by repeating positions, and convolves."""

    def __init__(self, dim: int) -> None:
        """Build the convolution."""
        super().__init__()
        self.conv = SpatialConv(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` -> `(B, C, T, 2 H, 2 W)`."""
        return self.conv(repeat(x, "b c t h w -> b c t (h p) (w q)", p=2, q=2))


class Fold(nn.Module):
    """Folds squares of pixels into channels, or unfolds them again.

    Args:
        side: Side of a square in pixels.
        unfold: Whether to unfold.
    """

    def __init__(self, side: int, *, unfold: bool = False) -> None:
        """Keep the pattern."""
        super().__init__()
        folded, unfolded = "b (c p q) t h w", "b c t (h p) (w q)"
        self.side = side
        self.pattern = f"{folded} -> {unfolded}" if unfold else f"{unfolded} -> {folded}"

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T, H, W)` -> `(B, C * side^2, T, H / side, W / side)`, or back."""
        return rearrange(x, self.pattern, p=self.side, q=self.side)
