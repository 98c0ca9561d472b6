"""Features of frames by the networks that VBench asks: DINO for subjects, CLIP for backgrounds, styles and aesthetics.

DINO (Caron et al., arXiv 2104.14294), ViT-B/16, through timm; CLIP (Radford et al., arXiv 2103.00020), ViT-B/32 and
ViT-L/14, through open_clip. Frames are resized as VBench resizes them: on 8-bit pixels, without antialiasing.

Letters: N frames of a chunk, H height, W width, D features.
"""

import functools
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, resize

from eval.metric import Frames, Memo
from eval.weights import described, weights_file
from lingen_kit.errors import MissingPackage

__all__ = ["ClipFeatures", "DinoFeatures", "clip_frames", "clip_text", "dino_frames", "imagenet"]

_SIDE = 224
_BATCH = 32  # frames that go through a network at once
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

Clip = Literal["clip_b32", "clip_l14"]
_CLIP_NAMES = {"clip_b32": "ViT-B-32-quickgelu", "clip_l14": "ViT-L-14-quickgelu"}


def dino_frames(frames: Frames) -> Tensor:
    """`(N, H, W, 3)` uint8 -> `(N, 3, h, w)`, short side 224, bilinear, no crop, ImageNet's mean and deviation."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    return imagenet(resize(pixels, [_SIDE], InterpolationMode.BILINEAR, antialias=False))


def imagenet(pixels: Tensor) -> Tensor:
    """Levels `(N, 3, H, W)` of 0 to 255, less ImageNet's mean and over its deviation."""
    return _normalized(pixels, _IMAGENET)


def clip_frames(frames: Frames) -> Tensor:
    """`(N, H, W, 3)` uint8 -> `(N, 3, 224, 224)`, short side 224, bicubic, the middle cut out, OpenAI's statistics."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    small = resize(pixels, [_SIDE], InterpolationMode.BICUBIC, antialias=False)
    return _normalized(center_crop(small, [_SIDE, _SIDE]), _OPENAI)


class DinoFeatures:
    """The class token of DINO ViT-B/16.

    Args:
        weights: Folder of weights, see `eval.weights`.
        device: Where the network runs.
    """

    name = "dino_b16"

    def __init__(self, weights: Path | None = None, device: str = "cpu") -> None:
        self.weights, self.device = weights, device

    def made_by(self) -> dict[str, Any]:
        """Network and weights."""
        return {"network": "vit_base_patch16_224.dino", **described(self.name, self.weights)}

    def __call__(self, frames: Frames) -> Tensor:
        """`(N, H, W, 3)` uint8 -> `(N, 768)`."""
        return _dino(self.weights, self.device)(frames)


class ClipFeatures:
    """CLIP's image features, those that are compared with text.

    Args:
        size: ViT-B/32 or ViT-L/14.
        weights: Folder of weights, see `eval.weights`.
        device: Where the network runs.
    """

    def __init__(self, size: Clip = "clip_b32", weights: Path | None = None, device: str = "cpu") -> None:
        self.size: Clip = size
        self.name: str = size
        self.weights, self.device = weights, device

    def made_by(self) -> dict[str, Any]:
        """Network and weights."""
        return {"network": _CLIP_NAMES[self.size], **described(self.name, self.weights)}

    def __call__(self, frames: Frames) -> Tensor:
        """`(N, H, W, 3)` uint8 -> `(N, D)`, D 512 or 768."""
        return _clip_images(self.size, self.weights, self.device)(frames)


def clip_text(size: Clip, weights: Path | None, device: str, text: str) -> Tensor:
    """CLIP's feature of a text, `(D,)`.

    Raises:
        MissingPackage: If open_clip is not installed.
        ValueError: If the weights are not here.
    """
    import open_clip

    tokens = open_clip.get_tokenizer(_CLIP_NAMES[size])([text]).to(device)
    with torch.inference_mode():
        return _clip(size, weights, device).encode_text(tokens)[0].float().cpu()


def dino_class_token(network: Any, x: Tensor) -> Tensor:
    """The class token of a ViT, with the table of positions resized as DINO resizes it.

    Bicubic without antialiasing, by factors of (side + 0.1) / 14; timm's own way has another kernel. Rows and columns
    that fill no patch are left out, as its convolution does.

    Args:
        network: timm's ViT.
        x: `(N, 3, H, W)`.
    """
    patches = network.patch_embed.proj(x)  # N D h w
    rows, columns = patches.shape[-2:]
    table = network.pos_embed
    first, rest = table[:, :1], table[:, 1:]
    side = math.isqrt(rest.shape[1])
    if (rows, columns) != (side, side):
        square = rest.reshape(1, side, side, -1).permute(0, 3, 1, 2)
        factors = [(rows + 0.1) / side, (columns + 0.1) / side]
        rest = F.interpolate(square, scale_factor=factors, mode="bicubic").flatten(2).transpose(1, 2)
    tokens = patches.flatten(2).transpose(1, 2) + rest
    start = network.cls_token + first
    tokens = torch.cat([start.expand(len(x), -1, -1), tokens], 1)
    return network.norm(network.blocks(network.norm_pre(tokens)))[:, 0]


@functools.cache
def _dino(weights: Path | None, device: str) -> Memo[Tensor]:
    import timm
    from safetensors.torch import load_file

    network = timm.create_model("vit_base_patch16_224.dino", num_classes=0)
    network.load_state_dict(load_file(weights_file("dino_b16", weights)))
    network = network.eval().requires_grad_(False).to(device)
    return Memo(lambda frames: _in_batches(lambda x: dino_class_token(network, x), dino_frames(frames), device))


@functools.cache
def _clip_images(size: Clip, weights: Path | None, device: str) -> Memo[Tensor]:
    network = _clip(size, weights, device)
    return Memo(lambda frames: _in_batches(network.encode_image, clip_frames(frames), device))


@functools.cache
def _clip(size: Clip, weights: Path | None, device: str) -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise MissingPackage(
            f'CLIP needs open_clip, which cannot be imported ({error}); pip install "lingen_kit[hub]"'
        ) from error
    from safetensors.torch import load_file

    network = open_clip.create_model(_CLIP_NAMES[size])
    network.load_state_dict(load_file(weights_file(size, weights)))
    return network.eval().requires_grad_(False).to(device)


def _in_batches(network: Any, x: Tensor, device: str) -> Tensor:
    with torch.inference_mode():
        return torch.cat([network(part.to(device)).float().cpu() for part in x.split(_BATCH)])


def _normalized(pixels: Tensor, statistics: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in statistics)
    return (pixels.float() / 255 - mean) / deviation
