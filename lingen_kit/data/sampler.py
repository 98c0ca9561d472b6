"""The order of the samples: one endless stream of batches, a pure function of (seed, step).

A data set is divided into buckets, each of samples of one size; most have a single one. Every bucket is an endless
stream of its own: its samples shuffled, then in another shuffle, and so on. A step takes the next stretch of one
bucket's stream, and a schedule says whose turn it is. So

- each sample comes exactly once per pass (or as often as its bucket asks), and nothing is dropped at the end of a pass;
- to resume is to start at a step, whatever was prefetched and however many workers read;
- a bucket smaller than a batch trains too: its batches run on into the next passes;
- ranks cut one global batch between them, so the order does not depend on how many there are, and all of them work on
  samples of one size.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch

from lingen_kit.data.order import Draw, Keys, Place, SampleOrder
from lingen_kit.data.seeds import derive_seed


@dataclass(frozen=True)
class Bucket:
    """Samples of one size, which may share a batch.

    Attributes:
        name: Tells it apart from the others, in checkpoints too.
        members: The samples' indices in the data set.
        batch_size: Samples per rank and step.
        repeats: How often each of its samples comes in one pass over the data: 1, or another number where a ratio
            between kinds of samples was asked for.
        keys: Hashes of its members' names, see `keys_of`; None if they have none, as drawn samples.
    """

    name: str
    members: Sequence[int]
    batch_size: int
    repeats: Fraction = Fraction(1)
    keys: Keys | None = field(default=None, compare=False)

    @property
    def content(self) -> str:
        """Stands for what its members are called, in whatever order; empty if they have no names."""
        return "" if self.keys is None else hashlib.blake2b(np.sort(self.keys).tobytes(), digest_size=8).hexdigest()


class Schedule:
    """Which bucket's turn it is at each step, and how far its stream has come.

    In one pass over the data a bucket has `repeats * members / global batch` turns. What is left of a fraction goes to
    a later pass: after any number of passes no bucket is behind by a whole batch. The turns of a pass are shuffled.

    Args:
        buckets: At least one; those without members are left out.
        world_size: Processes that train together.
        seed: Of the order.

    Attributes:
        begun: Where the stream of each bucket, by name, begins: the position in it at the first step.
    """

    def __init__(self, buckets: Sequence[Bucket], world_size: int, seed: int) -> None:
        for bucket in buckets:
            if bucket.batch_size < 1:
                raise ValueError(f"batch_size is {bucket.batch_size}; it must be at least 1")
        self.buckets = [bucket for bucket in buckets if len(bucket.members)]
        if not self.buckets:
            raise ValueError("the data set has 0 samples; training needs at least 1")
        self.world_size = world_size
        self.seed = seed
        self.begun = {bucket.name: 0 for bucket in self.buckets}
        # Samples with names have one order whatever their bucket: keys of different buckets are unrelated.
        shared = len(self.buckets) == 1
        self._orders = [
            SampleOrder(
                len(bucket.members),
                seed if shared or bucket.keys is not None else derive_seed("bucket", seed, bucket.name),
                bucket.keys,
            )
            for bucket in self.buckets
        ]
        self._turns_per_pass = [
            bucket.repeats * len(bucket.members) / self.global_batch(i) for i, bucket in enumerate(self.buckets)
        ]
        self._steps = range(0)  # of the pass whose turns are known
        self._turns: list[tuple[int, int]] = []

    def begin_at(self, places: Mapping[str, Sequence[int | None]]) -> None:
        """Begin where the streams of an earlier schedule stood, by bucket: see `places_before`.

        Of samples with names, none that both schedules have is missed or comes twice in a pass; a new one that
        would have come before that place first comes in the next pass.
        """
        for bucket, order in zip(self.buckets, self._orders, strict=True):
            self.begun[bucket.name] = order.position(Place(*places.get(bucket.name, ())))  # type: ignore[arg-type]

    def global_batch(self, bucket: int) -> int:
        """Samples that all ranks together take from a bucket in its turn."""
        return self.buckets[bucket].batch_size * self.world_size

    @property
    def steps_per_pass(self) -> int:
        """Steps of one pass over the data, rounded down, but at least 1."""
        return max(1, int(sum(self._turns_per_pass)))

    @property
    def fingerprint(self) -> str:
        """Equal for schedules that give the same turns: how many ranks share a global batch makes no difference."""
        parts = (
            f"{bucket.name}/{len(bucket.members)}/{self.global_batch(i)}/{bucket.repeats}/{bucket.content}"
            for i, bucket in enumerate(self.buckets)
        )
        return hashlib.blake2b(f"{self.seed} {' '.join(parts)}".encode(), digest_size=8).hexdigest()

    def turn(self, step: int) -> tuple[int, int]:
        """Whose turn a step is: the place of the bucket in `buckets`, and the turns that it has had before."""
        if len(self.buckets) == 1:
            return 0, step
        if step not in self._steps:
            self._shuffle(self._pass_of(step))
        return self._turns[step - self._steps.start]

    def draws(self, step: int) -> list[Draw]:
        """The samples of the global batch of a step."""
        bucket, turns = self.turn(step)
        size = self.global_batch(bucket)
        first = self.begun[self.buckets[bucket].name] + turns * size
        order, members = self._orders[bucket], self.buckets[bucket].members
        drawn = (order[position] for position in range(first, first + size))
        return [Draw(index=members[draw.index], epoch=draw.epoch) for draw in drawn]

    def places_before(self, step: int) -> dict[str, Place]:
        """Where the stream of each bucket, by name, stands before a step."""
        turns = [self._had(bucket, self._pass_of(step)) for bucket in range(len(self.buckets))]
        for earlier in range(sum(turns), step):
            turns[self.turn(earlier)[0]] += 1
        return {
            bucket.name: order.place(self.begun[bucket.name] + turns[i] * self.global_batch(i))
            for i, (bucket, order) in enumerate(zip(self.buckets, self._orders, strict=True))
        }

    def _had(self, bucket: int, passes: int) -> int:
        """Turns of a bucket in the first passes."""
        return int(passes * self._turns_per_pass[bucket])

    def _steps_before(self, passes: int) -> int:
        return sum(self._had(bucket, passes) for bucket in range(len(self.buckets)))

    def _pass_of(self, step: int) -> int:
        """The pass that a step belongs to."""
        latest = int((step + 1 + len(self.buckets)) / sum(self._turns_per_pass)) + 1
        return bisect_right(range(latest + 1), step, key=self._steps_before) - 1

    def _shuffle(self, number: int) -> None:
        """Deal the turns of a pass, each with its number among those of its bucket."""
        first = [self._had(bucket, number) for bucket in range(len(self.buckets))]
        counts = torch.tensor([self._had(bucket, number + 1) for bucket in range(len(self.buckets))])
        counts -= torch.tensor(first)
        turns = torch.arange(len(self.buckets)).repeat_interleave(counts)
        generator = torch.Generator().manual_seed(derive_seed("turns", self.seed, number))
        turns = turns[torch.randperm(len(turns), generator=generator)]
        ranks = torch.empty_like(turns)
        for bucket, had in enumerate(first):
            places = (turns == bucket).nonzero()[:, 0]
            ranks[places] = torch.arange(had, had + len(places))
        self._turns = list(zip(turns.tolist(), ranks.tolist(), strict=True))
        self._steps = range(sum(first), sum(first) + len(turns))


class StreamBatches:
    """A batch sampler over the endless stream: this rank's share of each global batch, from step `start` on.

    Args:
        schedule: The stream.
        rank: This process among those that train together.
        start: Steps that are done already.
        period: Start over after this many steps: repeat the same few batches, to overfit them.
    """

    def __init__(self, schedule: Schedule, rank: int = 0, start: int = 0, period: int | None = None) -> None:
        if not 0 <= rank < schedule.world_size:
            raise ValueError(f"rank {rank} is not among {schedule.world_size} processes")
        self.schedule = schedule
        self.rank = rank
        self.start = start
        self.period = period

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield this rank's batches without end."""
        step = self.start
        while True:
            draws = self.schedule.draws(step if self.period is None else step % self.period)
            share = len(draws) // self.schedule.world_size
            yield draws[self.rank * share : (self.rank + 1) * share]
            step += 1


class FixedBatches:
    """A batch sampler that goes through the data set once, in order: for validation.

    With several ranks each takes every `world_size`-th sample of a bucket. All ranks must run equally many steps, so
    where a bucket does not divide, its first samples come again, and have no place: whoever measures leaves them out.

    Args:
        buckets: The data set, a bucket after the other.
        rank: This process among `world_size`.
        world_size: Processes that validate together.

    Attributes:
        batches: What to draw.
        places: For each batch, the samples' places among all that are validated on; None for one that comes again.
    """

    def __init__(self, buckets: Sequence[Bucket], rank: int = 0, world_size: int = 1) -> None:
        self.batches: list[list[Draw]] = []
        self.places: list[list[int | None]] = []
        before = 0
        for bucket in buckets:
            length = len(bucket.members)
            padded = -(-length // world_size) * world_size
            positions = range(rank, padded, world_size)
            for first in range(0, len(positions), bucket.batch_size):
                chosen = positions[first : first + bucket.batch_size]
                self.batches.append([Draw(bucket.members[position % length], epoch=0) for position in chosen])
                self.places.append([before + position if position < length else None for position in chosen])
            before += length

    def __len__(self) -> int:
        """Batches of this rank."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield this rank's batches once."""
        return iter(self.batches)
