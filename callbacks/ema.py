"""Exponential moving average of the weights that are trained."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from lingen_kit.tasks.fsdp2 import whole


class EMA(Callback):
    """Keeps an exponential moving average of the weights, validates with it, and saves both.

    In a checkpoint `state_dict` is the average, which is what one samples from; the trained weights are kept beside
    it for resuming. The decay rises with the step n as (1 + n) / (10 + n) up to `decay`, so that short runs are not
    averaged with their random start.

    Only what is trained is averaged: frozen networks take no second copy, and of a model that is sharded over ranks
    each averages its own shards.

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
        self._fitting = False
        self._average: dict[str, Tensor] | None = None  # by the name of the parameter
        self._updates = 0  # that have gone into the average
        self._latest_step = 0

    def begin(self, module: nn.Module, updates: int = 0) -> None:
        """Take the weights that a module holds now as the average.

        Args:
            module: The module in training.
            updates: Steps that have gone into this average.
        """
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad and self.decay}
        self._average = {name: parameter.detach().clone() for name, parameter in trained.items()}
        self._updates = updates

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Exchange the average and the weights of the module; nothing outside of training."""
        for weights, average in self._pairs(module):
            before = weights.clone()
            weights.copy_(average)
            average.copy_(before)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note whether there will be training."""
        self._fitting = stage == "fit"
        self._average, self._updates, self._latest_step = None, 0, 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the weights as they are, unless there is an average already; bring it to their device."""
        if self._average is None:
            self.begin(pl_module)
        else:
            self._average = {name: weights.to(pl_module.device) for name, weights in self._average.items()}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Update the average after each step of the optimizer."""
        if trainer.global_step <= self._latest_step:
            return
        self._latest_step = trainer.global_step
        kept = min(self.decay, (1 + self._updates) / (10 + self._updates)) if self._updates else 0.0
        pairs = [(_local(average), _local(weights)) for weights, average in self._pairs(pl_module)]
        if pairs:
            averages, current = zip(*pairs, strict=True)
            torch._foreach_lerp_(averages, current, 1 - kept)
        self._updates += 1

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in place."""
        self.swap(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained weights back, after every callback has sampled."""
        self.swap(pl_module)

    @torch.no_grad()
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the model; a checkpoint written at the end of training had the trained weights."""
        for weights, average in self._pairs(pl_module):
            weights.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        """The step of the latest update."""
        return {"latest_update_step": self._latest_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume."""
        self._latest_step = state_dict["latest_update_step"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average as `state_dict` and the trained weights beside it; all ranks gather it together."""
        if self._average is None:
            return
        trained = checkpoint["state_dict"]  # of a sharded model empty but on rank 0
        average = dict(trained)
        for name, value in self._average.items():
            gathered = whole(value)
            if name in trained:
                average[name] = gathered
        checkpoint["current_model_state"] = trained
        checkpoint["state_dict"] = average
        checkpoint["averaging_state"] = {"n_averaged": torch.tensor(self._updates)}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Resume the average when training; the model holds the checkpoint's `state_dict` by now, which is that."""
        if not self._fitting:
            return
        self.begin(pl_module, int(checkpoint.get("averaging_state", {}).get("n_averaged", 0)))
        if "current_model_state" in checkpoint:
            trainer.strategy.load_model_state_dict({"state_dict": checkpoint["current_model_state"]})

    def _pairs(self, module: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
        """Each parameter that is averaged, and its average."""
        average = self._average or {}
        for name, parameter in module.named_parameters():
            if name in average:
                yield parameter, average[name]


def _local(tensor: Tensor) -> Tensor:
    """The values that this rank holds of a tensor, the memory shared."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
