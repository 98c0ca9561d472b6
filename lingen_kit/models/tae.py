"""The temporal autoencoder (TAE): videos to latents 8 times shorter, lower and narrower, and back.

After Movie Gen (arXiv 2410.13720, 3.1.1), whose TAE LinGen uses: an inflated image autoencoder, a convolution over time
after each one over space, strided to go down in time, nearest neighbor and convolution to go up, 16 channels,
T' = ceil(T / 8) latent frames with surplus frames dropped after decoding, images as T = 1. The widths are those of the
usual image autoencoder. Our own reading or choice: no attention in the middle, norms per position (both so that tiles
can equal the whole), `causal`, `shuffle` and `fold`.

Letters: B batch, C latent channels, T frames, H height, W width; primes mark latent sizes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lingen_kit.errors import require_at_least
from lingen_kit.models.autoencoder import Autoencoder, wanted_frames
from lingen_kit.models.latent_scale import LatentScale
from lingen_kit.models.tae_layers import (
    ChannelNorm,
    Fold,
    ResBlock,
    SpatialConv,
    SpatialUpsample,
    Stream,
    TemporalConv,
    TemporalUpsample,
    run_layers,
)
from lingen_kit.models.tiles import Tile, tiles
from lingen_kit.models.weights import load_weights
from lingen_kit.scans import Grid


@dataclass(frozen=True)
class Tiling:
    """How videos are cut for encoding and decoding; no part of what the network is."""

    frames: int | None
    side: int | None
    overlap: int


class TAE(Autoencoder):
    """A variational autoencoder of videos and images, tiled in time and space.

    Frames are handled `tile_frames` at once in every layer, with the same result as all at once and in memory
    that does not grow with their number. `tile_size` cuts large frames besides.

    Args:
        channels: Latent channels C.
        dims: Channels of each level, from the pixels to the latents. Between two levels height and width are halved
            until `spatial_factor` is reached, from the first level on, and frames for `temporal_factor` up to the
            last one.
        blocks: Residual blocks of a level; one more in the decoder.
        spatial_factor: Pixels along a side of a latent; a power of 2.
        temporal_factor: Frames of a latent; a power of 2.
        fold: Side of the squares of pixels that are folded into channels before the first level. 2 or 4 save most of
            the cost, at some loss of detail.
        causal: Let no latent depend on frames after the last one that it stands for, and no frame on later latents.
            Otherwise both look as far forward as back.
        temporal_upsampling: `nearest` repeats frames before a convolution, as in Movie Gen; `shuffle` makes both
            frames by a convolution, which clips of few latent frames need.
        tile_frames: Frames that a layer handles at once in `encode` and `decode`; null for all.
        tile_size: Greatest side in pixels of what is encoded or decoded at once, overlaps included; null for whole
            frames.
        tile_overlap: Pixels that a tile sees beyond what is kept of it; null for all that matter, so that tiles equal
            the whole. Fewer save time and may leave seams.
        latent_mean: Mean of the latents of each channel, or of all; measured in training if null.
        latent_std: Their standard deviation, likewise.
        weights: A training checkpoint, a `.safetensors` file or a folder with `model.safetensors`.

    Raises:
        ValueError: If options do not go together.
    """

    def __init__(
        self,
        channels: int = 16,
        dims: tuple[int, ...] = (128, 256, 512, 512),
        blocks: int = 2,
        *,
        spatial_factor: int = 8,
        temporal_factor: int = 8,
        fold: int = 1,
        causal: bool = False,
        temporal_upsampling: Literal["nearest", "shuffle"] = "nearest",
        tile_frames: int | None = 8,
        tile_size: int | None = None,
        tile_overlap: int | None = None,
        latent_mean: list[float] | float | None = None,
        latent_std: list[float] | float | None = None,
        weights: str | None = None,
    ) -> None:
        """Build encoder and decoder."""
        super().__init__()
        require_at_least("TAE", 1, channels=channels, blocks=blocks, dims=min(dims, default=0), fold=fold)
        halvings = _halvings(len(dims) - 1, spatial_factor, temporal_factor, fold)
        self.channels = channels
        self.spatial_factor, self.temporal_factor = spatial_factor, temporal_factor
        self.encoder = nn.ModuleList(_encoder(channels, dims, blocks, halvings, fold, causal))
        self.decoder = nn.ModuleList(_decoder(channels, dims, blocks, halvings, fold, causal, temporal_upsampling))
        with torch.no_grad():  # start with little noise in the latents: else it drowns what they have to say
            last: TemporalConv = self.encoder[-1]  # type: ignore[assignment]
            last.bias[channels:] = -6.0
        self.latents = LatentScale(channels)
        self.tiling = self._tiling(tile_frames, tile_size, tile_overlap)
        if weights is not None:
            load_weights(self, weights, prefix=("autoencoder.", "pipeline.autoencoder."))
        self.latents.fix(latent_mean, latent_std)

    def posterior(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latents, `(B, C, T', H', W')` each, before scaling."""
        self.latent_size((video.shape[2], video.shape[3], video.shape[4]))
        mean, log_variance = self._whole(self.encoder, video).chunk(2, dim=1)
        return mean, log_variance.clamp(-30, 20)

    def reconstruct(self, latents: Tensor, frames: int | None = None) -> Tensor:
        """Video `(B, 3, T, H, W)` from latents before scaling, unclamped."""
        return self._whole(self.decoder, latents)[:, :, : self._frames(latents, frames)]

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """The posterior's mean, scaled to mean 0 and variance 1 over the training data; see `Autoencoder`."""
        size = self.latent_size((video.shape[2], video.shape[3], video.shape[4]))
        latents = video.new_empty(len(video), self.channels, *size)
        for down, across in self._tiles(size):
            seen = video[..., down.seen_scaled(self.spatial_factor), across.seen_scaled(self.spatial_factor)]
            first = 0
            for moments in self._pieces(self.encoder, seen):
                mean = moments[:, : self.channels, :, down.core_of_seen(), across.core_of_seen()]
                target = latents[:, :, first : first + mean.shape[2], down.core, across.core]
                target.copy_(self.latents.scale(mean))
                first += mean.shape[2]
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor, frames: int | None = None) -> Tensor:
        """Video of scaled latents; see `Autoencoder`. Surplus frames are dropped."""
        frames, factor = self._frames(latents, frames), self.spatial_factor
        height, width = latents.shape[3:]
        video = latents.new_empty(len(latents), 3, frames, height * factor, width * factor)
        for down, across in self._tiles((latents.shape[2], height, width)):
            seen = self.latents.unscale(latents[..., down.seen, across.seen])
            first = 0
            for piece in self._pieces(self.decoder, seen):
                kept = piece[:, :, : frames - first, down.core_of_seen(factor), across.core_of_seen(factor)]
                target = video[..., first : first + kept.shape[2], down.core_scaled(factor), across.core_scaled(factor)]
                target.copy_(kept).clamp_(-1, 1)
                first += kept.shape[2]
        return video

    def latent_size(self, size: Grid) -> Grid:
        """Frames over `temporal_factor`, rounded up, height and width over `spatial_factor`.

        Raises:
            ValueError: If `spatial_factor` does not divide the height or width.
        """
        for name, length in zip(("height", "width"), size[1:], strict=True):
            if length < 1 or length % self.spatial_factor:
                raise ValueError(
                    f"{name} {length} is not divisible by the autoencoder's spatial_factor {self.spatial_factor}: "
                    f"choose a multiple of {self.spatial_factor}"
                )
        frames, height, width = size
        return -(-frames // self.temporal_factor), height // self.spatial_factor, width // self.spatial_factor

    @property
    def last_layer(self) -> Tensor:
        """The weights that paint the pixels: gradients of losses are weighed against each other there."""
        convs = [layer for layer in self.decoder if isinstance(layer, SpatialConv)]
        return convs[-1].weight

    def _whole(self, layers: nn.ModuleList, x: Tensor) -> Tensor:
        return next(run_layers(layers, iter([(x, True)])))[0]

    def _pieces(self, layers: nn.ModuleList, x: Tensor) -> Iterator[Tensor]:
        """Results for consecutive frames."""
        at_once = self.tiling.frames
        frames = x.shape[2]
        step = at_once or frames
        pieces: Stream = ((x[:, :, t : t + step].contiguous(), t + step >= frames) for t in range(0, frames, step))
        return (piece for piece, _ in run_layers(layers, pieces, at_once))

    def _tiles(self, size: Grid) -> list[tuple[Tile, Tile]]:
        """Rows and columns of each tile of latents of `size`."""
        side, overlap = self.tiling.side, self.tiling.overlap
        cells = None if side is None else side // self.spatial_factor
        rows, columns = (tiles(length, cells, overlap // self.spatial_factor) for length in size[1:])
        return [(down, across) for down in rows for across in columns]

    def _tiling(self, frames: int | None, side: int | None, overlap: int | None) -> Tiling:
        require_at_least("TAE", 1, tile_frames=1 if frames is None else frames)
        factor = self.spatial_factor
        reach = max(_reach(list(self.encoder.modules())), _reach(list(self.decoder.modules())[::-1]))
        reach = -(-reach // factor) * factor
        for name, value in (("tile_size", side), ("tile_overlap", overlap)):
            if value is not None and (value < 0 or value % factor):
                raise ValueError(f"TAE.{name} {value} must be a multiple of spatial_factor {factor}")
        margin = reach if overlap is None else overlap
        if side is not None and side <= 2 * margin:
            raise ValueError(
                f"TAE.tile_size {side} leaves nothing between its overlaps of {margin} pixels: choose at least "
                f"{2 * margin + factor}, or a smaller tile_overlap (what matters is {reach}; 32 may show no seam)"
            )
        return Tiling(frames, side, margin)

    def _frames(self, latents: Tensor, frames: int | None) -> int:
        longest = latents.shape[2] * self.temporal_factor
        return wanted_frames(frames, latents.shape[2], longest, longest - self.temporal_factor + 1)


def _halvings(steps: int, spatial: int, temporal: int, fold: int) -> list[tuple[bool, bool]]:
    """Whether each step between two levels halves space and time.

    Raises:
        ValueError: If the factors cannot be reached.
    """
    for name, value in (("spatial_factor", spatial), ("temporal_factor", temporal)):
        if value < 1 or value & (value - 1):
            raise ValueError(f"TAE.{name} {value} must be a power of 2, such as 8")
    if spatial % fold:
        raise ValueError(f"TAE.fold {fold} must divide spatial_factor {spatial}")
    in_space, in_time = int(math.log2(spatial // fold)), int(math.log2(temporal))
    if steps != max(in_space, in_time):
        raise ValueError(
            f"TAE.dims gives {steps + 1} levels, and spatial_factor {spatial} with fold {fold} and temporal_factor "
            f"{temporal} need {max(in_space, in_time) + 1}: name one width for each"
        )
    return [(step < in_space, step >= steps - in_time) for step in range(steps)]


def _encoder(
    channels: int, dims: tuple[int, ...], blocks: int, halvings: list[tuple[bool, bool]], fold: int, causal: bool
) -> Iterator[nn.Module]:
    yield Fold(fold)
    yield SpatialConv(3 * fold**2, dims[0])
    yield TemporalConv(dims[0], causal=causal)
    before = dims[0]
    for dim, (space, time) in zip(dims, [*halvings, (False, False)], strict=True):
        for _ in range(blocks):
            yield ResBlock(before, dim, causal=causal)
            before = dim
        if space:
            yield SpatialConv(dim, dim, stride=2)
        if time:
            yield TemporalConv(dim, stride=2)
    yield from _middle(dims[-1], causal)
    yield from _head(dims[-1], 2 * channels, causal)


def _decoder(
    channels: int,
    dims: tuple[int, ...],
    blocks: int,
    halvings: list[tuple[bool, bool]],
    fold: int,
    causal: bool,
    upsampling: Literal["nearest", "shuffle"],
) -> Iterator[nn.Module]:
    yield SpatialConv(channels, dims[-1])
    yield TemporalConv(dims[-1], causal=causal)
    yield from _middle(dims[-1], causal)
    before = dims[-1]
    for dim, (space, time) in zip(dims[::-1], [*halvings[::-1], (False, False)], strict=True):
        for _ in range(blocks + 1):
            yield ResBlock(before, dim, causal=causal)
            before = dim
        if time:
            yield TemporalUpsample(dim, how=upsampling, causal=causal)
        if space:
            yield SpatialUpsample(dim)
    yield from _head(dims[0], 3 * fold**2, causal)
    yield Fold(fold, unfold=True)


def _middle(dim: int, causal: bool) -> list[nn.Module]:
    return [ResBlock(dim, dim, causal=causal) for _ in range(2)]


def _head(dim: int, out_dim: int, causal: bool) -> list[nn.Module]:
    return [ChannelNorm(dim), nn.SiLU(), SpatialConv(dim, out_dim), TemporalConv(out_dim, causal=causal)]


def _reach(modules: list[nn.Module]) -> int:
    """How many pixels away something matters, at most, for layers listed from the pixels on."""
    reach, pixels = 0, 1
    for module in modules:
        if isinstance(module, Fold):
            pixels *= module.side
        elif isinstance(module, SpatialConv):
            reach += pixels
            pixels *= module.stride[1]
        elif isinstance(module, SpatialUpsample):
            pixels *= 2
    return reach
