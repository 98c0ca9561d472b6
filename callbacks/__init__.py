"""Lightning callbacks, named in YAML by class path: `callbacks.LogSamples`."""

from callbacks.checkpoint import AtomicCheckpointIO, Checkpoint, RunConfig
from callbacks.ema import EMA
from callbacks.evaluation import Evaluation
from callbacks.guard import Guard
from callbacks.interrupt import Interrupt
from callbacks.log_reconstructions import LogReconstructions
from callbacks.log_samples import LogSamples
from callbacks.metrics_csv import MetricsCSV
from callbacks.progress import Progress
from callbacks.prompt_obedience import PromptObedience
from callbacks.start_from import StartFrom
from callbacks.write_videos import WriteVideos

__all__ = [
    "EMA",
    "AtomicCheckpointIO",
    "Checkpoint",
    "Evaluation",
    "Guard",
    "Interrupt",
    "LogReconstructions",
    "LogSamples",
    "MetricsCSV",
    "Progress",
    "PromptObedience",
    "RunConfig",
    "StartFrom",
    "WriteVideos",
]
