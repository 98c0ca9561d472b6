"""Probability paths, losses and samplers: plain functions and small classes that know no network."""

from lingen_kit.diffusion.ddpm import DDPM
from lingen_kit.diffusion.edm import EDM
from lingen_kit.diffusion.flow_matching import FlowMatching
from lingen_kit.diffusion.noise import noise_stream, seeded_noise
from lingen_kit.diffusion.objective import Objective
from lingen_kit.diffusion.samplers import Sampler

__all__ = ["DDPM", "EDM", "FlowMatching", "Objective", "Sampler", "noise_stream", "seeded_noise"]
