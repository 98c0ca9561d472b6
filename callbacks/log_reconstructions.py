"""Look at an autoencoder while it learns: the same clips, and what is left of them, at every validation."""

from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from callbacks.sampling import clip_fps
from lingen_kit.data.sample import Batch
from lingen_kit.errors import require_at_least
from lingen_kit.video import contact_sheet, grid, write_mp4, write_png

__all__ = ["LogReconstructions"]


class LogReconstructions(Callback):
    """Write the first validation clips, each above its reconstruction.

    Into the run folder go `samples/step=000500.png` (a contact sheet) and `.mp4` (originals beside reconstructions);
    TensorBoard shows the sheet under Images as `reconstructions`.

    Args:
        num: How many clips, at most a validation batch.
        fps: Rate at which the videos play; by default the data's.
    """

    def __init__(self, num: int = 4, fps: float | None = None) -> None:
        require_at_least("LogReconstructions", 1, num=num)
        self.num = num
        self.fps = fps

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse at the start what would fail at the first validation.

        Raises:
            ValueError: The task is no autoencoder's, or there is no rate to play videos at.
        """
        if not hasattr(pl_module, "rebuild"):
            raise ValueError(
                f"LogReconstructions shows what lingen_kit.tasks.Autoencoding makes of clips, and "
                f"{type(pl_module).__name__} rebuilds none; remove it from trainer.callbacks, or use LogSamples"
            )
        clip_fps(trainer, self.fps)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Rebuild clips of the first batch, where averaged weights are in place whatever the order of callbacks."""
        if trainer.sanity_checking or batch_idx or dataloader_idx or "video" not in batch:
            return
        folder = trainer.log_dir  # asks all ranks
        if not trainer.is_global_zero:
            return
        original = batch["video"][: self.num]
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            rebuilt: Tensor = cast(Any, pl_module).rebuild(original)
        pairs = torch.stack([original.float().cpu(), rebuilt.float().cpu()], dim=1)  # (N, 2, C, T, H, W)
        captions = [text for caption in batch["caption"][: self.num] for text in (caption, "reconstruction")]
        sheet = contact_sheet(pairs.flatten(0, 1), captions)
        step = trainer.global_step
        if folder is not None:
            write_png(Path(folder) / "samples" / f"step={step:06d}.png", sheet)
            if original.shape[2] > 1:
                video = grid(pairs.flatten(0, 1), columns=2)
                write_mp4(Path(folder) / "samples" / f"step={step:06d}.mp4", video, clip_fps(trainer, self.fps))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("reconstructions", sheet, step, dataformats="HWC")
