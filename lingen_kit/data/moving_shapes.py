"""The data module of the moving shapes: procedural videos with captions and a known truth."""

from typing import Any, Literal

from torch.utils.data import ConcatDataset

from lingen_kit.data.base import VideoDataModule
from lingen_kit.data.loader import SampleDataset
from lingen_kit.data.sample import Sample
from lingen_kit.data.sampler import Bucket
from lingen_kit.data.shapes import MovingShapesDataset


class MovingShapes(VideoDataModule):
    """Colored shapes that move as their caption says, drawn on the fly.

    Combinations of (shape, color, action) are divided between training and validation: what validation shows,
    training never does.

    Args:
        samples_per_epoch: Distinct training clips, which is also what one epoch goes through.
        shapes: Words to draw from: circle, square, triangle, cross, ring. None for all.
        colors: VBench's color words: white, red, pink, blue, silver, purple, orange, green, gray, yellow,
            black, grey. None for all.
        sizes: Words to draw from: small, large. None for both.
        actions: Words to draw from: moves left, moves right, moves up, moves down, bounces, rotates, grows,
            shrinks, stays. None for all that `frames` can show.
        backgrounds: Words to draw from: navy, teal, beige, maroon, olive. None for all.
        objects: Least and greatest number of objects in a clip, within 1 to 3.
        held_out: Share of the combinations kept for validation. 0 holds out none, and validation then draws
            other clips of the combinations of training.
        image_ratio: Images over videos among the training samples; a batch holds either. Validation is on videos.
        options: Those of every data module, see `VideoDataModule`.
    """

    def __init__(
        self,
        samples_per_epoch: int = 100_000,
        shapes: list[str] | None = None,
        colors: list[str] | None = None,
        sizes: list[str] | None = None,
        actions: list[str] | None = None,
        backgrounds: list[str] | None = None,
        objects: tuple[int, int] = (1, 1),
        held_out: float = 0.125,
        image_ratio: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if samples_per_epoch < 1:
            raise ValueError(f"data.samples_per_epoch is {samples_per_epoch}; it must be at least 1")
        if not 0 <= image_ratio < 1000:
            raise ValueError(
                f"data.image_ratio is {image_ratio}; it is images over videos, such as 0.01, or 0 for none"
            )
        if image_ratio and self.frames == 1:
            raise ValueError(
                f"data.image_ratio is {image_ratio}, but with data.frames 1 all clips are images; set it to 0"
            )
        self.samples_per_epoch = samples_per_epoch
        self.shapes = shapes
        self.colors = colors
        self.sizes = sizes
        self.actions = actions
        self.backgrounds = backgrounds
        self.objects = objects
        self.held_out = held_out
        self.image_ratio = image_ratio

    def train_dataset(self) -> MovingShapesDataset | ConcatDataset[Sample]:
        """Scenes of the combinations that are not held out; the images, if there are any, after the videos."""
        videos = self._dataset("train", self.samples_per_epoch)
        if not self.image_ratio:
            return videos
        images = max(1, round(self.image_ratio * self.samples_per_epoch))
        return ConcatDataset([videos, self._dataset("train", images, frames=1)])

    def buckets(self, dataset: SampleDataset) -> list[Bucket]:
        """The videos, and the images."""
        if not isinstance(dataset, ConcatDataset):
            return super().buckets(dataset)
        videos = len(dataset.datasets[0])  # type: ignore[arg-type]  # torch's Dataset does not say that it has a length
        size = self.height, self.width
        return [
            Bucket("videos", range(videos), self.batch_size_of((self.frames, *size))),
            Bucket("images", range(videos, len(dataset)), self.batch_size_of((1, *size))),
        ]

    def validation_dataset(self) -> MovingShapesDataset:
        """Scenes of the held-out combinations."""
        return self._dataset("validation", self.validation_size)

    def _dataset(
        self, split: Literal["train", "validation"], length: int, frames: int | None = None
    ) -> MovingShapesDataset:
        return MovingShapesDataset(
            frames=self.frames if frames is None else frames,
            height=self.height,
            width=self.width,
            fps=self.fps,
            length=length,
            seed=self.seed,
            split=split,
            shapes=self.shapes,
            colors=self.colors,
            sizes=self.sizes,
            actions=self.actions,
            backgrounds=self.backgrounds,
            objects=self.objects,
            held_out=self.held_out,
        )
