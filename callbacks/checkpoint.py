"""Checkpoints to resume from, and the configuration that each of them carries."""

import os
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn
from torch.optim import Optimizer

from lingen_kit.checkpoint import CONFIG_KEY, OPTIMIZERS_KEY
from lingen_kit.errors import require_at_least


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its target and moves it over: a full disk or a kill leaves the old one whole.

    Lightning goes through the system's temporary folder, and from another disk a move is a copy that can break off.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save to a local `path`."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        try:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except Exception as error:
            partial.unlink(missing_ok=True)
            # torch reports a full disk as a RuntimeError about its zip writer.
            raise OSError(f"cannot save checkpoint {path}: {error}; is the disk full?") from error


class Checkpoint(ModelCheckpoint):
    """Saves `last.ckpt` at an interval and at the end of training, and the best checkpoints if told what is best.

    Args:
        every_n_train_steps: Optimizer steps between checkpoints.
        train_time_interval: Time between checkpoints instead.
        monitor: Logged metric that says what is best, such as `validation/loss`; keep all the same if null.
        mode: Whether less (`min`) or more (`max`) of the metric is better.
        save_top_k: Checkpoints to keep beside `last.ckpt`: the best by `monitor`, or with no `monitor` only 0, 1 or
            -1 (all).
    """

    def __init__(
        self,
        every_n_train_steps: int | None = 500,
        train_time_interval: timedelta | None = None,
        monitor: str | None = None,
        mode: str = "min",
        save_top_k: int = 0,
    ) -> None:
        """Fix the names of the files; the folder is the run's `checkpoints`."""
        require_at_least("Checkpoint", 1, every_n_train_steps=1 if every_n_train_steps is None else every_n_train_steps)
        super().__init__(
            filename="{step:07d}",
            enable_version_counter=False,  # `last.ckpt` is always the last one, also in a run folder that was renamed
            monitor=monitor,
            mode=mode,
            save_last=True,
            save_top_k=save_top_k,
            every_n_train_steps=None if train_time_interval else every_n_train_steps,
            train_time_interval=train_time_interval,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note whether there will be checkpoints to write."""
        self._fitting = stage == "fit"
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember the best checkpoints of the run that is resumed; a validation has no use for them."""
        if self._fitting:
            super().load_state_dict(state_dict)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last step, whether or not the interval divides it."""
        if self._last_global_step_saved != trainer.global_step:
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
            self._last_global_step_saved = trainer.global_step


class RunConfig(SaveConfigCallback):
    """Writes `config.yaml` into the run folder and the same text into every checkpoint."""

    @cached_property
    def text(self) -> str:
        """The configuration as YAML."""
        return str(self.parser.dump(self.config, skip_unset=False, skip_link_targets=False))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file, unless there is no run folder: without a logger that would be the current directory."""
        if trainer.loggers:
            super().setup(trainer, pl_module, stage)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the configuration, with the values that were linked from elsewhere in it, and whose state is whose."""
        checkpoint[CONFIG_KEY] = self.text
        checkpoint[OPTIMIZERS_KEY] = describe_optimizers(trainer.optimizers, pl_module)


def describe_optimizers(optimizers: Sequence[Optimizer], module: nn.Module) -> list[dict[str, Any]]:
    """Class path of each optimizer and the names of its parameters, in the order in which its state numbers them."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return [
        {
            "class_path": f"{type(optimizer).__module__}.{type(optimizer).__qualname__}",
            "names": [names.get(id(p), "") for group in optimizer.param_groups for p in group["params"]],
        }
        for optimizer in optimizers
    ]
