"""The data module of videos and images together, at a stated ratio."""

from fractions import Fraction
from typing import Any

from lingen_kit.data.auto_data import AutoData
from lingen_kit.data.buckets import Size
from lingen_kit.data.clip import Clip, Index, split
from lingen_kit.data.clip_dataset import ClipDataset
from lingen_kit.data.layouts import read_index


class Hybrid(AutoData):
    """Videos, with images among them as clips of one frame (LinGen, supplement, Sec. E: 1 image to 100 videos).

    A batch holds either videos or images. Validation is on videos.

    Args:
        videos: The videos, in any layout of `AutoData`.
        images: The images, likewise.
        image_ratio: Images over videos among the training samples; whichever are too few are repeated.
        options: Those of `AutoData`. Where `buckets` have no size of 1 frame, images get the sides of the others.
    """

    def __init__(self, videos: str, images: str, image_ratio: float = 0.01, **options: Any) -> None:
        super().__init__(videos, **options)
        if not 0 < image_ratio < 1000:
            raise ValueError(f"data.image_ratio is {image_ratio}; it is images over videos, above 0, such as 0.01")
        if self.frames == 1:
            raise ValueError(
                "data.frames is 1: there are no videos to mix images with; use lingen_kit.data.ImageFolder"
            )
        self.videos = videos
        self.images = images
        self.image_ratio = image_ratio
        if not any(size[0] == 1 for size in self.sizes):
            self.sizes = sorted({(1, height, width) for _, height, width in self.sizes}) + self.sizes

    def read_indices(self) -> list[Index]:
        """The videos, then the images."""
        return [read_index(self.videos, ("video",)), read_index(self.images, ("image",))]

    def split(self, clips: list[Clip]) -> tuple[list[Clip], list[Clip]]:
        """Divide the videos; all images are for training."""
        images = [clip for clip in clips if clip.kind == "image"]
        if len(images) == len(clips):
            raise ValueError(f"none of the videos in {self.videos} can be used: only images are left")
        training, validation = split([clip for clip in clips if clip.kind == "video"], self.validation_share)
        return training + images, validation

    def repeats(self, dataset: ClipDataset) -> dict[Size, Fraction]:
        """One pass over the data is one over the videos, with their share of images."""
        images = sum(clip.kind == "image" for clip in dataset.clips)
        if not images:  # the videos of validation
            return {}
        videos = len(dataset.clips) - images
        each = Fraction(self.image_ratio).limit_denominator(10**6) * videos / images
        return {size: each for size in dataset.by_size if size[0] == 1}
