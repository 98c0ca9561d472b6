"""Exponential moving average of the weights, on torch's and Lightning's own averaging."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class EMA(WeightAveraging):
    """Keeps an exponential moving average of the weights, validates with it, and saves both.

    In a checkpoint `state_dict` is the average, which is what one samples from; the trained weights are kept beside
    it for resuming. The decay rises with the step n as (1 + n) / (10 + n) up to `decay`, so that short runs are not
    averaged with their random start.

    The average is in place from the start of validation until its end, so other callbacks that sample should do so
    in `on_validation_epoch_end`, where it holds whatever their order.

    Args:
        decay: Final share of the old average that is kept at each step; 0 turns averaging off.
    """

    def __init__(self, decay: float = 0.999) -> None:
        """Check the decay."""
        if not 0 <= decay < 1:
            raise ValueError(f"ema decay {decay} must be at least 0 and below 1")
        self.decay = decay

        def average(averaged: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor | int) -> None:
            count = float(updates)
            torch._foreach_lerp_(list(averaged), list(current), 1 - min(decay, (1 + count) / (10 + count)))

        # Buffers hold constants here, never running statistics: averaging would only waste time.
        super().__init__(use_buffers=False, multi_avg_fn=average)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Resume the average when training; elsewhere the checkpoint's `state_dict` already is the average."""
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in place."""
        super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Done already in `on_validation_start`."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Left to `on_validation_end`, after every callback has sampled."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained weights back."""
        super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Left to `on_fit_end`: a checkpoint written at the end of training still needs the trained weights."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the model."""
        super().on_train_end(trainer, pl_module)
