"""The data module of media files, whatever holds them: it looks at `root` and says what it found."""

import logging
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_info

from lingen_kit.data.base import VideoDataModule, require_share
from lingen_kit.data.buckets import Buckets, Size, choose_size, name_of
from lingen_kit.data.clip import Clip, Index, split
from lingen_kit.data.clip_dataset import ClipDataset
from lingen_kit.data.layouts import read_index
from lingen_kit.data.media import Kind, VideoInfo
from lingen_kit.data.order import keys_of
from lingen_kit.data.probing import probe_clips
from lingen_kit.data.sampler import Bucket

_log = logging.getLogger(__name__)


class AutoData(VideoDataModule):
    """Videos and images with captions: a folder in any usual layout, a manifest, or shards.

    The layout is detected and named: `metadata.jsonl`, `.csv` or `.parquet` with `file_name` and `text` (Hugging Face),
    a CSV with `path` and `text` (Open-Sora), a `.txt` file beside each clip, or WebDataset shards, local or behind a
    URL. Files that cannot be read or have no caption are skipped, counted and named, and past `max_bad_share` training
    stops. Which clips are for validation follows from their names; in a small folder both sides still get at least
    one, and a single clip serves as both.

    Args:
        root: A folder (its subfolders belong to it, linked ones too), a manifest, a shard, a pattern of shards such as
            `shards/{000..012}.tar`, or their URL.
        buckets: Several sizes of clips, each file in the one that fits it best; a single size if null. Images are used
            where a size has 1 frame.
        validation_share: About this share of the clips is kept for validation.
        short: What becomes of files shorter than a clip: `skip` counts them as unusable, `hold` repeats their
            last frame.
        crop: Where training crops the picture to the aspect ratio of the clip: in the `center`, or anywhere (`random`).
        flip: Share of the training clips that are mirrored; one whose caption names left or right never is.
        decoder: What decodes: `pyav`, which brings its own FFmpeg, or `torchcodec`, if it is installed.
        options: Those of every data module, see `VideoDataModule`.
    """

    def __init__(
        self,
        root: str,
        buckets: Buckets | None = None,
        validation_share: float = 0.1,
        short: Literal["skip", "hold"] = "skip",
        crop: Literal["center", "random"] = "center",
        flip: float = 0.0,
        decoder: Literal["pyav", "torchcodec"] = "pyav",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        require_share("validation_share", validation_share)
        if not 0 <= flip <= 1:
            raise ValueError(f"data.flip is {flip}; it is a share between 0 and 1")
        bound = (self.frames, self.height, self.width)
        self.root = root
        self.sizes = [bound] if buckets is None else buckets.list_sizes(bound)
        self.enlarge = buckets is None or buckets.enlarge
        self.validation_share = validation_share
        self.short: Literal["skip", "hold"] = short
        self.crop: Literal["center", "random"] = crop
        self.flip = flip
        self.decoder: Literal["pyav", "torchcodec"] = decoder
        self._clips: list[Clip] | None = None
        self._ignored: list[tuple[str, str]] = []
        self._sizes: dict[Clip, Size] = {}
        self._seconds: dict[Clip, float] = {}
        self._sides: tuple[list[Clip], list[Clip]] | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What is looked for in `root`."""
        return ("video", "image") if any(size[0] == 1 for size in self.sizes) else ("video",)

    def read_indices(self) -> list[Index]:
        """What is in `root`; a data module with several roots gives several."""
        return [read_index(self.root, self.kinds)]

    def assign(self, clip: Clip, info: VideoInfo) -> Size | str:
        """The size that a clip is cut to, or the reason why it is left out."""
        seconds = clip.seconds(info.duration)
        if seconds <= 0:
            return f"its stretch begins at {clip.start:.2f} s, and the file ends at {info.duration:.2f} s"
        hold, enlarge = self.short == "hold", self.enlarge
        return choose_size(self.sizes, info, clip.kind or "video", seconds, self.fps, hold=hold, enlarge=enlarge)

    def prepare_data(self) -> None:
        """Look into the files where there is a choice of sizes; other ranks find it done (Lightning's hook)."""
        if len(self.sizes) > 1:
            self.clips()

    def setup(self, stage: str) -> None:
        """List the files, so that what is wrong with them shows before training starts (Lightning's hook)."""
        super().setup(stage)
        self.clips()

    def clips(self) -> list[Clip]:
        """All clips that can be used as far as is known, in order; the first call lists and assigns them."""
        if self._clips is not None:
            return self._clips
        indices = self.read_indices()
        clips = [clip for index in indices for clip in index.clips]
        self._ignored = [entry for index in indices for entry in index.ignored]
        unusable = {path for index in indices for path, _ in index.unusable}
        self._file_count = len({str(clip.path) for clip in clips} | unusable)  # some hold several clips
        self.note_unusable(entry for index in indices for entry in index.unusable)
        for index in indices:
            rank_zero_info(f"data: {index.root}: {index.layout}")
            if index.ignored:
                path, reason = index.ignored[0]
                _log.warning("%d files in %s are ignored, such as %s: %s", len(index.ignored), index.root, path, reason)
        if len(self.sizes) > 1:
            clips = self._assigned(clips)
        else:
            self._sizes = dict.fromkeys(clips, self.sizes[0])
        self._clips = clips
        training, validation = self.sides()
        spare = f" ({self.validation_size} are used)" if len(validation) > self.validation_size else ""
        rank_zero_info(f"data: {len(training)} clips to train on, {len(validation)} to validate on{spare}")
        if not set(validation) - set(training):
            _log.warning("all clips are of one file, %s: they serve for training and for validation", clips[0].path)
        return clips

    def sides(self) -> tuple[list[Clip], list[Clip]]:
        """The clips for training and those for validation."""
        clips = self.clips()
        if self._sides is None:
            self._sides = self.split(clips)
        return self._sides

    def split(self, clips: list[Clip]) -> tuple[list[Clip], list[Clip]]:
        """Divide the clips into those for training and those for validation."""
        return split(clips, self.validation_share)

    def train_dataset(self) -> ClipDataset:
        """The training clips, at places that change from pass to pass."""
        training, validation = self.sides()
        return self.dataset_of(training, vary=True, others=validation)

    def validation_dataset(self) -> ClipDataset:
        """The validation clips, each from its middle."""
        training, validation = self.sides()
        shown, spare = validation[: self.validation_size], validation[self.validation_size :]
        return self.dataset_of(shown, vary=False, others=spare + training)

    def buckets(self, dataset: Any) -> list[Bucket]:
        """The clips of each size."""
        repeats = self.repeats(dataset)
        sizes = sorted(dataset.by_size)
        return [
            Bucket(
                name_of(size),
                dataset.by_size[size],
                self.batch_size_of(size),
                repeats.get(size, Fraction(1)),
                keys=keys_of(dataset.clips[index].name for index in dataset.by_size[size]),
            )
            for size in sizes
        ]

    def repeats(self, dataset: ClipDataset) -> dict[Size, Fraction]:
        """How often the clips of a size come in a pass over the data, where it is not once."""
        del dataset
        return {}

    def skipped_report(self) -> list[tuple[str, str]]:
        """Each file that could not be used so far or is not part of the data, with the reason."""
        self.clips()
        return super().skipped_report() + self._ignored

    def _assigned(self, clips: Sequence[Clip]) -> list[Clip]:
        """The clips that a size fits; the others are noted with the reason."""
        bad: list[tuple[str, str]] = []
        for clip, info in probe_clips(clips, self.num_workers):
            size = info if isinstance(info, str) else self.assign(clip, info)
            if isinstance(size, str) or isinstance(info, str):
                bad.append((str(clip.path), str(size)))
                continue
            self._sizes[clip] = size
            self._seconds[clip] = clip.seconds(info.duration)
        self.note_unusable(bad)
        if not self._sizes:
            raise ValueError(f"none of the {len(clips)} clips in {self.root} can be used; the first: {bad[0]}")
        counts = Counter(self._sizes.values())
        for size in self.sizes:
            rank_zero_info(f"  bucket {name_of(size)}: {counts[size]} clips, {self.batch_size_of(size)} a batch")
        return [clip for clip in clips if clip in self._sizes]

    def dataset_of(self, clips: Sequence[Clip], *, vary: bool, others: Sequence[Clip] = ()) -> ClipDataset:
        """Samples of some of the clips; see `ClipDataset`."""
        return ClipDataset(
            clips,
            [self._sizes[clip] for clip in clips],
            fps=self.fps,
            seed=self.seed,
            vary=vary,
            short=self.short,
            crop=self.crop,
            flip=self.flip,
            decoder=self.decoder,
            durations={i: self._seconds[clip] for i, clip in enumerate(clips) if clip in self._seconds},
            others=others,
        )
