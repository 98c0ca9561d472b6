"""CLIPScore: how well frames match the prompt (Hessel et al., arXiv 2104.08718), as torchmetrics computes it.

    value = max(0, mean over frames of 100 cos(image feature, text feature))

over 8 frames, the middles of equal stretches of the video, or all if there are fewer. The network
is one of transformers' CLIP models.

Letters: N frames of a chunk, H height, W width.
"""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from eval.metric import Frames, Metric, Observer, Score, VideoFacts
from eval.metrics.middle import MiddleFrames
from lingen_kit.errors import MissingPackage

if TYPE_CHECKING:
    from torchmetrics.multimodal import CLIPScore

__all__ = ["ClipScore"]

_DEFAULT = "openai/clip-vit-large-patch14"  # torchmetrics' own
_FILE = "model.safetensors"


class ClipScore(Metric):
    """`clip_score`, from 0 to 100; of another network than the default its name follows.

    Args:
        model: A CLIP model of transformers: a folder, or its name on the Hugging Face hub.
        frames: How many frames are seen, at most.
        device: Where the network runs.
    """

    def __init__(self, model: str = _DEFAULT, frames: int = 8, device: str = "cpu") -> None:
        if frames < 1:
            raise ValueError(f"frames {frames} must be at least 1")
        self.names = ("clip_score" if model == _DEFAULT else f"clip_score/{Path(model).name}",)
        self.model, self.frames, self.device = model, frames, device

    def observe(self, video: VideoFacts) -> Observer:
        """Begin a video."""
        return _Picking(self, video)

    def made_by(self) -> dict[str, Any]:
        """Network, hash of its weights, frames."""
        with _weights(self.model).open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return {"network": self.model, "sha256": sha256, "frames": self.frames}


class _Picking(Observer):
    def __init__(self, metric: ClipScore, video: VideoFacts) -> None:
        self.metric, self.prompt = metric, video.prompt
        self.middles = MiddleFrames(min(metric.frames, video.frames), video.frames)
        self.kept: list[Frames] = []

    def update(self, frames: Frames) -> None:
        self.kept.append(self.middles.pick(frames))

    def scores(self) -> Mapping[str, Score]:
        [name] = self.metric.names
        if not self.prompt:
            return {name: Score.none("no prompt to compare with")}
        self.middles.check()
        images = torch.from_numpy(np.concatenate(self.kept)).to(self.metric.device).permute(0, 3, 1, 2)  # (N, 3, H, W)
        scorer = _scorer(self.metric.model, self.metric.device)
        scorer.reset()
        with torch.inference_mode():
            scorer.update(images, [self.prompt] * len(images))
            value = float(scorer.compute())
        return {name: Score(value, details={"frames": len(images)})}


class _Network:
    """A CLIP model as torchmetrics asks it: features are tensors, whatever the version of transformers."""

    def __init__(self, model: Any) -> None:
        self.model, self.config = model, model.config

    def to(self, device: torch.device) -> "_Network":
        self.model.to(device)
        return self

    def get_image_features(self, pixels: Tensor) -> Tensor:
        return _tensor(self.model.get_image_features(pixel_values=pixels))

    def get_text_features(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return _tensor(self.model.get_text_features(input_ids=tokens, attention_mask=mask))


class _Processor:
    """A processor that cuts long prompts so that they keep the token of their end, where CLIP reads the feature."""

    def __init__(self, processor: Any, longest: int) -> None:
        self.processor, self.longest = processor, longest

    def __call__(self, text: list[str] | None = None, images: list[Tensor] | None = None, **options: Any) -> Any:
        if text is not None:
            return self.processor(text=text, truncation=True, max_length=self.longest, **options)
        return self.processor(images=images, **options)


def _tensor(features: Any) -> Tensor:
    return features if isinstance(features, Tensor) else features.pooler_output


@functools.cache
def _scorer(name: str, device: str) -> "CLIPScore":
    _weights(name)  # says what is missing before anything else fails
    from torchmetrics.multimodal import CLIPScore
    from transformers import CLIPModel, CLIPProcessor

    model = CLIPModel.from_pretrained(name, use_safetensors=True).eval().requires_grad_(False)
    processor = _Processor(CLIPProcessor.from_pretrained(name), model.config.text_config.max_position_embeddings)
    pair: Any = (_Network(model), processor)
    return CLIPScore(lambda: pair).to(device)


@functools.cache
def _weights(name: str) -> Path:
    """The file of weights, from a folder, the cache or the hub.

    Raises:
        MissingPackage: If transformers is not installed.
        ValueError: If it is not here and cannot be fetched.
    """
    try:
        from transformers.utils.hub import cached_file
    except ImportError as error:
        raise MissingPackage(f'CLIPScore needs transformers ({error}): pip install "lingen_kit[hub]"') from error
    try:
        return Path(str(cached_file(name, _FILE)))
    except OSError as error:
        raise ValueError(
            f"CLIPScore needs {_FILE} of {name}, which is neither a folder nor in the Hugging Face cache and cannot be "
            f"fetched; name a folder that holds it with `model`. The hub says: {str(error).splitlines()[0]}"
        ) from error
