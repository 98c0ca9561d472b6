"""ViCLIP-L/14, features of videos and texts that can be compared (Wang et al., InternVid, arXiv 2307.06942, sec. 4).

The towers are CLIP's (Radford et al., arXiv 2103.00020), the one for frames widened to a video: the patches of all 8
frames are tokens of one sequence beside a single class token, and each frame adds a vector of its time to its patches.
Modules bear the published names, so `ViClip-InternVid-10M-FLT.pth` loads.

Letters: B videos or texts, T frames, H height, W width, P patches of a frame, L tokens, D channels of a tower, E
features.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eval.metrics.checkpoints import load_published
from eval.weights import weights_file
from lingen_kit.errors import MissingPackage

__all__ = ["FRAMES", "SIDE", "ViClip", "tokens_of", "viclip"]

FRAMES, SIDE = 8, 224
_TOKENS = 32  # of a text; what is longer is cut off


class ViClip(nn.Module):
    """Both towers; the defaults are the sizes of the published L/14.

    Args:
        side: Of the frames, in pixels.
        patch: Side of a patch, in pixels.
        frames: Of a video.
        width: Channels of the tower of videos.
        layers: Of the tower of videos.
        tokens: Of a text.
        text_width: Channels of the tower of texts.
        text_layers: Of the tower of texts.
        head_dim: Channels of an attention head.
        features: Of both towers' ends.
        vocabulary: Number of tokens.
    """

    def __init__(
        self,
        side: int = SIDE,
        patch: int = 14,
        frames: int = FRAMES,
        width: int = 1024,
        layers: int = 24,
        tokens: int = _TOKENS,
        text_width: int = 768,
        text_layers: int = 12,
        head_dim: int = 64,
        features: int = 768,
        vocabulary: int = 49408,
    ) -> None:
        super().__init__()
        self.vision_encoder = _VideoTower(side, patch, frames, width, layers, width // head_dim, features)
        heads = text_width // head_dim
        self.text_encoder = _TextTower(vocabulary, tokens, text_width, text_layers, heads, features)
        self.temp = nn.Parameter(torch.tensor(0.01))  # of the training's loss

    def encode_video(self, frames: Tensor) -> Tensor:
        """Normalized frames `(B, T, 3, H, W)` -> `(B, E)`, not of unit length."""
        out: Tensor = self.vision_encoder(frames.transpose(1, 2))
        return out

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Tokens `(B, L)` as `tokens_of` makes them -> `(B, E)`, not of unit length."""
        out: Tensor = self.text_encoder(tokens)
        return out


class _VideoTower(nn.Module):
    def __init__(self, side: int, patch: int, frames: int, width: int, layers: int, heads: int, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch), bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = nn.Parameter(torch.randn((side // patch) ** 2 + 1, width) * width**-0.5)
        self.ln_pre = nn.LayerNorm(width)
        self.temporal_positional_embedding = nn.Parameter(torch.zeros(1, frames, width))
        self.transformer = _Transformer(width, layers, heads)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, features) * width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).flatten(3).permute(0, 2, 3, 1)  # B T P D
        x = x + self.positional_embedding[1:] + self.temporal_positional_embedding[:, :, None]
        start = (self.class_embedding + self.positional_embedding[0]).expand(len(x), 1, -1)
        x = torch.cat([start, x.flatten(1, 2)], 1)  # B 1+T*P D
        x = self.transformer(self.ln_pre(x))
        return self.ln_post(x[:, 0]) @ self.proj


class _TextTower(nn.Module):
    def __init__(self, vocabulary: int, tokens: int, width: int, layers: int, heads: int, features: int) -> None:
        super().__init__()
        self.transformer = _Transformer(width, layers, heads)
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.randn(tokens, width) * 0.01)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, features) * width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token_embedding(tokens) + self.positional_embedding  # B L D
        length = tokens.shape[1]
        ahead = torch.full((length, length), -torch.inf, device=x.device).triu(1)
        x = self.ln_final(self.transformer(x, ahead))
        end = tokens.argmax(1)  # the token of the end has the highest number
        return x[torch.arange(len(x), device=x.device), end] @ self.text_projection


class _Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([_Block(width, heads) for _ in range(layers)])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", _QuickGELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class _QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


def tokens_of(texts: Sequence[str], length: int = _TOKENS) -> Tensor:
    """CLIP's tokens of texts `(B, L)`; a longer text is cut off, and ends as all do.

    Raises:
        MissingPackage: If open_clip is not installed, which the vocabulary comes with.
    """
    tokens: Tensor = _tokenizer()(list(texts), context_length=length)
    return tokens


@cache
def _tokenizer() -> Any:
    try:
        from open_clip.tokenizer import SimpleTokenizer
    except ImportError as error:
        raise MissingPackage(
            f'ViCLIP reads texts with open_clip, which cannot be imported ({error}); pip install "lingen_kit[hub]"'
        ) from error
    return SimpleTokenizer()


@cache
def viclip(weights: Path | None, device: str) -> ViClip:
    """The network with its published weights, once a process.

    Raises:
        ValueError: If they are not here and cannot be fetched, or are others.
    """
    return load_published(ViClip(), weights_file("viclip_l14", weights), "model").to(device)
