"""The course of the learning rate: warm-up, then a cosine."""

import math


def warmup_cosine(step: int, warmup_steps: int, schedule_steps: int, final_ratio: float) -> float:
    """Learning rate at `step` over its peak.

    Args:
        step: Optimizer steps taken.
        warmup_steps: Steps over which it rises linearly from 0.
        schedule_steps: Step at which the cosine ends; constant after the warm-up if not above 0.
        final_ratio: The ratio from then on.
    """
    warmup = min(1.0, (step + 1) / max(1, warmup_steps))
    if schedule_steps <= 0:
        return warmup
    progress = min(1.0, max(0, step - warmup_steps) / max(1, schedule_steps - warmup_steps))
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return warmup * (final_ratio + (1 - final_ratio) * cosine)
