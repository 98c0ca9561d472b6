"""How a video is split along time over the ranks of a group, and which split is active.

Letters: B batch, T frames of tokens, H rows, W columns (in tokens), D channels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor

from lingen_kit.errors import divisors
from lingen_kit.parallel.collectives import Ranks, fetch
from lingen_kit.scans import Grid

# A plain global: backward passes that compute activations again may do so in other threads.
_current: "Context | None" = None


@dataclass(frozen=True)
class Context(Ranks):
    """A video of T frames of tokens, split into one slab of consecutive frames for each rank of a group.

    Slabs differ by a frame at most, the longer ones first. Made by `context_parallel`.

    Attributes:
        borders: First frame of every rank's slab, and T at the end.
    """

    borders: tuple[int, ...]

    @property
    def frames(self) -> int:
        """Frames T of the whole video, in tokens."""
        return self.borders[-1]

    @property
    def first(self) -> int:
        """First frame of this rank's slab."""
        return self.borders[self.rank]

    @property
    def share(self) -> float:
        """This rank's frames over the mean of all ranks: the weight of its mean loss in a mean over the ranks."""
        return (self.borders[self.rank + 1] - self.first) * self.size / self.frames

    def grid(self, x: Tensor) -> Grid:
        """The grid of the whole video, of whose tokens this rank's are `x` `(B, t, H, W, D)`.

        Raises:
            ValueError: If `x` has not the frames of this rank's slab.
        """
        last = self.borders[self.rank + 1]
        if x.shape[1] != last - self.first:
            raise ValueError(
                f"context parallelism: rank {self.rank} of {self.size} holds the token frames {self.first} to "
                f"{last - 1} of {self.frames}, but was given {x.shape[1]}; cut the video with split_time"
            )
        return (self.frames, x.shape[2], x.shape[3])


def current() -> Context | None:
    """The split that is active; None where the tokens at hand are the whole video."""
    return _current


@contextmanager
def context_parallel(frames: int, group: dist.ProcessGroup | None = None) -> Iterator[Context]:
    """Split videos of `frames` token frames over the ranks of a group: a region in which denoisers get slabs.

    All ranks of the group go through the same calls in the same order. Each takes the loss of its own slab; gradients
    are then to be averaged over all ranks, as DistributedDataParallel does, if each loss is a mean over its slab times
    `Context.share`. A backward pass that computes activations again needs the split once more, see `within`.

    Args:
        frames: Frames of the whole video in tokens: the first number of `Denoiser.grid(size)`.
        group: The ranks that share the video; all of them if None. A group of one splits nothing.

    Yields:
        The split, which `split_time` and `gather_time` take.

    Raises:
        ValueError: If there are fewer frames than ranks.
    """
    size = dist.get_world_size(group)
    if frames < size:
        raise ValueError(
            f"context parallelism: {frames} frames of tokens cannot be split over {size} ranks; use at most {frames}"
        )
    base, longer = divmod(frames, size)
    borders = tuple(rank * base + min(rank, longer) for rank in range(size + 1))
    context = Context(group, dist.get_rank(group), size, borders)
    with within(context if size > 1 else None):
        yield context


@contextmanager
def within(context: Context | None) -> Iterator[None]:
    """The region of a split that exists already, or of none, as `current` gave it."""
    global _current
    before, _current = _current, context
    try:
        yield
    finally:
        _current = before


def context_group(size: int) -> dist.ProcessGroup:
    """The group of `size` consecutive ranks that this process shares its videos with.

    All ranks must call it, once: it makes the groups. Rank r takes the samples of data rank `r // size` out of
    `world size // size`.

    Raises:
        ValueError: If `size` does not divide the number of ranks.
    """
    world = dist.get_world_size()
    if size < 1 or world % size:
        raise ValueError(f"context parallelism: {size} ranks a video do not divide {world}; choose {divisors(world)}")
    group, _ = dist.new_subgroups(size)
    return group


def split_time(x: Tensor, context: Context, dim: int = 2) -> Tensor:
    """This rank's slab of a whole video, a view.

    Args:
        x: Whole on every rank; `dim` has T frames or a multiple, such as the frames of latents `(B, C, F, Y, X)`.
        context: The split.
        dim: The axis of time.

    Raises:
        ValueError: If T does not divide the axis.
    """
    length, frames = x.shape[dim], context.frames
    if length % frames:
        raise ValueError(
            f"context parallelism: axis {dim} has {length} entries, no multiple of the {frames} frames of tokens"
        )
    patch = length // frames
    return x.narrow(dim, context.first * patch, (context.borders[context.rank + 1] - context.first) * patch)


def gather_time(x: Tensor, context: Context, dim: int = 2) -> Tensor:
    """The whole video on every rank, from its slabs; undoes `split_time`.

    The gradient of a slab is the sum of what all ranks ask for.

    Args:
        x: This rank's slab.
        context: The split.
        dim: The axis of time.

    Raises:
        ValueError: If the axis is not the slab's frames or a multiple.
    """
    patch, rest = divmod(x.shape[dim], context.borders[context.rank + 1] - context.first)
    if rest:
        raise ValueError(
            f"context parallelism: axis {dim} has {x.shape[dim]} entries, no multiple of the "
            f"{context.borders[context.rank + 1] - context.first} frames of this rank's slab"
        )
    borders = [border * patch for border in context.borders]
    return fetch(x.movedim(dim, 1), borders, [(0, borders[-1])] * context.size, context).movedim(1, dim)
