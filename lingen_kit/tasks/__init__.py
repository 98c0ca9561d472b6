"""Training tasks: LightningModules that wrap the networks."""

from lingen_kit.tasks.optimizers import MuonAdamW
from lingen_kit.tasks.text_to_video import TextToVideo

__all__ = ["MuonAdamW", "TextToVideo"]
