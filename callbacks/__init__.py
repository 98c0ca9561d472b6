from callbacks.log_samples import LogSamples
from callbacks.progress import Progress
from callbacks.prompt_obedience import PromptObedience

__all__ = ["LogSamples", "Progress", "PromptObedience"]
