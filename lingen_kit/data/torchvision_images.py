"""The data module of torchvision's image data sets: an image is a clip of one frame, its label the caption."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from lingen_kit.data.base import VideoDataModule, require_share
from lingen_kit.data.clip import first_of
from lingen_kit.data.clip_dataset import NothingReadable
from lingen_kit.data.sample import Sample
from lingen_kit.data.seeds import derive_seed


class TorchvisionImages(VideoDataModule):
    """Images of a map-style data set that yields (image, target), as torchvision's do.

    An image that cannot be read is skipped, counted and named, and past `max_bad_share` training stops.

    A target that is text is the caption; of several texts, each pass takes one. A number is the label of a class, whose
    name comes from the data set's `classes` where it has them.

    Args:
        dataset: Class path of the data set and its options, such as torchvision.datasets.CIFAR10. Leave its transforms
            out: images are cropped in the middle and resized here.
        caption: What the caption of a class is, with {label} in place of its name.
        frames: Always 1.
        validation_share: About this share of the images is kept for validation.
        options: Those of every data module, see `VideoDataModule`.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        caption: str = "a photo of {label}",
        frames: Literal[1] = 1,
        validation_share: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(frames=frames, **options)
        require_share("validation_share", validation_share)
        if "{label}" not in caption:
            raise ValueError(f"data.caption is {caption!r}; it must hold {{label}}, such as 'a photo of {{label}}'")
        self.dataset = dataset
        self.caption = caption
        count = len(dataset)  # type: ignore[arg-type]
        if count < 2:
            raise ValueError(f"{type(dataset).__name__} holds {count} images; training and validation need one each")
        self._file_count = count
        ranked = sorted(range(count), key=lambda index: derive_seed("split", index))
        held_out = min(max(1, round(validation_share * count)), count - 1)
        self._validation, self._training = ranked[:held_out], sorted(ranked[held_out:])

    def train_dataset(self) -> "LabelledImages":
        """The images for training."""
        return self._part(self._training)

    def validation_dataset(self) -> "LabelledImages":
        """The images for validation."""
        return self._part(self._validation[: self.validation_size])

    def _part(self, indices: Sequence[int]) -> "LabelledImages":
        return LabelledImages(self.dataset, indices, (self.height, self.width), self.fps, self.caption, self.seed)


class LabelledImages:
    """Some images of a data set, as clips of one frame.

    Args:
        dataset: Yields (image, target).
        indices: Which of its images.
        size: Height and width of the clips.
        fps: Frames per second that the clips are said to have.
        caption: What the caption of a class is, with {label} in place of its name.
        seed: Of the choice among several captions.
    """

    def __init__(
        self, dataset: Dataset[Any], indices: Sequence[int], size: tuple[int, int], fps: float, caption: str, seed: int
    ) -> None:
        self.dataset = dataset
        self.indices = indices
        self.size = size
        self.fps = fps
        self.caption = caption
        self.seed = seed

    def __len__(self) -> int:
        """Number of images."""
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        """The image at `index`, with the caption of the first pass."""
        return self.draw(index, epoch=0)

    def draw(self, index: int, epoch: int) -> Sample:
        """The image at `index` as a pass over the data sees it, or the next that can be read in its stead.

        Raises:
            NothingReadable: If not one of the images can be read; it names them.
        """
        skipped: list[tuple[str, str]] = []
        for turn in range(len(self.indices)):
            number = self.indices[(index + turn) % len(self.indices)]
            source = f"{type(self.dataset).__name__}:{number}"
            try:
                image, target = self.dataset[number]
                video = _as_clip(image, self.size)
            except OSError as error:  # what Pillow raises for a damaged image, too
                skipped.append((source, str(error)))
                continue
            sample = Sample(
                video=video,
                caption=self._describe(target, derive_seed("caption", self.seed, epoch, number)),
                fps=self.fps,
                source=source,
                attributes={},
            )
            if skipped:
                sample["skipped"] = skipped
            return sample
        named = first_of(f"  {source}: {reason}" for source, reason in skipped)
        raise NothingReadable(f"none of {len(skipped)} images can be read; repair or replace these:\n{named}")

    def _describe(self, target: Any, choice: int) -> str:
        if isinstance(target, list | tuple) and target and all(isinstance(text, str) for text in target):
            return target[choice % len(target)]
        if isinstance(target, str):
            return target
        try:
            label = int(target)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{type(self.dataset).__name__} yields {type(target).__name__} as a target: it must be a caption, a"
                " list of captions or the number of a class; set its target_type or target_transform"
            ) from error
        classes = getattr(self.dataset, "classes", None)
        return self.caption.format(label=str(classes[label]).replace("_", " ") if classes else label)


def _as_clip(image: Any, size: tuple[int, int]) -> Tensor:
    """A PIL image, array or tensor as `(3, 1, H, W)` in [-1, 1]."""
    if isinstance(image, Tensor):
        scaled = image if image.dtype == torch.uint8 else (image.clamp(0, 1) * 255).round().to(torch.uint8)
        image = scaled.permute(1, 2, 0).numpy()  # (H, W, C)
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    height, width = size
    fitted = ImageOps.fit(image.convert("RGB"), (width, height), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(fitted)).permute(2, 0, 1).float()  # (3, H, W)
    return pixels.div_(127.5).sub_(1)[:, None]
