"""The denoiser: a transformer-shaped network over video tokens whose token mixer is whatever the YAML names.

LinGen and its baseline DiT are two configurations of it, apart in one line. Every block is
`x += g1*mixer(m1(x)); x += cross_attention(x, text); x += g2*swiglu(m2(x))`, where m and g are the shift, scale and
gate of adaLN-single (PixArt-alpha, arXiv 2310.00426): one MLP for all blocks plus a table per block. Norms are
RMSNorm (arXiv 1910.07467), MLPs SwiGLU (arXiv 2002.05202), positions factorized (LinGen, supplement, Sec. E.1).

FLOPs are counted by formula, matrix products alone and two a multiply-add: norms, gates and activations are O(N D).

Letters: B batch, C latent channels, F frames, Y X latent height and width, T H W the grid of tokens, N = T*H*W,
D channels, L text tokens, E text channels.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lingen_kit.errors import require_at_least
from lingen_kit.mixers import Mixer
from lingen_kit.mixers.attention import HeadNorm, split_heads
from lingen_kit.mixers.base import require_context_parallel
from lingen_kit.models.embeddings import FactorizedPosition, TimeEmbedding
from lingen_kit.ops.attention import attention
from lingen_kit.parallel import Context, current, within
from lingen_kit.scans import Grid

MixerFactory = Callable[[int, int], Mixer]
"""Builds the mixer of one block from `(dim, layer)`, where `layer` counts the mixers of its own class."""


class SwiGLU(nn.Module):
    """Gated MLP, `W2(silu(W1 x) * V x)`, with the parameters of a plain MLP of 4 D hidden channels by default.

    Args:
        dim: Channels D.
        ratio: Hidden channels per channel; the result is rounded up to a multiple of 8.
    """

    def __init__(self, dim: int, ratio: float) -> None:
        """Both input projections as one matrix."""
        super().__init__()
        hidden = -(-int(dim * ratio) // 8) * 8
        self.in_proj = nn.Linear(dim, 2 * hidden, bias=False)
        self.out_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(..., D)` -> the same."""
        gate, value = self.in_proj(x).chunk(2, dim=-1)
        return self.out_proj(F.silu(gate) * value)

    def flops(self, tokens: int) -> int:
        """FLOPs of one forward pass over N tokens: 6 N D times the hidden channels."""
        return linear_flops(tokens, self.in_proj, self.out_proj)


class CrossAttention(nn.Module):
    """Attention from video tokens to text tokens.

    Args:
        dim: Channels D of the video tokens.
        text_dim: Channels E of the text tokens.
        heads: Attention heads; must divide `dim`.
    """

    def __init__(self, dim: int, text_dim: int, heads: int) -> None:
        """Build the projections; queries and keys are normalized."""
        super().__init__()
        head_dim = split_heads(dim, heads, "the cross-attention")
        self.heads = heads
        self.norm = nn.RMSNorm(dim)
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.kv_proj = nn.Linear(text_dim, 2 * dim, bias=False)
        self.q_norm = HeadNorm(head_dim)
        self.k_norm = HeadNorm(head_dim)
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        """Tokens `(B, T, H, W, D)`, text `(B, L, E)` and its mask `(B, L)` -> `(B, T, H, W, D)`."""
        q = self.q_proj(self.norm(x)).flatten(1, 3).unflatten(-1, (self.heads, -1))
        k, v = self.kv_proj(text).unflatten(-1, (2, self.heads, -1)).unbind(2)
        out = attention(self.q_norm(q), self.k_norm(k), v, mask=text_mask[:, None, None])
        return self.out_proj(out.flatten(2)).view_as(x)

    def flops(self, tokens: int, text_tokens: int) -> int:
        """FLOPs of one forward pass of N tokens over L text tokens: 4 N D^2 + 4 L E D + 4 N L D."""
        projections = linear_flops(tokens, self.q_proj, self.out_proj) + linear_flops(text_tokens, self.kv_proj)
        return projections + 4 * tokens * text_tokens * self.q_proj.out_features


class Block(nn.Module):
    """One layer of the denoiser: mixer, cross-attention, MLP.

    Args:
        dim: Channels D.
        mixer: The token mixer, already built.
        text_dim: Channels E of the text tokens.
        heads: Heads of the cross-attention.
        mlp_ratio: Hidden channels of the MLP per channel.
    """

    def __init__(self, dim: int, mixer: Mixer, *, text_dim: int, heads: int, mlp_ratio: float) -> None:
        """Build the branches; the block's modulation table starts at random, as in PixArt-alpha."""
        super().__init__()
        self.mixer_norm = nn.RMSNorm(dim, elementwise_affine=False)
        self.mixer = mixer
        self.cross_attention = CrossAttention(dim, text_dim, heads)
        self.mlp_norm = nn.RMSNorm(dim, elementwise_affine=False)
        self.mlp = SwiGLU(dim, mlp_ratio)
        self.modulation = nn.Parameter(torch.randn(6, dim) / dim**0.5)

    def forward(self, x: Tensor, time: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        """Tokens `(B, T, H, W, D)`, shared modulation `(B, 6, D)`, text and its mask -> tokens."""
        shared = (time + self.modulation)[:, :, None, None, None]  # (B, 6, 1, 1, 1, D)
        shift_mixer, scale_mixer, gate_mixer, shift_mlp, scale_mlp, gate_mlp = shared.unbind(1)
        mixed = self.mixer(torch.addcmul(shift_mixer, self.mixer_norm(x), 1 + scale_mixer))
        if mixed.shape != x.shape:  # a shape that broadcasts would train without a word
            raise ValueError(
                f"{type(self.mixer).__name__} returned {tuple(mixed.shape)} for tokens {tuple(x.shape)}; a mixer keeps "
                "the shape (batch, time, height, width, channels)"
            )
        x = x + gate_mixer * mixed
        x = x + self.cross_attention(x, text, text_mask)
        return x + gate_mlp * self.mlp(torch.addcmul(shift_mlp, self.mlp_norm(x), 1 + scale_mlp))

    def flops(self, grid: Grid, text_tokens: int) -> int:
        """FLOPs of one forward pass over a grid and L text tokens."""
        tokens = math.prod(grid)
        return self.mixer.flops(grid) + self.cross_attention.flops(tokens, text_tokens) + self.mlp.flops(tokens)


class Denoiser(nn.Module):
    """Predicts a clean latent video, its velocity or its noise from a noisy one, a time and a text.

    Args:
        channels: Latent channels C of the autoencoder.
        text_dim: Text channels E of the text encoder.
        size: Largest latent video as (frames, height, width).
        dim: Channels D of a token.
        depth: Number of blocks.
        mixer: Class path of the token mixer, or a list of them: a pattern over the layers, cycled.
        patch: Latent frames, rows and columns of one token.
        heads: Heads of the cross-attention.
        mlp_ratio: Hidden channels of the SwiGLU per channel.
        checkpoint_every: In training, keep of every n-th block its input alone and compute it again in the backward
            pass (arXiv 1604.06174): 1 for all blocks, which takes the least memory and a third more time; 0 for none.

    Raises:
        ValueError: If the patch does not divide the video or the heads do not divide the width.
    """

    def __init__(
        self,
        channels: int,
        text_dim: int,
        size: Grid,
        *,
        dim: int,
        depth: int,
        mixer: list[MixerFactory] | MixerFactory,  # in this order: jsonargparse cannot write the other one down
        patch: Grid = (1, 2, 2),
        heads: int = 4,
        mlp_ratio: float = 8 / 3,
        checkpoint_every: int = 0,
    ) -> None:
        """Build embeddings, blocks and head."""
        super().__init__()
        require_at_least("Denoiser", 1, dim=dim, depth=depth, patch=min(patch))
        require_at_least("Denoiser", 0.1, mlp_ratio=mlp_ratio)
        require_at_least("Denoiser", 0, checkpoint_every=checkpoint_every)
        self.channels, self.size, self.patch, self.dim = channels, size, patch, dim
        self.checkpoint_every = checkpoint_every
        grid = self.grid(size)
        volume = channels * patch[0] * patch[1] * patch[2]
        mixers = mixer if isinstance(mixer, list) else [mixer]
        if not mixers:
            raise ValueError("the list of mixers is empty; name at least one, such as lingen_kit.mixers.MATE")

        self.patch_embedding = nn.Linear(volume, dim)
        self.position = FactorizedPosition(grid, dim)
        self.time_embedding = TimeEmbedding(dim)
        self.time_modulation = nn.Linear(dim, 6 * dim)
        self.text_norm = nn.RMSNorm(text_dim)
        self.blocks = nn.ModuleList(
            Block(dim, built, text_dim=text_dim, heads=heads, mlp_ratio=mlp_ratio)
            for built in _build_mixers(mixers, dim, depth)
        )
        self.head_norm = nn.RMSNorm(dim, elementwise_affine=False)
        self.head_modulation = nn.Parameter(torch.randn(2, dim) / dim**0.5)
        self.head = nn.Linear(dim, volume)
        # The network starts from "no opinion": a zero output, and blocks that do not look at the time.
        for layer in (self.head, self.time_modulation):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def grid(self, size: Grid) -> Grid:
        """Tokens along time, height and width of a latent video of `size`.

        Raises:
            ValueError: If the patch does not divide the size.
        """
        for name, length, patch in zip(("frames", "height", "width"), size, self.patch, strict=True):
            if length < patch or length % patch:
                raise ValueError(
                    f"{name} {length} (in latents) is not divisible by the patch size {patch} of patch {self.patch}: "
                    f"choose {name} as a multiple of {patch} or another patch"
                )
        return (size[0] // self.patch[0], size[1] // self.patch[1], size[2] // self.patch[2])

    def flops(self, size: Grid, text_tokens: int) -> int:
        """FLOPs of one forward pass of one latent video.

        Args:
            size: Latent frames, height and width.
            text_tokens: Text tokens L.

        Returns:
            Two a multiply-add, matrix products alone; the mixers' share by their own formulas.

        Raises:
            ValueError: If the patch does not divide the size.
        """
        grid = self.grid(size)
        once = linear_flops(1, self.time_embedding.in_proj, self.time_embedding.out_proj, self.time_modulation)
        each = linear_flops(math.prod(grid), self.patch_embedding, self.head)
        blocks: Iterable[Block] = self.blocks  # type: ignore[assignment]  # a ModuleList does not say what it holds
        return once + each + sum(block.flops(grid, text_tokens) for block in blocks)

    def forward(self, x: Tensor, t: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        """Denoise.

        Args:
            x: Noisy latents `(B, C, F, Y, X)`; within `context_parallel`, this rank's slab of them.
            t: Times `(B,)` in [0, 1].
            text: Text tokens `(B, L, E)`.
            text_mask: True where a text token is one, `(B, L)`; at least one a row.

        Returns:
            The prediction, shaped as `x`.
        """
        split = current()
        if split is not None:
            require_context_parallel(self)
        grid = self.grid((x.shape[2], x.shape[3], x.shape[4]))
        (pt, ph, pw), (gt, gh, gw) = self.patch, grid
        x = rearrange(x, "b c (t pt) (h ph) (w pw) -> b t h w (pt ph pw c)", pt=pt, ph=ph, pw=pw)
        x = self.position(self.patch_embedding(x.to(self.patch_embedding.weight.dtype)))  # (B, T, H, W, D)
        time = self.time_embedding(t)  # (B, D)
        modulation = self.time_modulation(F.silu(time)).unflatten(-1, (6, -1))  # (B, 6, D)
        text = self.text_norm(text)
        checkpoint_every = self.checkpoint_every if self.training and torch.is_grad_enabled() else 0
        for i, block in enumerate(self.blocks):
            if checkpoint_every and i % checkpoint_every == 0:
                # Computed again after the region of a split has been left.
                again = partial(_in_split_again, split)
                x = checkpoint(block, x, modulation, text, text_mask, use_reentrant=False, context_fn=again)
            else:
                x = block(x, modulation, text, text_mask)
        shift, scale = (time[:, None] + self.head_modulation)[:, :, None, None, None].unbind(1)
        x = self.head(torch.addcmul(shift, self.head_norm(x), 1 + scale))
        return rearrange(x, "b t h w (pt ph pw c) -> b c (t pt) (h ph) (w pw)", t=gt, h=gh, w=gw, pt=pt, ph=ph, pw=pw)


def linear_flops(rows: int, *layers: nn.Linear) -> int:
    """FLOPs of linear layers that each read `rows` vectors, two a multiply-add."""
    return sum(2 * rows * layer.in_features * layer.out_features for layer in layers)


def _in_split_again(split: Context | None) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Where a block runs at first, and where it is computed again."""
    return nullcontext(), within(split)


def _build_mixers(pattern: list[MixerFactory], dim: int, depth: int) -> list[Mixer]:
    """Build a mixer for each layer, the pattern cycled.

    A mixer that differs from layer to layer (another scan order, a shifted window) must go through all its kinds
    however often other mixers stand between: it is told how many of its class came before it, not the depth it is at.
    """
    earlier: Counter[object] = Counter()
    mixers = []
    for i in range(depth):
        factory = pattern[i % len(pattern)]
        kind = _product(factory)
        mixers.append(factory(dim, earlier[kind]))
        earlier[kind] += 1
    return mixers


def _product(factory: object) -> object:
    """The class that a factory builds; partials, such as the command line makes, are seen through."""
    while isinstance(factory, partial):
        factory = factory.args[0] if factory.args and isinstance(factory.args[0], type) else factory.func
    return factory
