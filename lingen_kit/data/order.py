"""The order of the samples of one bucket: an endless stream, shuffled anew in each pass, addressed by position.

Samples with names are shuffled by a hash of (seed, pass, name): one that is added or removed leaves the order of the
others as it was, and a stream that goes on after the hash where it stopped gives none of them twice in a pass.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lingen_kit.data.seeds import derive_seed

Keys = NDArray[np.uint64]
"""What tells the samples of a bucket apart wherever they stand in it: a hash of each name."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One sample to fetch.

    Attributes:
        index: Which sample of the data set.
        epoch: In which pass over its bucket, from 0; random crops and start times depend on it.
    """

    index: int
    epoch: int


class Place(NamedTuple):
    """Where a stream stands, in terms that hold when samples are added to it or removed.

    Attributes:
        epoch: The pass.
        offset: Samples of that pass that were handed out.
        last: Hash of the last of them; None if there is none, or the samples have no names.
    """

    epoch: int = 0
    offset: int = 0
    last: int | None = None


class SampleOrder:
    """The endless stream of the samples of one bucket, addressed by position.

    Args:
        length: Samples in the bucket.
        seed: Another seed gives another shuffle.
        keys: Hashes of the samples' names, see `keys_of`; without them a sample is known by its index alone.

    Raises:
        ValueError: If there is no sample.
    """

    def __init__(self, length: int, seed: int, keys: Keys | None = None) -> None:
        if length < 1:
            raise ValueError(f"the data set has {length} samples; training needs at least 1")
        self.length = length
        self.seed = seed
        self.keys = keys
        self._epoch = -1
        self._permutation = np.empty(0, np.int64)
        self._hashes = np.empty(0, np.uint64)

    def __getitem__(self, position: int) -> Draw:
        """The sample at a position of the stream, counted from 0."""
        if position < 0:
            raise IndexError(f"position {position} is before the start of the stream")
        epoch, offset = divmod(position, self.length)
        self._shuffle(epoch)
        return Draw(index=int(self._permutation[offset]), epoch=epoch)

    def place(self, position: int) -> Place:
        """The place of a position, for `position` of an order that may hold other samples."""
        epoch, offset = divmod(position, self.length)
        if self.keys is None or offset == 0:
            return Place(epoch, offset)
        self._shuffle(epoch)
        return Place(epoch, offset, int(self._hashes[offset - 1]))

    def position(self, place: Place) -> int:
        """The position at which the samples go on that a stream had not handed out in its pass when it stood there."""
        if self.keys is None or place.last is None:
            return place.epoch * self.length + min(place.offset, self.length)
        self._shuffle(place.epoch)
        return place.epoch * self.length + int(np.searchsorted(self._hashes, np.uint64(place.last), side="right"))

    def _shuffle(self, epoch: int) -> None:
        """Order the samples for a pass."""
        if epoch == self._epoch:
            return
        seed = derive_seed("order", self.seed, epoch)
        if self.keys is None:
            self._permutation = torch.randperm(self.length, generator=torch.Generator().manual_seed(seed)).numpy()
        else:
            hashes = _mixed(self.keys, seed)
            self._permutation = np.argsort(hashes)
            self._hashes = hashes[self._permutation]
        self._epoch = epoch


def keys_of(names: Iterable[str]) -> Keys:
    """A hash of each name. Of several samples with one name each has its own, by its number among them."""
    seen = Counter[str]()
    keys = []
    for name in names:
        keys.append(derive_seed("sample", name, *([seen[name]] if seen[name] else [])))
        seen[name] += 1
    return np.array(keys, np.uint64)


def _mixed(keys: Keys, seed: int) -> Keys:
    """Each key with a seed, as unrelated numbers: the finalizer of SplitMix64 (Steele, Lea, Flood, 2014, Fig. 16).

    It maps different keys to different numbers.
    """
    mixed = keys + np.uint64(seed)  # arrays wrap around, which is meant
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
