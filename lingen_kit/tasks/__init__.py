"""Training tasks: LightningModules that wrap the networks."""

from lingen_kit.tasks.autoencoder import Autoencoding
from lingen_kit.tasks.discriminator import PatchDiscriminator
from lingen_kit.tasks.frechet import VideoFeatures
from lingen_kit.tasks.fsdp2 import FSDP2
from lingen_kit.tasks.lpips import LPIPS
from lingen_kit.tasks.optimizers import MuonAdamW
from lingen_kit.tasks.shape_judge import ShapeJudging
from lingen_kit.tasks.text_to_video import TextToVideo

__all__ = [
    "FSDP2",
    "LPIPS",
    "Autoencoding",
    "MuonAdamW",
    "PatchDiscriminator",
    "ShapeJudging",
    "TextToVideo",
    "VideoFeatures",
]
