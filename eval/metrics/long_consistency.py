"""Consistency of long videos, as VBench-Long has it: within clips, and from clip to clip.

    value = 0.5 * mean over clips of the clip's consistency + 0.5 * M(consistency of the clips' first frames)

The second is the same formula on other features, and M maps it to the scale of the first. M is tabulated in the
benchmark's repository and is read from there, with straight lines between its entries; without the table nothing is
mapped, and the figure's name says so.

Letters: N frames of a chunk, D features.
"""

from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, resize

from eval.clips import Clips, clip_length, clip_starts
from eval.metric import Frames, Metric, Observer, Score, VideoFacts
from eval.metrics.consistency import Consistency, Extractor
from eval.metrics.features import imagenet
from eval.weights import described, weights_file
from lingen_kit.errors import MissingPackage

__all__ = ["Dinov2Features", "DreamSimFeatures", "LongConsistency", "read_mapping"]


class LongConsistency(Metric):
    """In-clip and clip-to-clip consistency together.

    Args:
        metric: The consistency within clips.
        between: Sees the first frames of the clips.
        seconds: Length of a clip.
        mapping: The benchmark's table of M; None leaves the clip-to-clip value as it is and names the figure
            `..._unmapped`.
    """

    def __init__(self, metric: Consistency, between: Extractor, seconds: float, mapping: Path | None = None) -> None:
        plain = metric.names[0]
        self.names = (plain if mapping else f"{plain}_unmapped",)
        self.within = Clips(metric, seconds)
        self.between = Consistency(plain, between)
        self.seconds, self.mapping = seconds, mapping
        if mapping:
            read_mapping(mapping)

    def observe(self, video: VideoFacts) -> Observer:
        """Begin a video."""
        return _Both(self, video)

    def made_by(self) -> dict[str, Any]:
        """Both networks, and the table."""
        return {
            "within": self.within.made_by(),
            "between": self.between.made_by(),
            "mapping": self.mapping.name if self.mapping else None,
        }


@cache
def read_mapping(path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The benchmark's table of M, such as `subject_mapping_table.yaml`: arguments and values, both rising.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is no such table.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it is in vbench2_beta_long/configs of Vchitect/VBench")
    table = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        places = sorted((float(key), float(value)) for key, value in table.items())
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no table of numbers, as subject_mapping_table.yaml is") from error
    keys, values = tuple(key for key, _ in places), tuple(value for _, value in places)
    if len(keys) < 2 or any(later < sooner for sooner, later in pairwise(values)):
        raise ValueError(f"{path} does not rise: it is no mapping of scores")
    return keys, values


class _Both(Observer):
    def __init__(self, metric: LongConsistency, video: VideoFacts) -> None:
        self.metric = metric
        self.within, self.between = metric.within.observe(video), metric.between.observe(video)
        self.firsts = set(clip_starts(video.frames, clip_length(video, metric.seconds)))
        self.seen = 0

    def update(self, frames: Frames) -> None:
        self.within.update(frames)
        for index in range(len(frames)):
            if self.seen + index in self.firsts:
                self.between.update(frames[index : index + 1])
        self.seen += len(frames)

    def scores(self) -> Mapping[str, Score]:
        [inside], [across] = self.within.scores().values(), self.between.scores().values()
        name = self.metric.names[0]
        if inside.value is None:
            return {name: inside}
        if across.value is None:
            return {name: Score.none("the video is one clip: there is none to compare it with")}
        mapped = across.value
        if self.metric.mapping:
            mapped = float(np.interp(across.value, *read_mapping(self.metric.mapping)))
        details = {"in_clip": inside.value, "clip_to_clip": across.value, "mapped": mapped}
        return {name: Score(0.5 * inside.value + 0.5 * mapped, details=details)}


class Dinov2Features:
    """The class token of DINOv2 ViT-B/14 (Oquab et al., arXiv 2304.07193), of the middle 224 of a short side of 256.

    Args:
        weights: Folder of weights, see `eval.weights`.
        device: Where the network runs.
    """

    name = "dinov2_b14"

    def __init__(self, weights: Path | None = None, device: str = "cpu") -> None:
        self.weights, self.device = weights, device

    def made_by(self) -> dict[str, Any]:
        """Network and weights."""
        return {"network": "vit_base_patch14_dinov2.lvd142m", **described(self.name, self.weights)}

    @torch.inference_mode()
    def __call__(self, frames: Frames) -> Tensor:
        """`(N, H, W, 3)` uint8 -> `(N, 768)`."""
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
        small = center_crop(resize(pixels, [256], InterpolationMode.BICUBIC, antialias=True), [224, 224])
        return _dinov2(self.weights, self.device)(imagenet(small).to(self.device)).float().cpu()


class DreamSimFeatures:
    """DreamSim's embedding (Fu et al., arXiv 2306.09344) of frames squashed to 224x224, through its own package.

    Args:
        device: Where the network runs.
    """

    name = "dreamsim"

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def made_by(self) -> dict[str, Any]:
        """The package that brings network and weights."""
        from importlib.metadata import version

        _dreamsim(self.device)
        return {"network": "dreamsim", "package": version("dreamsim")}

    @torch.inference_mode()
    def __call__(self, frames: Frames) -> Tensor:
        """`(N, H, W, 3)` uint8 -> `(N, D)`."""
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
        small = resize(pixels, [224, 224], InterpolationMode.BICUBIC, antialias=True).float() / 255
        return _dreamsim(self.device).embed(small.to(self.device)).float().cpu()


@cache
def _dinov2(weights: Path | None, device: str) -> Any:
    import timm
    from safetensors.torch import load_file
    from timm.models.vision_transformer import checkpoint_filter_fn

    network: Any = timm.create_model("vit_base_patch14_dinov2.lvd142m", num_classes=0, img_size=224)
    state = load_file(weights_file("dinov2_b14", weights))
    network.load_state_dict(checkpoint_filter_fn(state, network))  # its table of positions is that of 518 pixels
    return network.eval().requires_grad_(False).to(device)


@cache
def _dreamsim(device: str) -> Any:
    try:
        from dreamsim import dreamsim
    except ImportError as error:
        raise MissingPackage(
            f"the background of long videos needs dreamsim, which cannot be imported ({error}); pip install dreamsim"
        ) from error
    network, _ = dreamsim(pretrained=True, device=device)
    return network.eval()
