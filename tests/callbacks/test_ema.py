"""The average of the weights against a plain loop, and what it does not copy."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from callbacks import EMA
from lingen_kit.data.moving_shapes import MovingShapes

from .conftest import FakeModule, make_trainer


class Partly(FakeModule):
    """Trains one weight beside a frozen network."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(4, 4).requires_grad_(False)
        self.seen: list[float] = []
        self.validated: list[float] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.seen.append(self.weight.item())
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.validated.append(self.weight.item())
        super().validation_step(batch, batch_idx)


@pytest.mark.parametrize("decay", [0.15, 0])
def test_the_average_is_that_of_a_plain_loop(tmp_path: Path, shapes: MovingShapes, decay: float) -> None:
    module, ema = Partly(), EMA(decay)
    trainer = make_trainer(tmp_path, [ema], steps=4, enable_progress_bar=False, limit_val_batches=1)
    trainer.fit(module, datamodule=shapes)
    weights = [1 - 0.8**step for step in range(5)]
    assert module.seen == pytest.approx(weights[:4])  # validation gave them back
    average, averages = weights[0], [weights[0]]
    for n, weight in enumerate(weights[1:]):
        kept = min(decay, (1 + n) / (10 + n)) if n else 0.0
        average = kept * average + (1 - kept) * weight
        averages.append(average)
    assert module.validated == pytest.approx([averages[0], averages[2], averages[4]])
    assert module.weight.item() == pytest.approx(averages[4])
    assert list(ema._average or {}) == (["weight"] if decay else [])


def test_a_checkpoint_holds_both_and_shares_what_is_frozen(tmp_path: Path, shapes: MovingShapes) -> None:
    module, ema = Partly(), EMA(0.5)
    trainer = make_trainer(tmp_path, [ema], steps=3, enable_progress_bar=False, limit_val_batches=0)
    trainer.fit(module, datamodule=shapes)
    content: dict[str, Any] = {"state_dict": module.state_dict()}
    ema.on_save_checkpoint(trainer, module, content)
    average, trained = content["state_dict"], content["current_model_state"]
    assert average.keys() == trained.keys() == module.state_dict().keys()
    assert average["network.weight"].data_ptr() == trained["network.weight"].data_ptr()
    assert int(content["averaging_state"]["n_averaged"]) == 3


def test_a_checkpoint_without_an_average_begins_one(tmp_path: Path, shapes: MovingShapes) -> None:
    path = tmp_path / "plain.ckpt"
    first = make_trainer(tmp_path, [], steps=3, enable_progress_bar=False, limit_val_batches=0)
    first.fit(Partly(), datamodule=shapes)
    first.save_checkpoint(path)
    module, ema = Partly(), EMA(0.5)
    resumed = make_trainer(tmp_path, [ema], steps=4, enable_progress_bar=False, limit_val_batches=0)
    resumed.fit(module, datamodule=shapes, ckpt_path=path)
    assert module.seen == pytest.approx([1 - 0.8**3])
    assert torch.isfinite(module.weight).all()
