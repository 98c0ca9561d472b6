"""How beautiful people find frames: CLIP's embedding under LAION's heads, with weights from files that you have."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lingen_kit.data.curation.filter import Candidate, Filter, Limit, Meter, require

if TYPE_CHECKING:
    import torch

    from lingen_kit.data.curation.filter import Measured
    from lingen_kit.data.curation.frame import Frame

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training
_BATCH = 16

WHERE = (
    "clip: a folder with config.json and model.safetensors of openai/clip-vit-large-patch14, from"
    " https://huggingface.co/openai/clip-vit-large-patch14 (code MIT; the model card leaves deployment to you);"
    " head: sa_0_4_vit_l_14_linear.pth from https://github.com/LAION-AI/aesthetic-predictor (MIT), or"
    " sac+logos+ava1-l14-linearMSE.pth from https://github.com/christophschuhmann/improved-aesthetic-predictor"
    " (read its license there)"
)
"""Which files to get, and their licenses."""


class Aesthetic(Filter):
    """Drops clips that people would find plain, by LAION's aesthetic predictors on top of CLIP.

    The head is a file of weights: one linear layer, or the five of the improved predictor, told apart by their shapes.
    The score is the median over sampled frames. With these heads snapshots score 4 to 5, stock footage 5 to 6, and
    what is above 6 would hang on a wall; LAION-Aesthetics begins at 4.5. Text and logos score low. CLIP ViT-L/14 takes
    about a second a frame on two CPU cores, and 1.7 GB in each worker.

    Args:
        clip: Folder with a CLIP model as transformers saves it.
        head: File with the head, `.pth` or `.safetensors`.
        min_aesthetic: Least score.
        fps: Frames per second looked at.
        device: Where CLIP runs: `cpu`, or `cuda`, which all workers share.
    """

    explains: ClassVar[Mapping[str, str]] = {
        "aesthetic": "LAION's aesthetic score, median over frames; stock footage has 5 to 6"
    }
    measured_by = ("content", "fps")
    packages = ("cv2",)

    def __init__(
        self, clip: str = "", head: str = "", min_aesthetic: float = 4.75, fps: float = 0.5, device: str = "cpu"
    ) -> None:
        self.clip, self.head, self.min_aesthetic = clip, head, min_aesthetic
        self.fps, self.device = fps, device

    def check(self, scores: Sequence[str]) -> None:
        """Both files must be there and fit each other."""
        super().check(scores)
        for name, path, there in (
            ("clip", self.clip, (Path(self.clip) / "config.json").is_file()),
            ("head", self.head, Path(self.head).is_file()),
        ):
            if not path or not there:
                found = "is not given" if not path else f"{path} does not exist or is no such file"
                raise ValueError(
                    f"Aesthetic: {name} {found}; get the weights, or take the filter off the list: {WHERE}"
                )
        require("transformers", type(self).__name__)
        _load(self.clip, self.head, self.device, self.content)

    @cached_property
    def content(self) -> str:
        """Hash of the model and the head as they are in the files: others may come to lie at the same paths."""
        folder = Path(self.clip)
        weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
        digests = []
        for path in (folder / "config.json", *weights, Path(self.head)):
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        return hashlib.sha256(" ".join(digests).encode()).hexdigest()

    def meter(self) -> Meter:
        """Scores the sampled frames."""
        return _AestheticMeter(self.clip, self.head, self.fps, self.device, self.content)

    def scores(self, clip: Candidate, measured: Measured) -> dict[str, float]:
        """The median of the frames in the clip; of the nearest one if none is."""
        import numpy as np

        times = measured["times"]
        inside = clip.inside(times)
        if not len(times):
            return {"aesthetic": np.nan}
        if not len(inside):  # samples are few, and a shot has one look
            inside = np.array([np.abs(times - (clip.start + clip.end) / 2).argmin()])
        return {"aesthetic": float(np.median(measured["aesthetic"][inside]))}

    def limits(self) -> Mapping[str, Limit]:
        """Its bound."""
        return {"aesthetic": (self.min_aesthetic, None)}


class _AestheticMeter(Meter):
    def __init__(self, clip: str, head: str, fps: float, device: str, content: str) -> None:
        super().__init__(fps)
        self.clip, self.head, self.device = clip, head, device
        self.model, self.layers = _load(clip, head, device, content)
        self.times: list[float] = []
        self.values: list[float] = []
        self.waiting: list[torch.Tensor] = []

    def add(self, frame: Frame) -> None:
        self.times.append(frame.time)
        self.waiting.append(prepare(frame.rgb, self.model.config.vision_config.image_size))
        if len(self.waiting) == _BATCH:
            self._score()

    def result(self) -> Measured:
        import numpy as np

        self._score()
        return {"times": np.array(self.times), "aesthetic": np.array(self.values, np.float32)}

    def _score(self) -> None:
        import torch

        if not self.waiting:
            return
        with torch.inference_mode():
            pixels = torch.stack(self.waiting).to(self.device)  # B C H W
            vision = self.model.vision_model(pixel_values=pixels).pooler_output
            embedding = self.model.visual_projection(vision)  # B D
            scores = self.layers(torch.nn.functional.normalize(embedding, dim=-1))
        self.values += scores[:, 0].tolist()
        self.waiting = []


def prepare(rgb: Any, size: int) -> torch.Tensor:
    """A frame as CLIP wants it: shorter side to `size`, cropped in the middle, normalized.

    Args:
        rgb: `(H, W, 3)` uint8.
        size: Pixels of both sides.

    Returns:
        `(3, size, size)` float32.
    """
    import cv2
    import numpy as np
    import torch

    height, width = rgb.shape[:2]
    scale = size / min(height, width)
    scaled = (max(size, round(width * scale)), max(size, round(height * scale)))
    image = cv2.resize(rgb, scaled, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    image = image[top : top + size, left : left + size].astype(np.float32) / 255
    image = (image - np.array(_MEAN, np.float32)) / np.array(_STD, np.float32)
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


@lru_cache(maxsize=1)
def _load(clip: str, head: str, device: str, content: str) -> tuple[Any, torch.nn.Sequential]:
    """CLIP and the head, once a process and a hash of what is in their files.

    Raises:
        ValueError: If the head is no stack of linear layers from the embedding of this CLIP to one number.
    """
    import torch
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(clip, local_files_only=True).eval().to(device)
    weights = _read(head)
    # In the order of the layers: `layers.0.weight`, `layers.2.weight`, ...; the linear head has `weight` alone.
    names = sorted((name for name in weights if name.endswith("weight")), key=_number)
    widths = [weights[name].shape[1] for name in names] + [1] if names else []
    shapes = [tuple(weights[name].shape) for name in names]
    if not names or shapes != [(after, before) for before, after in pairwise(widths)]:
        raise ValueError(f"Aesthetic: {head} holds no stack of linear layers that ends in one number; {WHERE}")
    if widths[0] != model.config.projection_dim:
        raise ValueError(
            f"Aesthetic: the head {head} reads embeddings of width {widths[0]}, and those of {clip} have"
            f" {model.config.projection_dim}: they belong to different CLIPs; {WHERE}"
        )
    layers = torch.nn.Sequential(*(torch.nn.Linear(a, b) for a, b in pairwise(widths)))
    for layer, name in zip(layers, names, strict=True):
        layer.load_state_dict({"weight": weights[name], "bias": weights[name.removesuffix("weight") + "bias"]})
    return model, layers.eval().to(device)


def _read(head: str) -> dict[str, Any]:
    if head.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(head)
    import torch

    return torch.load(head, map_location="cpu", weights_only=True)


def _number(name: str) -> int:
    return int("".join(filter(str.isdigit, name)) or 0)
