"""The data module of latents and text embeddings that `data precompute` has stored."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lingen_kit.data.base import VideoDataModule, require_share
from lingen_kit.data.buckets import Size, name_of
from lingen_kit.data.clip import split
from lingen_kit.data.latent_store import CachedClip, Place, TensorReader, places, read_about, read_clips
from lingen_kit.data.order import Draw, keys_of
from lingen_kit.data.sample import Batch, Sample
from lingen_kit.data.sampler import Bucket


class CachedLatents(VideoDataModule):
    """Clips whose latents (and texts, where the text encoder is not trained) were computed before.

    Training stops before it starts where the encoders of the model are not those that made the cache. The split into
    training and validation is the one that the data set itself would have; validation is on the middle of its clips.

    Args:
        root: The folder that `data precompute` wrote.
        validation_share: About this share of the clips is kept for validation.
        options: Those of every data module, see `VideoDataModule`.
    """

    def __init__(self, root: str, validation_share: float = 0.1, **options: Any) -> None:
        super().__init__(**options)
        require_share("validation_share", validation_share)
        self.root = root
        self.validation_share = validation_share
        self._clips: list[CachedClip] | None = None
        self._places: dict[str, Place] = {}
        self._empty_text: str | None = None
        self.encoders: dict[str, str] = {}

    def setup(self, stage: str) -> None:
        """Read the index and check that it fits (Lightning's hook)."""
        super().setup(stage)
        self.clips()

    def clips(self) -> list[CachedClip]:
        """What the cache holds; the first call reads and checks it."""
        if self._clips is not None:
            return self._clips
        folder = Path(self.root).expanduser()
        about = read_about(folder)
        if about is None:
            raise ValueError(
                f"data.root {folder} holds no cached latents; `python -m lingen_kit data precompute` makes them"
            )
        clips = read_clips(folder)
        self._check(about, clips)
        self._places = places(folder)
        missing = [
            clip
            for clip in clips
            if clip.latents not in self._places or (clip.text or clip.latents) not in self._places
        ]
        if missing:
            raise ValueError(
                f"{folder} lacks the tensors of {len(missing)} of {len(clips)} clips, such as {missing[0].name}: shards"
                " were removed or are damaged; run data precompute again"
            )
        self._file_count = len({clip.name for clip in clips})
        self.encoders = {name: about[name] for name in ("autoencoder", "text_encoder") if about.get(name)}
        self._empty_text = about.get("empty_text")
        self._clips = clips
        rank_zero_info(f"data: {len(clips)} cached clips of {self._file_count} files in {folder}")
        return clips

    def train_dataset(self) -> "LatentDataset":
        """All views of the training clips."""
        return self._dataset(self._sides()[0])

    def validation_dataset(self) -> "LatentDataset":
        """The middles of the validation clips."""
        return self._dataset(self._sides()[1][: self.validation_size])

    def buckets(self, dataset: Any) -> list[Bucket]:
        """The clips of each size."""
        by_size: dict[Size, list[int]] = {}
        for index, clip in enumerate(dataset.clips):
            by_size.setdefault(clip.size, []).append(index)
        return [
            Bucket(
                name_of(size),
                by_size[size],
                self.batch_size_of(size),
                # The middles are ordered as the clips themselves would be.
                keys=keys_of(_view_name(dataset.clips[index]) for index in by_size[size]),
            )
            for size in sorted(by_size)
        ]

    def _sides(self) -> tuple[list[CachedClip], list[CachedClip]]:
        clips = self.clips()
        middles = {clip.name: clip for clip in clips if clip.view == 0}
        training, validation = split([clip.as_clip() for clip in middles.values()], self.validation_share)
        chosen = {clip.name for clip in training}
        return [clip for clip in clips if clip.name in chosen], [middles[clip.name] for clip in validation]

    def _dataset(self, clips: list[CachedClip]) -> "LatentDataset":
        return LatentDataset(clips, self._places, self.fps, self._empty_text)

    def _check(self, about: dict[str, Any], clips: Sequence[CachedClip]) -> None:
        if about["fps"] != self.fps:
            raise ValueError(
                f"data.fps is {self.fps:g}, and {self.root} holds clips of {about['fps']:g}; set it to that"
            )
        bound = (self.frames, self.height, self.width)
        for size in {clip.size for clip in clips}:
            if any(side > limit for side, limit in zip(size, bound, strict=True)):
                raise ValueError(
                    f"{self.root} holds clips of {name_of(size)} (frames x height x width), and data.frames,"
                    f" data.height and data.width allow {name_of(bound)}; raise those"
                )


def _view_name(clip: CachedClip) -> str:
    return f"{clip.name} {clip.view}" if clip.view else clip.name


class LatentDataset:
    """Cached clips, read a batch at a time.

    Args:
        clips: Which ones.
        places: Where the tensors are, by name.
        fps: Frames per second of the clips.
        empty_text: Name of the tensor of the empty caption.
    """

    def __init__(
        self, clips: Sequence[CachedClip], places: dict[str, Place], fps: float, empty_text: str | None
    ) -> None:
        self.clips = clips
        self.places = places
        self.fps = fps
        self.empty_text = empty_text
        self._reader = TensorReader()

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.clips)

    def __getitem__(self, index: int) -> Sample:
        """The clip at `index`."""
        clip = self.clips[index]
        sample = Sample(
            latents=self._reader.read(self.places[clip.latents]),
            caption=clip.caption,
            fps=self.fps,
            source=clip.source,
            attributes=clip.attributes,
        )
        if clip.text is not None:
            sample["text"] = self._reader.read(self.places[clip.text])
        return sample

    def read_batch(self, draws: Sequence[Draw]) -> Batch:
        """Several clips of one size, their latents read straight into their place in the batch."""
        clips = [self.clips[draw.index] for draw in draws]
        batch = Batch(
            latents=self._reader.stack([self.places[clip.latents] for clip in clips]),
            caption=[clip.caption for clip in clips],
            fps=[self.fps] * len(clips),
            source=[clip.source for clip in clips],
            attributes=[clip.attributes for clip in clips],
            skipped=[],
        )
        names = [clip.text for clip in clips]
        if self.empty_text is not None and all(names):
            texts = [self.places[name] for name in (*names, self.empty_text) if name]
            batch["text"] = Texts(self._reader.join(texts), [place.shape[0] for place in texts])
        return batch


class Texts:
    """The texts of a batch, each `(L, E)`, in one tensor: from a worker to the trainer every tensor costs an open file.

    Args:
        joined: `(sum of L, E)`, one after the other.
        lengths: L of each.
    """

    def __init__(self, joined: Tensor, lengths: list[int]) -> None:
        self.joined = joined
        self.lengths = lengths

    def __len__(self) -> int:
        """How many there are."""
        return len(self.lengths)

    def __iter__(self) -> Iterator[Tensor]:
        """Each of them."""
        return iter(self.joined.split(self.lengths))

    def pin_memory(self) -> "Texts":
        """A copy in page-locked memory (asked for by torch's loader)."""
        return Texts(self.joined.pin_memory(), self.lengths)

    def to(self, device: torch.device) -> "Texts":
        """A copy on a device (asked for by Lightning)."""
        return Texts(self.joined.to(device, non_blocking=self.joined.is_pinned()), self.lengths)
