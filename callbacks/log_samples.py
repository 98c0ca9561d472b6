"""Look at the model while it learns: sample the same prompts from the same noise at every validation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from callbacks.sampling import averaged_weights, clip_fps, sample_videos, show_video
from eval.video_metrics import score_video
from lingen_kit.video import contact_sheet, grid, to_uint8, write_mp4, write_png

__all__ = ["LogSamples"]


class LogSamples(Callback):
    """Sample fixed prompts during validation and at the end of training; log them and their quality.

    Into the run folder go `samples/step=000500.mp4` (all videos side by side) and `.png` (a contact sheet
    with the prompts); TensorBoard shows them under Images as `samples`, moving. The figures of
    `eval.video_metrics`, averaged over the videos, are logged as `quality/...`; they can be monitored like a
    validation loss.

    Sampling happens within the first validation batch, where averaged weights are in place whatever the order
    of the callbacks. An error (a full disk, a diverged model) stops the run.

    Args:
        prompts: What to sample; all of them. By default the first captions of the validation data.
        num: How many captions to take when no prompts are given.
        every_n_validations: Sample in every n-th validation, starting with the first.
        metrics: Whether to log `quality/...`.
        frames: Frames of a video; None leaves this and the next four to the model.
        height: Pixels from top to bottom.
        width: Pixels from left to right.
        steps: Sampling steps.
        guidance: Guidance scale.
        seed: Of the noise, the same at every validation.
        batch_size: Videos sampled at once.
        fps: Rate at which the videos play; by default the data's.
    """

    def __init__(
        self,
        prompts: list[str] | None = None,
        num: int = 4,
        every_n_validations: int = 1,
        metrics: bool = True,
        frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        batch_size: int = 16,
        fps: float | None = None,
    ) -> None:
        for name, value in {
            "num": num,
            "every_n_validations": every_n_validations,
            "batch_size": batch_size,
        }.items():
            if value < 1:
                raise ValueError(f"LogSamples.{name} is {value}; it must be at least 1")
        if prompts is not None and not prompts:
            raise ValueError("LogSamples.prompts is empty; give prompts, or null to take validation captions")
        self.num = num if prompts is None else len(prompts)
        self.every_n_validations = every_n_validations
        self.metrics = metrics
        self.frames = frames
        self.height = height
        self.width = width
        self.steps = steps
        self.guidance = guidance
        self.seed = seed
        self.batch_size = batch_size
        self.fps = fps
        self._prompts = list(prompts or [])
        self._complete = prompts is not None
        self._validations = 0
        self._due = False
        self._logged_step: int | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse at the start what would fail at the first validation."""
        clip_fps(trainer, self.fps)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide whether this validation samples."""
        if trainer.sanity_checking:
            return
        self._due = self._validations % self.every_n_validations == 0
        self._validations += 1

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Sample, as soon as there are enough prompts."""
        if trainer.sanity_checking or not self._due or dataloader_idx:
            return
        if not self._complete:
            self._prompts += _captions(batch)[: self.num - len(self._prompts)]
            batches = trainer.num_val_batches[0]
            self._complete = len(self._prompts) == self.num or batches in (batch_idx + 1, float("inf"))
        if not self._complete:
            return
        self._due = False
        for name, value in self._log_samples(trainer, pl_module).items():
            pl_module.log(
                name,
                value,
                on_step=False,
                on_epoch=True,
                batch_size=len(self._prompts),
                sync_dist=True,
                add_dataloader_idx=False,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sample once more unless the last validation just did, and say where the files are."""
        if not self._complete:
            rank_zero_warn("LogSamples has no prompts, as no validation ran; give it prompts to sample at the end")
            return
        if self._logged_step != trainer.global_step:
            with averaged_weights(trainer, pl_module):
                figures = self._log_samples(trainer, pl_module)
            for logger in trainer.loggers:
                logger.log_metrics(figures, step=trainer.global_step)
        for path in self._paths(trainer):
            rank_zero_info(f"samples: {path}")

    def state_dict(self) -> dict[str, Any]:
        """Keep, in the checkpoint, the place in the rhythm of `every_n_validations`."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in the rhythm of the run that is resumed."""
        self._validations = state_dict["validations"]

    def _log_samples(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        """Sample, write and show; return the figures."""
        fps = clip_fps(trainer, self.fps)
        videos = sample_videos(
            trainer,
            pl_module,
            self._prompts,
            frames=self.frames,
            height=self.height,
            width=self.width,
            steps=self.steps,
            guidance=self.guidance,
            seed=self.seed,
            batch_size=self.batch_size,
        )
        self._logged_step = trainer.global_step
        paths = self._paths(trainer)
        if trainer.is_global_zero:
            tiled = grid(videos)
            if paths:
                write_mp4(paths[0], tiled, fps)
                write_png(paths[1], contact_sheet(videos, self._prompts))
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    show_video(logger, "samples", tiled, fps, trainer.global_step)
        return _mean_quality(videos, fps) if self.metrics else {}

    def _paths(self, trainer: Trainer) -> list[Path]:
        """Name the mp4 and the sheet of the last samples; none where a run has no folder (fast_dev_run)."""
        folder = trainer.log_dir  # asks all ranks
        if folder is None or self._logged_step is None:
            return []
        return [Path(folder) / "samples" / f"step={self._logged_step:06d}{suffix}" for suffix in (".mp4", ".png")]


def _captions(batch: Any) -> list[str]:
    if not isinstance(batch, Mapping) or "caption" not in batch:
        raise ValueError(
            f"a validation batch without captions ({type(batch).__name__}) gives LogSamples no prompts; set its prompts"
        )
    return list(batch["caption"])


def _mean_quality(videos: Tensor, fps: float) -> dict[str, float]:
    scores = [score_video(to_uint8(video), fps) for video in videos]
    return {f"quality/{name}": sum(score[name] for score in scores) / len(scores) for name in scores[0]}
