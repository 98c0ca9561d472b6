"""The data module of a folder of real clips with captions."""

import logging
from pathlib import Path
from typing import Literal

from lingen_kit.data.base import VideoDataModule, name_some
from lingen_kit.data.clip import Clip, Index, split
from lingen_kit.data.decode import probe, read_clip
from lingen_kit.data.layouts.folder import index_folder
from lingen_kit.data.media import FilePart, UnreadableVideo
from lingen_kit.data.sample import Sample
from lingen_kit.data.sampler import derive_seed

_log = logging.getLogger(__name__)


class NothingReadable(ValueError):
    """Not one file of a data set can be read."""


class ClipDataset:
    """Clips of files: of each file one stretch, at a place that training changes from pass to pass.

    A file that cannot be read is replaced by the next one that can, and named in the sample's `skipped`.
    Which sample comes out depends on the arguments, `index` and `epoch` alone.

    Args:
        clips: The files, at least one.
        frames: T.
        height: H.
        width: W.
        fps: Frames per second of a clip.
        seed: Of the places.
        random_start: Take a stretch anywhere in the file, another one in each pass; otherwise from its
            middle.
        short: What becomes of files shorter than a clip, see `read_clip`.
        others: Files of the folder that are not in this data set. If none of `clips` can be read, the error
            names those of them, too, that cannot: with a whole folder of broken files all are named at once.
    """

    def __init__(
        self,
        clips: list[Clip],
        *,
        frames: int,
        height: int,
        width: int,
        fps: float,
        seed: int,
        random_start: bool,
        short: Literal["hold", "skip"] = "skip",
        others: list[Clip] | None = None,
    ) -> None:
        self.clips = clips
        self.others = others or []
        self.frames = frames
        self.height = height
        self.width = width
        self.fps = fps
        self.seed = seed
        self.random_start = random_start
        self.short: Literal["hold", "skip"] = short
        self._durations: dict[Path | FilePart, float] = {}

    def __len__(self) -> int:
        """Number of files."""
        return len(self.clips)

    def __getitem__(self, index: int) -> Sample:
        """The sample at `index` in the first pass."""
        return self.draw(index, epoch=0)

    def draw(self, index: int, epoch: int) -> Sample:
        """The sample at `index` in a pass over the files.

        Raises:
            NothingReadable: If not one of the files can be read; it names them.
        """
        skipped: list[tuple[str, str]] = []
        for place in range(index, index + len(self.clips)):
            clip = self.clips[place % len(self.clips)]
            try:
                sample = self._read(clip, epoch)
            except UnreadableVideo as error:
                skipped.append((error.path, error.reason))
                continue
            if skipped:
                sample["skipped"] = skipped
            return sample
        for clip in self.others:
            try:
                self._read(clip, epoch)
            except UnreadableVideo as error:
                skipped.append((error.path, error.reason))
            else:  # the rest may be many, and most of them fine
                break
        bad = dict(skipped)  # a clip with two captions, or one that is on both sides of the split, counts once
        raise NothingReadable(
            f"no clip is left for training or for validation, as {len(bad)} cannot be read; repair, replace or remove"
            f" these:\n{name_some(bad.items())}"
        )

    def _read(self, clip: Clip, epoch: int) -> Sample:
        if clip.path not in self._durations:
            self._durations[clip.path] = probe(clip.path).duration
        latest = max(0.0, self._durations[clip.path] - self.frames / self.fps)
        share = derive_seed("start", self.seed, epoch, clip.name) / 2**63 if self.random_start else 0.5
        video = read_clip(
            clip.path,
            frames=self.frames,
            fps=self.fps,
            height=self.height,
            width=self.width,
            start=latest * share,
            short=self.short,
        )
        return Sample(video=video, caption=clip.caption, fps=self.fps, source=str(clip.path), attributes={})


class VideoFolder(VideoDataModule):
    """Video files with captions, from a folder.

    Captions come from `metadata.jsonl` in the folder, one line `{"file_name": "a.mp4", "text": "..."}` per
    clip, or from a `.txt` file beside each clip. Files that cannot be read or have no caption are skipped,
    counted and named, and past `max_bad_share` training stops. Which clips are for validation follows from
    their names; in a small folder both sides still get at least one, and a single clip serves as both.

    Args:
        root: The folder; its subfolders belong to it, linked ones too.
        frames: Frames of a clip. With 1, images count as clips.
        height: Pixels from top to bottom; clips are cropped in the middle and resized.
        width: Pixels from left to right.
        fps: Frames per second of a clip, whatever the rate of its file.
        batch_size: Clips per device and step.
        num_workers: Processes that decode; 0 decodes in the training process.
        seed: Of the order of the clips, and of the stretch of each file that is shown.
        validation_size: Validate on at most this many clips, always the same stretches.
        validation_share: About this share of the clips is kept for validation.
        short: What becomes of files shorter than a clip: `skip` counts them as unusable, `hold` repeats their
            last frame.
        max_bad_share: Stop when more than this share of the files turns out to be unusable; the files are
            named.
    """

    def __init__(
        self,
        root: str,
        frames: int = 8,
        height: int = 32,
        width: int = 32,
        fps: float = 8.0,
        batch_size: int = 24,
        num_workers: int = 0,
        seed: int = 0,
        validation_size: int = 64,
        validation_share: float = 0.1,
        short: Literal["skip", "hold"] = "skip",
        max_bad_share: float = 0.05,
    ) -> None:
        super().__init__(
            frames=frames,
            height=height,
            width=width,
            fps=fps,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            validation_size=validation_size,
            max_bad_share=max_bad_share,
        )
        if not 0 < validation_share < 1:
            raise ValueError(f"data.validation_share is {validation_share}; it is a share between 0 and 1")
        self.root = root
        self.validation_share = validation_share
        self.short: Literal["skip", "hold"] = short
        self._index: Index | None = None

    def setup(self, stage: str) -> None:
        """List the folder, so that what is wrong with it shows before training starts (Lightning's hook)."""
        super().setup(stage)
        self._folder()

    def train_dataset(self) -> ClipDataset:
        """The training clips, at places that change from pass to pass."""
        training, validation = split(self._folder().clips, self.validation_share)
        return self._dataset(training, random_start=True, others=validation)

    def validation_dataset(self) -> ClipDataset:
        """The validation clips, each from its middle."""
        training, validation = split(self._folder().clips, self.validation_share)
        shown, spare = validation[: self.validation_size], validation[self.validation_size :]
        return self._dataset(shown, random_start=False, others=spare + training)

    def skipped_report(self) -> list[tuple[str, str]]:
        """Each file that could not be used so far or is not part of the data, with the reason."""
        return super().skipped_report() + self._folder().ignored

    def _dataset(self, clips: list[Clip], random_start: bool, others: list[Clip]) -> ClipDataset:
        return ClipDataset(
            clips,
            frames=self.frames,
            height=self.height,
            width=self.width,
            fps=self.fps,
            seed=self.seed,
            random_start=random_start,
            short=self.short,
            others=others,
        )

    def _folder(self) -> Index:
        if self._index is None:
            index = index_folder(self.root, images=self.frames == 1)
            self._file_count = len(index.clips) + len(index.unusable)
            self.note_unusable(index.unusable)
            if index.ignored:
                path, reason = index.ignored[0]
                count = len(index.ignored)
                _log.warning("%d files in %s are ignored, such as %s: %s", count, self.root, path, reason)
            if len({clip.name for clip in index.clips}) == 1:
                _log.warning("%s holds a single clip; it serves for training and for validation", self.root)
            self._index = index
        return self._index
