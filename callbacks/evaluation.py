"""Score the model while it learns: the prompts of an evaluation suite, sampled and judged during validation."""

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from callbacks.sampling import averaged_weights, clip_fps, sample_videos, show_video
from eval.metric import VideoFacts
from eval.run import Item, score_frames, settings_of, tabulate, write_scores
from eval.suite import Prompt, Suite
from lingen_kit.data.moving_shapes import MovingShapes
from lingen_kit.errors import require_at_least
from lingen_kit.video import grid, to_uint8

__all__ = ["Evaluation"]

_SHOWN = 16  # videos on TensorBoard
_CHUNK = 32  # frames that the metrics see at once


class Evaluation(Callback):
    """Sample a suite's prompts in validation and score the videos, with the averaged weights where there are some.

    Figures and totals are logged under the suite's name, such as `shapebench/total_score`, for TensorBoard and for
    `callbacks.Checkpoint` to monitor; a figure that no video has is not logged. The run folder gets
    `evaluation/<suite>/step=000500.json`, which `evaluate compare` reads, and TensorBoard the first videos.

    Args:
        suite: What to score for, such as `eval.ShapeBench`.
        prompts: Prompts for a suite that has none of its own.
        every_n_validations: Evaluate in every n-th validation, starting with the first, and once at the end of
            training; 0 for the end alone.
        max_share: Greatest share of the run's time that evaluations may take. One that would exceed it is left out, and
            the next one that fits is made; figures keep their last value meanwhile. 1 leaves out none.
        steps: Sampling steps; null leaves this and the next to the model.
        guidance: Guidance scale.
        seed: Of the noise, the same at every evaluation.
        batch_size: Videos sampled at once.
        fps: Rate at which the videos count; by default the data's.
    """

    def __init__(
        self,
        suite: Suite,
        prompts: list[str] | None = None,
        every_n_validations: int = 1,
        max_share: float = 0.2,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        batch_size: int = 16,
        fps: float | None = None,
    ) -> None:
        require_at_least("Evaluation", 0, every_n_validations=every_n_validations)
        require_at_least("Evaluation", 1, batch_size=batch_size)
        if not 0 < max_share <= 1:
            raise ValueError(f"Evaluation.max_share is {max_share}; it is a share of the time, such as 0.2")
        self.suite = suite
        self.every_n_validations = every_n_validations
        self.max_share = max_share
        self.steps = steps
        self.guidance = guidance
        self.seed = seed
        self.batch_size = batch_size
        self.fps = fps
        self.prompts = prompts
        self._wanted: list[Prompt] = []
        self._validations = 0
        self._due = False
        self._began = 0.0
        self._spent = self._latest = 0.0
        self._last: tuple[int, dict[str, float]] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse at the start what would fail at the first validation."""
        clip_fps(trainer, self.fps)
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, MovingShapes):
            self.suite = self.suite.suited_to(vars(data))
        if self.prompts is not None:
            wanted = [self.suite.prompt_of(text) for text in self.prompts]
        else:
            wanted = list(self.suite.prompts())
        if not wanted:
            raise ValueError(f"Evaluation: the suite {self.suite.name} has no prompts of its own; give prompts")
        self._wanted = [prompt for prompt in wanted for _ in range(prompt.samples)]
        self._began = time.monotonic()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide whether this validation evaluates."""
        if trainer.sanity_checking:
            return
        turn = bool(self.every_n_validations) and self._validations % self.every_n_validations == 0
        self._validations += 1
        # The clocks of ranks differ, and all must do the same: the first one's counts.
        self._due = bool(trainer.strategy.broadcast(turn and self._affordable()))

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Evaluate within the first batch, where averaged weights are in place."""
        if trainer.sanity_checking or not self._due:
            return
        self._due = False
        for name, value in self._evaluate(trainer, pl_module).items():
            pl_module.log(
                name,
                value,
                on_step=False,
                on_epoch=True,
                batch_size=len(self._wanted),
                sync_dist=True,
                add_dataloader_idx=False,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate, unless the last validation just did, and print the result."""
        if self._last is None or self._last[0] != trainer.global_step:
            with averaged_weights(trainer, pl_module):
                figures = self._evaluate(trainer, pl_module)
            for logger in trainer.loggers:
                logger.log_metrics(figures, step=trainer.global_step)
        assert self._last is not None
        shown = ", ".join(f"{name.partition('/')[2]} {value:.3f}" for name, value in self._last[1].items())
        rank_zero_info(f"{self.suite.name} on {len(self._wanted)} videos: {shown}")

    def state_dict(self) -> dict[str, Any]:
        """Keep, in the checkpoint, the place in the rhythm of `every_n_validations`."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in the rhythm of the run that is resumed."""
        self._validations = state_dict["validations"]

    def _affordable(self) -> bool:
        """Whether one more, as long as the last, keeps within the share of the time; the first is always made."""
        passed = time.monotonic() - self._began
        return self._last is None or self._spent + self._latest <= self.max_share * (passed + self._latest)

    def _evaluate(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        began, fps = time.monotonic(), clip_fps(trainer, self.fps)
        videos = sample_videos(
            trainer,
            pl_module,
            [prompt.text for prompt in self._wanted],
            steps=self.steps,
            guidance=self.guidance,
            seed=self.seed,
            batch_size=self.batch_size,
        )
        rows = []
        for number, (prompt, video) in enumerate(zip(self._wanted, videos, strict=True)):
            frames = to_uint8(video)
            count, height, width = frames.shape[:3]
            facts = VideoFacts(f"{number:04d}", count, fps, height, width, prompt.text, prompt.info)
            chunks = (frames[start : start + _CHUNK] for start in range(0, count, _CHUNK))
            rows.append((Item(facts.name, Path(), prompt), score_frames(self.suite, prompt, facts, chunks)))
        content = tabulate(self.suite, settings_of(self.suite), rows)
        folder = trainer.log_dir  # asks all ranks
        if trainer.is_global_zero:
            if folder is not None:
                write_scores(
                    Path(folder) / "evaluation" / self.suite.name / f"step={trainer.global_step:06d}.json", content
                )
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    show_video(logger, f"{self.suite.name}/videos", grid(videos[:_SHOWN]), fps, trainer.global_step)
        found = {**content["figures"], **content["totals"]}
        figures = {_key(self.suite.name, name): value for name, value in found.items() if value is not None}
        self._last = (trainer.global_step, figures)
        self._latest = time.monotonic() - began
        self._spent += self._latest
        return figures


def _key(suite: str, figure: str) -> str:
    """The name under which a figure is logged: the suite's, once."""
    return figure if figure.startswith(f"{suite}/") else f"{suite}/{figure}"
