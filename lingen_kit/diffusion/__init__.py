"""Probability paths, losses and samplers: plain functions and small classes that know no network."""

from lingen_kit.diffusion.flow_matching import FlowMatching
from lingen_kit.diffusion.noise import seeded_noise
from lingen_kit.diffusion.samplers import Sampler

__all__ = ["FlowMatching", "Sampler", "seeded_noise"]
