"""What all data modules share: the size of a clip, the resumable order, the count of unusable files."""

import json
import logging
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn

from lingen_kit.data.buckets import Size, name_of, tokens_in
from lingen_kit.data.clip import first_of
from lingen_kit.data.loader import SampleDataset, TrainingLoader, ValidationLoader
from lingen_kit.data.sample import Batch, to_float
from lingen_kit.data.sampler import Bucket, Schedule
from lingen_kit.data.seeds import derive_seed

_log = logging.getLogger(__name__)

_NOTHING: dict[str, Any] = {"batches": 0, "step": 0, "schedule": None, "begun": {}, "places": {}}


class TooManyUnusable(ValueError):
    """More of the files than `max_bad_share` could not be used."""


def require_share(name: str, value: float) -> None:
    """Check the option that says which share of the samples validates.

    Raises:
        ValueError: If one of both sides would stay empty.
    """
    if not 0 < value < 1:
        raise ValueError(
            f"data.{name} is {value}; it must be above 0 and below 1, such as 0.1 (a small one keeps a single file, and"
            " --trainer.limit_val_batches 0 does without validation)"
        )


def _named(entries: Mapping[str, str]) -> str:
    return first_of(f"  {source}: {reason}" for source, reason in entries.items())


class VideoDataModule(LightningDataModule):
    """Videos with captions for training and validation.

    The order of the training samples is one endless stream (`lingen_kit.data.sampler`). A checkpoint stores
    how far training has come in it; `fit --ckpt_path` goes on at the next sample, in the middle of an epoch too, with
    any number of workers, and even with another batch size. Leave `Trainer(use_distributed_sampler)` alone: the
    stream is already divided between the ranks.

    Args:
        frames: Frames of a clip.
        height: Pixels from top to bottom.
        width: Pixels from left to right.
        fps: Frames per second of a clip.
        batch_size: Clips per device and step.
        num_workers: Processes that prepare batches; 0 prepares them in the training process.
        seed: Of the order of the training samples, and of what is random in them.
        validation_size: Validate on at most this many clips, always the same ones.
        batch_tokens: Tokens per device and step, instead of `batch_size`: as many clips of a size as fit, at least 1.
        token_size: Frames, rows and columns of pixels that make a token, for `batch_tokens`.
        max_bad_share: Stop when more than this share of the files turns out to be unusable; the files are
            named.
    """

    def __init__(
        self,
        frames: int = 8,
        height: int = 32,
        width: int = 32,
        fps: float = 8.0,
        batch_size: int = 24,
        num_workers: int = 0,
        seed: int = 0,
        validation_size: int = 64,
        batch_tokens: int | None = None,
        token_size: tuple[int, int, int] = (1, 1, 1),
        max_bad_share: float = 0.05,
    ) -> None:
        super().__init__()
        least: dict[str, tuple[float, float]] = {
            "frames": (frames, 1),
            "height": (height, 1),
            "width": (width, 1),
            "batch_size": (batch_size, 1),
            "num_workers": (num_workers, 0),
            "validation_size": (validation_size, 1),
            "batch_tokens": (1 if batch_tokens is None else batch_tokens, 1),
            "token_size": (min(token_size), 1),
        }
        for name, (value, minimum) in least.items():
            if value < minimum:
                raise ValueError(f"data.{name} is {value}; it must be at least {minimum}")
        if not 0 < fps < math.inf:
            raise ValueError(f"data.fps is {fps}; it must be above 0 and finite, such as 8")
        if not 0 <= max_bad_share <= 1:
            raise ValueError(f"data.max_bad_share is {max_bad_share}; it is a share between 0 and 1")
        tokens = tokens_in((frames, height, width), token_size)
        if batch_tokens is not None and tokens > batch_tokens and max(token_size) == 1:
            rank_zero_warn(
                f"data.batch_tokens is {batch_tokens}, and with data.token_size [1, 1, 1] each pixel of each frame is a"
                f" token: a clip of {name_of((frames, height, width))} has {tokens}, and its batches hold 1. Set"
                " data.token_size to the pixels of a token of the model (its patch, times what the autoencoder"
                " compresses), such as [1, 4, 4]"
            )
        self.frames = frames
        self.height = height
        self.width = width
        self.fps = fps
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.validation_size = validation_size
        self.batch_tokens = batch_tokens
        self.token_size = token_size
        self.max_bad_share = max_bad_share
        self._unusable: dict[str, str] = {}
        self._file_count = 0  # a data module that reads files sets it before it notes any as unusable
        self._restored: dict[str, Any] = dict(_NOTHING)
        self._schedule: Schedule | None = None
        self.report_file: Path | None = None

    @abstractmethod
    def train_dataset(self) -> SampleDataset:
        """The clips to train on."""

    @abstractmethod
    def validation_dataset(self) -> SampleDataset:
        """The clips to validate on, at most `validation_size`."""

    def buckets(self, dataset: SampleDataset) -> list[Bucket]:
        """Which samples of a data set may share a batch: all, unless a data module knows several sizes."""
        return [Bucket("all", range(len(dataset)), self.batch_size_of((self.frames, self.height, self.width)))]

    def batch_size_of(self, size: Size) -> int:
        """Clips of a size per device and step."""
        if self.batch_tokens is None:
            return self.batch_size
        return max(1, self.batch_tokens // tokens_in(size, self.token_size))

    def train_dataloader(self) -> TrainingLoader:
        """Batches of `train_dataset`, going on where the checkpoint stopped."""
        dataset = self.train_dataset()
        buckets = self.buckets(dataset)
        self._compare_ranks(buckets)
        self._schedule = Schedule(buckets, self._world_size(), self.seed)
        self._go_on(self._schedule)
        return TrainingLoader(
            dataset,
            self._schedule,
            num_workers=self.num_workers,
            rank=self._rank(),
            position=self.step if self.trainer is not None else None,
            overfit=self._overfit_batches(),
            watch=self._watch,
            pin_memory=self.trainer is not None and torch.cuda.is_available(),
        )

    def val_dataloader(self) -> ValidationLoader:
        """Batches of `validation_dataset`, always in the same order."""
        dataset = self.validation_dataset()
        buckets = self.buckets(dataset)
        self._compare_ranks(buckets)
        return ValidationLoader(
            dataset,
            buckets,
            num_workers=self.num_workers,
            rank=self._rank(),
            world_size=self._world_size(),
            watch=self._watch,
            pin_memory=self.trainer is not None and torch.cuda.is_available(),
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Turn 8-bit levels into float32 where the batch has arrived, which is faster on a GPU (Lightning's hook)."""
        if "video" in batch and batch["video"].dtype == torch.uint8:
            video = to_float(batch["video"])
            # Lightning converts batches to the run's precision before they travel, and left the levels alone.
            batch["video"] = video if self.trainer is None else self.trainer.precision_plugin.convert_input(video)
        return batch

    def test_dataloader(self) -> ValidationLoader:
        """The validation batches: there is no third split."""
        return self.val_dataloader()

    def predict_dataloader(self) -> ValidationLoader:
        """The validation batches: their captions are sampled."""
        return self.val_dataloader()

    def step(self) -> int:
        """Steps of the schedule that were trained on.

        Derived from Lightning's own count of processed batches, so the two cannot disagree: a batch that was
        fetched but not trained on when a run was interrupted is fetched again.
        """
        return int(self._restored["step"]) + self._batches_trained() - int(self._restored["batches"])

    def setup(self, stage: str) -> None:
        """Forget the position of an earlier run when a new one starts from nothing (Lightning's hook)."""
        if stage == "fit" and self._batches_trained() == 0:
            self._restored = dict(_NOTHING)

    def state_dict(self) -> dict[str, Any]:
        """The position in the stream, for the checkpoint."""
        if self._schedule is None:
            return {**self._restored}
        return {
            "batches": self._batches_trained(),
            "step": self.step(),
            "schedule": self._schedule.fingerprint,
            "begun": dict(self._schedule.begun),
            # Plain tuples: checkpoints are read as data only.
            "places": {name: tuple(place) for name, place in self._schedule.places_before(self.step()).items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the position of a checkpoint."""
        self._restored = {**_NOTHING, **state_dict}
        if self._schedule is not None:  # who asks for the number of steps early has the loader made before this
            self._go_on(self._schedule)

    def _go_on(self, schedule: Schedule) -> None:
        """Let a schedule go on where the checkpoint stopped, with the next samples where buckets or batches differ."""
        then = self._restored
        if then["schedule"] in (None, schedule.fingerprint):
            schedule.begun |= then["begun"]
            return
        schedule.begin_at(then["places"])
        begun = {"begun": dict(schedule.begun), "schedule": schedule.fingerprint}
        self._restored = {**then, "step": 0, **begun}
        rank_zero_warn(
            "files, buckets or batches have changed since the checkpoint: training goes on with the samples of each"
            " bucket that this pass has not seen; some new ones first come in the next pass"
        )

    def skipped_report(self) -> list[tuple[str, str]]:
        """Each file that could not be used so far, with the reason, in the order of discovery."""
        return list(self._unusable.items())

    def summary(self) -> str | None:
        """How many files could not be used so far and where they are named; None if there were none."""
        if not self._unusable:
            return None
        count = f"{len(self._unusable)} of {self._file_count} files skipped"
        return f"{count}, see {self.report_file}" if self.report_file else f"{count}:\n{_named(self._unusable)}"

    def note_unusable(self, entries: Iterable[tuple[str, str]]) -> None:
        """Count files that cannot be used, given as (source, reason): each once; the first of them are logged.

        Raises:
            TooManyUnusable: If more than `max_bad_share` of the files are.
        """
        new = {source: reason for source, reason in entries if source not in self._unusable}
        self._unusable |= new
        if new:
            _log.warning("skipped %s", _named(new).strip() if len(new) == 1 else f"{len(new)} files:\n{_named(new)}")
        self._write_report(new)
        if len(self._unusable) > self.max_bad_share * self._file_count:
            raise TooManyUnusable(self._too_many())

    def _watch(self, batch: Batch) -> None:
        self.note_unusable(batch["skipped"])

    def keep_report(self, folder: Path) -> None:
        """Write each file that cannot be used, with the reason, to `skipped.jsonl` in a folder, from now on."""
        rank = 0 if self.trainer is None else self.trainer.global_rank
        self.report_file = folder / ("skipped.jsonl" if rank == 0 else f"skipped-{rank}.jsonl")
        self._write_report(self._unusable)

    def _write_report(self, entries: dict[str, str]) -> None:
        if self.report_file is None or not entries:
            return
        self.report_file.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"source": source, "reason": reason}) + "\n" for source, reason in entries.items()]
        with self.report_file.open("a+", encoding="utf-8") as file:
            file.seek(0)
            written = set(file)  # by the run that this one continues
            file.write("".join(line for line in lines if line not in written))

    def _too_many(self) -> str:
        bad, total = len(self._unusable), self._file_count
        return (
            f"{bad} of {total} files ({bad / total:.0%}) cannot be used, and data.max_bad_share allows"
            f" {self.max_bad_share:.0%}; repair or remove these, or allow more with --data.max_bad_share:\n"
            + _named(self._unusable)
            + (f"\n  all of them: {self.report_file}" if self.report_file else "")
        )

    def _batches_trained(self) -> int:
        if self.trainer is None:
            return 0
        processed: int = self.trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]
        return processed

    def _compare_ranks(self, buckets: Sequence[Bucket]) -> None:
        """Stop where ranks have listed different samples: they would wait for each other for ever, or train wrongly.

        Raises:
            ValueError: On all ranks alike, naming those that differ from the first.
        """
        if self.trainer is None or self.trainer.world_size == 1:
            return
        content = derive_seed(*(f"{bucket.name} {len(bucket.members)} {bucket.content}" for bucket in buckets))
        mine = torch.tensor(
            [content, sum(len(bucket.members) for bucket in buckets)], device=self.trainer.strategy.root_device
        )
        ranks = self.trainer.strategy.all_gather(mine).view(-1, 2).tolist()
        others = [f"rank {rank} {ranks[rank][1]}" for rank in range(len(ranks)) if ranks[rank] != ranks[0]]
        if others:
            raise ValueError(
                f"the ranks have listed different samples: rank 0 has {ranks[0][1]}, {', '.join(others)}; all must see"
                " the same, finished data: give each machine the same files"
            )

    def _rank(self) -> int:
        return 0 if self.trainer is None else self.trainer.global_rank // self._sharing()

    def _world_size(self) -> int:
        return 1 if self.trainer is None else self.trainer.world_size // self._sharing()

    def _sharing(self) -> int:
        """Ranks that are given the same samples: a task with context parallelism splits a video over them."""
        task = None if self.trainer is None else self.trainer.lightning_module
        return getattr(task, "context_parallel", 1)

    def _overfit_batches(self) -> int:
        wanted: int | float = getattr(self.trainer, "overfit_batches", 0)
        if isinstance(wanted, float) and wanted:
            raise ValueError(f"trainer.overfit_batches is {wanted}; give a whole number of batches, such as 1")
        return int(wanted)
