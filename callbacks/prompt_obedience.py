"""Do the samples show what the prompt says? Measured on the moving shapes, where the truth is known."""

import json
import math
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from callbacks.sampling import averaged_weights, sample_videos
from eval.shape_grader import agreement, grade
from lingen_kit.data.moving_shapes import MovingShapes
from lingen_kit.data.shapes_grammar import Scene
from lingen_kit.files import replacing
from lingen_kit.video import to_uint8

__all__ = ["PromptObedience"]

_SHARES = ("color", "shape", "direction", "action", "all")
_WORDS = ("color", "shape", "action", "direction", "background")


class PromptObedience(Callback):
    """Sample prompts that training never showed and read from the pixels whether they were obeyed.

    The prompts are held-out combinations of shape, color and action of the `MovingShapes` data module. The
    shares of samples that obey are logged as `obedience/color`, `/shape`, `/direction` (of those that
    travel), `/action` and `/all` (color, shape and action), printed, and written to `obedience.json` in the
    run folder along with what was seen in each sample.

    Args:
        num: How many prompts.
        every_n_validations: Measure in every n-th validation too; null measures at the end of training alone.
        steps: Sampling steps; null leaves this and the next to the model.
        guidance: Guidance scale.
        seed: Of the choice of prompts and of the noise.
        batch_size: Videos sampled at once.
    """

    def __init__(
        self,
        num: int = 64,
        every_n_validations: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        batch_size: int = 64,
    ) -> None:
        for name, value in {
            "num": num,
            "every_n_validations": every_n_validations,
            "batch_size": batch_size,
        }.items():
            if value is not None and value < 1:
                raise ValueError(f"PromptObedience.{name} is {value}; it must be at least 1")
        self.num = num
        self.every_n_validations = every_n_validations
        self.steps = steps
        self.guidance = guidance
        self.seed = seed
        self.batch_size = batch_size
        self._validations = 0
        self._due = False
        self._last: tuple[int, dict[str, float]] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse at the start what would fail at the end."""
        self._prompts(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide whether this validation measures."""
        if trainer.sanity_checking or self.every_n_validations is None:
            return
        self._validations += 1
        self._due = self._validations % self.every_n_validations == 0

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure within the first batch, where averaged weights are in place."""
        if trainer.sanity_checking or not self._due:
            return
        self._due = False
        for name, value in self._measure(trainer, pl_module).items():
            pl_module.log(
                name,
                value,
                on_step=False,
                on_epoch=True,
                batch_size=self.num,
                sync_dist=True,
                add_dataloader_idx=False,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, unless the last validation just did, and print the result."""
        if self._last is None or self._last[0] != trainer.global_step:
            with averaged_weights(trainer, pl_module):
                figures = self._measure(trainer, pl_module)
            for logger in trainer.loggers:
                logger.log_metrics(figures, step=trainer.global_step)
        assert self._last is not None
        shares = ", ".join(f"{name.split('/')[1]} {value:.0%}" for name, value in self._last[1].items())
        rank_zero_info(f"obedience on {self.num} held-out prompts: {shares}")

    def state_dict(self) -> dict[str, Any]:
        """Keep, in the checkpoint, the place in the rhythm of `every_n_validations`."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in the rhythm of the run that is resumed."""
        self._validations = state_dict["validations"]

    def _prompts(self, trainer: Trainer) -> list[tuple[str, Scene]]:
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, MovingShapes):
            found = "no data module" if data is None else f"data module {type(data).__name__}"
            raise ValueError(
                f"PromptObedience grades moving shapes and cannot judge {found}; "
                "remove it from trainer.callbacks, or train on lingen_kit.data.MovingShapes"
            )
        fewest, most = data.objects
        if data.held_out == 0 or fewest > 1:
            raise ValueError(
                f"PromptObedience grades held-out prompts of one object; data.held_out={data.held_out}, "
                f"data.objects=[{fewest}, {most}]; hold out some, such as 0.125, and allow 1 object"
            )
        return data.validation_dataset().held_out_prompts(self.num, self.seed)

    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        prompts = self._prompts(trainer)
        videos = sample_videos(
            trainer,
            pl_module,
            [prompt for prompt, _ in prompts],
            steps=self.steps,
            guidance=self.guidance,
            seed=self.seed,
            batch_size=self.batch_size,
        )
        observations = [grade(to_uint8(video)) for video in videos]
        scores = agreement(observations, [scene for _, scene in prompts])
        # NaN is a share over no clips, such as that of directions where nothing travels.
        figures = {f"obedience/{name}": scores[name] for name in _SHARES if not math.isnan(scores[name])}
        self._last = (trainer.global_step, figures)
        folder = trainer.log_dir  # asks all ranks
        if folder is not None and trainer.is_global_zero:
            samples = [
                {"prompt": prompt, "seen": {word: getattr(seen, word) for word in _WORDS}}
                for (prompt, _), seen in zip(prompts, observations, strict=True)
            ]
            report = {
                "step": trainer.global_step,
                "prompts": len(prompts),
                "seed": self.seed,
                "steps": self.steps,
                "guidance": self.guidance,
                "scores": {name.removeprefix("obedience/"): value for name, value in figures.items()},
                "samples": samples,
            }
            _write_json(Path(folder) / "obedience.json", report)
        return figures


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=2) + "\n")
