"""Scene: in what part of the frames a caption names the place that the prompt names (VBench, arXiv 2311.17982, 4.2).

VBench's captions are Tag2Text's; here BLIP (Li et al., arXiv 2201.12086) writes them, so the figure is `scene/blip` and
on a scale of its own. The rest is VBench's: the frames in the middles of 16 equal stretches, squashed to 384 pixels
square, and a caption counts if each word of the scene stands in it. A part of a word will do (`bar` in `barn`).

Letters: N frames of a chunk, H height, W width.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from eval.metric import Frames, Metric, Observer, Score, VideoFacts
from eval.metrics.checkpoints import from_hub, hub_described
from eval.metrics.middle import MiddleFrames
from eval.metrics.objects import told

__all__ = ["Scene", "names_scene"]

_FRAMES = 16
_BEAMS, _SHORTEST, _LONGEST = 3, 10, 30  # width of the search, tokens of a caption: as in VBench


class Scene(Metric):
    """How often captions name the scene.

    Args:
        model: BLIP for captions: a folder or a repository of the Hugging Face hub.
        device: Where the network runs.
    """

    names = ("scene/blip",)

    def __init__(self, model: str = "Salesforce/blip-image-captioning-base", device: str = "cpu") -> None:
        self.model, self.device = model, device

    def observe(self, video: VideoFacts) -> Observer:
        """Begin a video; `info` names the scene, as VBench's list of prompts does."""
        return _Watching(self, video)

    def made_by(self) -> dict[str, Any]:
        """The network."""
        return {**hub_described(self.model), "frames": _FRAMES, "beams": _BEAMS}

    @torch.inference_mode()
    def captions(self, frames: Frames) -> list[str]:
        """A caption for each of `(N, H, W, 3)` frames.

        Raises:
            MissingPackage: If transformers is not installed.
            ValueError: If the network is not here and cannot be fetched.
        """
        processor, network = _blip(self.model, self.device)
        said = []
        for frame in frames:
            pixels = processor.image_processor(frame, return_tensors="pt")["pixel_values"].to(self.device)
            tokens = network.generate(pixel_values=pixels, num_beams=_BEAMS, min_length=_SHORTEST, max_length=_LONGEST)
            said.append(processor.tokenizer.decode(tokens[0], skip_special_tokens=True).strip().lower())
        return said


class _Watching(Observer):
    def __init__(self, metric: Scene, video: VideoFacts) -> None:
        self.metric, self.scene = metric, str(told(video.info, "scene") or "")
        self.middles = MiddleFrames(_FRAMES, video.frames)
        self.captions: list[str] = []

    def update(self, frames: Frames) -> None:
        if self.scene:
            chosen = self.middles.pick(frames)
            if len(chosen):
                self.captions += self.metric.captions(chosen)

    def scores(self) -> Mapping[str, Score]:
        if not self.scene:
            return {"scene/blip": Score.none("the prompt says nothing on scene")}
        self.middles.check()
        rate = names_scene(self.captions, self.scene)
        return {"scene/blip": Score(rate, details={"captions": self.captions})}


def names_scene(captions: Sequence[str], scene: str) -> float:
    """The share of captions in which each word of a scene, such as `train station platform`, stands."""
    return sum(all(word in caption for word in scene.lower().split()) for caption in captions) / len(captions)


@functools.cache
def _blip(model: str, device: str) -> tuple[Any, Any]:
    network = from_hub(model, "BlipForConditionalGeneration").eval().requires_grad_(False).to(device)
    return from_hub(model, "BlipProcessor"), network
