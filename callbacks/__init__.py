"""Lightning callbacks, named in YAML by class path: `callbacks.LogSamples`."""

from callbacks.checkpoint import AtomicCheckpointIO, Checkpoint, RunConfig
from callbacks.ema import EMA
from callbacks.interrupt import Interrupt
from callbacks.log_samples import LogSamples
from callbacks.metrics_csv import MetricsCSV
from callbacks.progress import Progress
from callbacks.prompt_obedience import PromptObedience
from callbacks.write_videos import WriteVideos

__all__ = [
    "EMA",
    "AtomicCheckpointIO",
    "Checkpoint",
    "Interrupt",
    "LogSamples",
    "MetricsCSV",
    "Progress",
    "PromptObedience",
    "RunConfig",
    "WriteVideos",
]
