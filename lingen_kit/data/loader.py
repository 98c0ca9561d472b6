"""Loaders: a torch DataLoader behind the little that Lightning asks of one.

They are not subclasses of DataLoader, for three reasons. One DataLoader iterator runs through all of
training, so workers start once and nothing they prefetched is lost between Lightning's epochs. Lightning
re-creates DataLoaders with samplers of its own (for several devices, for `overfit_batches`), which would lose
our order. And `num_workers=0` is a sound choice for procedural data, which Lightning would warn about on each
run.
"""

import ctypes
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from lingen_kit.data.order import Draw
from lingen_kit.data.sample import Batch, Sample, collate, to_float
from lingen_kit.data.sampler import Bucket, FixedBatches, Schedule, StreamBatches

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # malloc.h
_LARGE = 256 << 10


class SampleDataset(Protocol):
    """What a data set must offer: a length, and samples by index, the same one each time."""

    def __len__(self) -> int:
        """Samples in the data set."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """The sample at `index`."""
        ...


class VaryingDataset(SampleDataset, Protocol):
    """A data set whose samples differ from pass to pass (random start times, crops), reproducibly."""

    def draw(self, index: int, epoch: int) -> Sample:
        """The sample at `index` as the pass `epoch` over the data sees it."""
        ...


class _Drawn(Dataset[Sample | ValueError]):
    """A data set addressed by `Draw`, as the batch samplers of this kit yield them."""

    def __init__(self, samples: SampleDataset | VaryingDataset) -> None:
        self.samples = samples

    def __getitem__(self, draw: Draw) -> Sample | ValueError:
        vary: Callable[[int, int], Sample] | None = getattr(self.samples, "draw", None)
        try:
            return self.samples[draw.index] if vary is None else vary(draw.index, draw.epoch)
        except ValueError as error:
            # Bad input. Raised in a worker it would reach the user as a traceback within a traceback.
            return error

    def __getitems__(self, draws: list[Draw]) -> list[Sample | ValueError] | Batch | ValueError:
        """A whole batch, as torch's loader asks for it; some data sets read one faster than its samples."""
        read_batch: Callable[[list[Draw]], Batch] | None = getattr(self.samples, "read_batch", None)
        if read_batch is None:
            return [self[draw] for draw in draws]
        try:
            return read_batch(draws)
        except ValueError as error:
            return error


def _collate(fetched: list[Sample | ValueError] | Batch | ValueError) -> Batch | ValueError:
    if not isinstance(fetched, list):
        return fetched
    failure = next((sample for sample in fetched if isinstance(sample, ValueError)), None)
    return failure or collate([sample for sample in fetched if not isinstance(sample, ValueError)])


def _checked(batch: Batch | ValueError, keep_levels: bool) -> Batch:
    """The batch, its video as float32; where it goes to a GPU first, the levels of the pixels travel faster."""
    if isinstance(batch, ValueError):
        raise batch
    if not keep_levels and "video" in batch and batch["video"].dtype == torch.uint8:
        batch["video"] = to_float(batch["video"])
    return batch


def _prepare_worker(worker: int) -> None:
    """Leave Ctrl-C to the first process, and have large blocks of memory returned when they are freed.

    A terminal sends Ctrl-C to all processes, and a worker was forked with the handlers of training.
    glibc raises the size from which it returns a block with every such block, and the frames of videos of many sizes
    then leave holes that grow for hours; so do the arenas that it gives to each thread of a decoder. The tuning of
    other systems' allocators is left alone.
    """
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_ARENA_MAX, 1)


def _torch_loader(
    dataset: SampleDataset, batches: Iterable[list[Draw]], num_workers: int, pin_memory: bool
) -> DataLoader[Any]:
    return DataLoader(
        _Drawn(dataset),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        # Workers get their base seed from here: otherwise each loader would draw it from torch's global generator,
        # and a resumed run, which creates another number of loaders, would end up with other random numbers.
        generator=torch.Generator().manual_seed(0),
        worker_init_fn=_prepare_worker,
    )


def _ignore(batch: Batch) -> None:
    del batch


class TrainingLoader:
    """Reads the endless stream of a `Schedule`, one stretch of `len(self)` batches per iteration.

    Args:
        dataset: Where the samples come from.
        schedule: Which samples make the batch of a step.
        num_workers: Worker processes; 0 reads in this process.
        rank: This process among those that train together.
        position: Tells how many steps of the schedule have been trained on so far. Asked when an iteration takes its
            first batch; that is what makes a resumed run continue at the right sample. Without it the loader counts
            what it handed out.
        overfit: Repeat the first `overfit` batches; 0 for the whole stream.
        watch: Called with each batch, in this process, just before it is handed out.
        pin_memory: Place batches in page-locked memory, from which copies to a GPU are faster. Videos that were decoded
            stay 8-bit levels then, for `VideoDataModule` to convert on the GPU.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        schedule: Schedule,
        *,
        num_workers: int = 0,
        rank: int = 0,
        position: Callable[[], int] | None = None,
        overfit: int = 0,
        watch: Callable[[Batch], None] = _ignore,
        pin_memory: bool = False,
    ) -> None:
        self.dataset = dataset
        self.schedule = schedule
        self.num_workers = num_workers
        self._rank = rank
        self._position = position
        self._period = overfit or None
        self._watch = watch
        self._pin_memory = pin_memory
        self._next = 0
        # Lightning looks for a DataLoader's iterator under this name, to stop the workers when a run ends.
        self._iterator: Iterator[Batch | ValueError] | None = None

    def __len__(self) -> int:
        """Steps that Lightning counts as an epoch: one pass over the data, rounded down, but at least 1."""
        return self.schedule.steps_per_pass

    def __iter__(self) -> Iterator[Batch]:
        """Yield `len(self)` batches, going on where training is."""
        wanted = self._next if self._position is None else self._position()
        if self._iterator is None or wanted != self._next:
            self._next = wanted
            batches = StreamBatches(self.schedule, self._rank, wanted, self._period)
            self._iterator = iter(_torch_loader(self.dataset, batches, self.num_workers, self._pin_memory))
        for _ in range(len(self)):
            if self._iterator is None:  # the run ended and Lightning let go of the workers
                return
            batch = _checked(next(self._iterator), self._pin_memory)
            self._next += 1
            self._watch(batch)
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the position lives with the data module. Lightning takes the method to mean "can resume"."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to load, see `state_dict`."""


class ValidationLoader:
    """Goes through a data set once, in order; see `FixedBatches`.

    Args:
        dataset: Where the samples come from.
        buckets: Which of them may share a batch.
        num_workers: Worker processes; 0 reads in this process.
        rank: This process among `world_size`.
        world_size: Processes that validate together.
        watch: Called with each batch, in this process, just before it is handed out.
        pin_memory: Place batches in page-locked memory, from which copies to a GPU are faster. Videos that were decoded
            stay 8-bit levels then, for `VideoDataModule` to convert on the GPU.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        buckets: Sequence[Bucket],
        *,
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        watch: Callable[[Batch], None] = _ignore,
        pin_memory: bool = False,
    ) -> None:
        self.dataset = dataset
        self._batches = FixedBatches(buckets, rank, world_size)
        self._loader = _torch_loader(dataset, self._batches, num_workers, pin_memory)
        self._pin_memory = pin_memory
        self._watch = watch

    def __len__(self) -> int:
        """Batches of this rank."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of this rank, each with the places of its samples."""
        for fetched, places in zip(self._loader, self._batches.places, strict=True):
            batch = _checked(fetched, self._pin_memory)
            batch["places"] = places
            self._watch(batch)
            yield batch
