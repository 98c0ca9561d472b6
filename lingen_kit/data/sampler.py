"""The order of the samples: one endless stream, a pure function of (seed, position).

Training reads a single sequence of samples: the shuffled data set, then the data set in another shuffle, and
so on without end. A batch is the next stretch of that sequence, so

- each sample comes exactly once per pass, and nothing is dropped at the end of a pass;
- to resume is to start at a position, whatever was prefetched and however many workers read;
- a data set smaller than a batch trains too: its batches run on into the next passes;
- ranks cut one global batch between them, so the order does not depend on how many there are.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Draw:
    """One sample to fetch.

    Attributes:
        index: Which sample of the data set.
        epoch: In which pass over the data set, from 0; random crops and start times depend on it.
    """

    index: int
    epoch: int


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part: nearby inputs give unrelated seeds."""
    text = ":".join(str(part) for part in parts)
    data = text.encode(errors="backslashreplace")  # a file's name need not be UTF-8
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest()) >> 1


class SampleOrder:
    """The endless stream of samples, addressed by position.

    Args:
        length: Samples in the data set.
        seed: Another seed gives another shuffle.

    Raises:
        ValueError: If the data set is empty.
    """

    def __init__(self, length: int, seed: int) -> None:
        if length < 1:
            raise ValueError(f"the data set has {length} samples; training needs at least 1")
        self.length = length
        self.seed = seed
        self._epoch = -1
        self._permutation: Tensor = torch.empty(0, dtype=torch.int64)

    def __getitem__(self, position: int) -> Draw:
        """The sample at a position of the stream, counted from 0."""
        if position < 0:
            raise IndexError(f"position {position} is before the start of the stream")
        epoch, offset = divmod(position, self.length)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derive_seed("order", self.seed, epoch))
            self._permutation = torch.randperm(self.length, generator=generator)
            self._epoch = epoch
        return Draw(index=int(self._permutation[offset]), epoch=epoch)


class StreamBatches:
    """A batch sampler over the endless stream: this rank's share of each global batch, from `start` on.

    Args:
        order: The stream.
        batch_size: Samples per rank and step.
        rank: This process among `world_size`.
        world_size: Processes that train together.
        start: Samples that all ranks together have already taken.
        period: Start over after this many samples of the stream: repeat the same few batches, to overfit
            them.
    """

    def __init__(
        self,
        order: SampleOrder,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        period: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not among {world_size} processes")
        self.order = order
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.start = start
        self.period = period

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield this rank's batches without end."""
        first = self.start + self.rank * self.batch_size
        while True:
            positions = range(first, first + self.batch_size)
            if self.period is not None:
                yield [self.order[position % self.period] for position in positions]
            else:
                yield [self.order[position] for position in positions]
            first += self.batch_size * self.world_size


class FixedBatches:
    """A batch sampler that goes through the data set once, in order: for validation.

    With several ranks each takes every `world_size`-th sample. So that all ranks run equally many steps, the
    first samples are repeated where the data set does not divide; with one rank nothing is repeated.

    Args:
        length: Samples in the data set.
        batch_size: Samples per rank and step; the last batch may be smaller.
        rank: This process among `world_size`.
        world_size: Processes that validate together.
    """

    def __init__(self, length: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        padded = -(-length // world_size) * world_size
        indices = [position % length for position in range(rank, padded, world_size)]
        self.batches = [
            [Draw(index, epoch=0) for index in indices[first : first + batch_size]]
            for first in range(0, len(indices), batch_size)
        ]

    def __len__(self) -> int:
        """Batches of this rank."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield this rank's batches once."""
        return iter(self.batches)
