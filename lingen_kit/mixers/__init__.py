"""Mixers: modules that mix the tokens of a video, `(B, T, H, W, D)` -> the same; the part that experiments swap."""

from lingen_kit.mixers.attention import SelfAttention
from lingen_kit.mixers.base import Mixer
from lingen_kit.mixers.gated_delta_net import GatedDeltaNet
from lingen_kit.mixers.hydra import Hydra
from lingen_kit.mixers.linear_attention import LinearAttention
from lingen_kit.mixers.mamba import Mamba
from lingen_kit.mixers.mamba2 import Mamba2
from lingen_kit.mixers.mate import MATE
from lingen_kit.mixers.sequence import SequenceMixer
from lingen_kit.mixers.window import WindowAttention

__all__ = [
    "MATE",
    "GatedDeltaNet",
    "Hydra",
    "LinearAttention",
    "Mamba",
    "Mamba2",
    "Mixer",
    "SelfAttention",
    "SequenceMixer",
    "WindowAttention",
]
