"""A model that is no model: its samples are drawn by the dataset from the words of the prompt."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from lingen_kit.data.moving_shapes import MovingShapes
from lingen_kit.data.shapes_grammar import parse


class FakeModule(LightningModule):
    """Trains one weight; its pipeline paints what the prompt says, consuming random numbers as samplers do.

    Args:
        obeys: Whether to paint the prompt, or a red circle that moves left whatever the prompt.
    """

    def __init__(self, obeys: bool = True) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.frozen = torch.nn.Dropout(0.5)
        self.obeys = obeys
        self.calls: list[dict[str, Any]] = []
        self.draws: list[float] = []

    def pipeline(
        self,
        prompts: Sequence[str],
        *,
        frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        torch.manual_seed(seed)  # a careless sampler
        torch.rand(3)
        self.calls.append(
            {
                "prompts": list(prompts),
                "seed": seed,
                "steps": steps,
                "weight": self.weight.item(),
                "frames": frames,
            }
        )
        data = self.trainer.datamodule.validation_dataset()
        videos = []
        for number, prompt in enumerate(prompts):
            # The fixture's grammar has one size, which captions leave out.
            scene = parse(prompt.replace("a ", "a large ", 1) if self.obeys else "a large red circle moves left")
            scene = parse(scene.caption() + " on a navy background")
            videos.append(data.paint(scene, seed + number)["video"])
        return torch.stack(videos)

    def tokens_per_sample(self, batch: dict[str, Any]) -> int:
        return 7

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        assert self.training
        self.draws.append(torch.rand(()).item())
        loss = (self.weight - 1).square().sum()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.log("validation/loss", (self.weight - 1).square().sum(), batch_size=1, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture(scope="session")
def shapes() -> MovingShapes:
    return MovingShapes(
        frames=8,
        batch_size=2,
        validation_size=6,
        sizes=["large"],
        backgrounds=["navy"],
        shapes=["circle", "square", "triangle"],
        colors=["red", "white", "green", "yellow"],
        actions=["moves left", "moves right", "moves up", "moves down"],
    )


def make_trainer(folder: Any, callbacks: list[Callback], steps: int = 6, **options: Any) -> Trainer:
    return Trainer(
        logger=TensorBoardLogger(folder, name="run", version=0),
        callbacks=callbacks,
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        num_sanity_val_steps=1,
        enable_checkpointing=False,
        enable_model_summary=False,
        **{"val_check_interval": 2, "check_val_every_n_epoch": None, "log_every_n_steps": 1} | options,
    )
