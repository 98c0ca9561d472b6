"""Noise that a seed determines: the same on every device, whatever else is in the batch."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def seeded_noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal noise, one sample of `shape` for each of the B `seeds`: `(B, *shape)` float32 on the CPU.

    On the CPU, because a GPU draws other numbers from the same seed.
    """
    return next(noise_stream(seeds, shape))


def noise_stream(seeds: Sequence[int], shape: Sequence[int]) -> Iterator[Tensor]:
    """As `seeded_noise`, and the draws that follow it, without end."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    while True:
        yield torch.stack([torch.randn(*shape, generator=generator, dtype=torch.float32) for generator in generators])
