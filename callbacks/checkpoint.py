"""Checkpoints to resume from, and the configuration that each of them carries."""

from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import SaveConfigCallback

from lingen_kit.checkpoint import CONFIG_KEY
from lingen_kit.errors import require_at_least


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

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file, unless there is no run folder: without a logger that would be the current directory."""
        if trainer.loggers:
            super().setup(trainer, pl_module, stage)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the configuration, with the values that were linked from elsewhere in it."""
        checkpoint[CONFIG_KEY] = self.parser.dump(self.config, skip_unset=False, skip_link_targets=False)
