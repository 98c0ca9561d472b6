"""The guard against losses and gradients that are not finite."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from callbacks import EMA, Guard
from lingen_kit.data.moving_shapes import MovingShapes

from .conftest import FakeModule, make_trainer


class Diverging(FakeModule):
    """Loses its loss, or a gradient alone, at some steps; AdamW would move the weights even without a gradient."""

    def __init__(self, loss: tuple[int, ...] = (), gradient: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.bad_loss, self.bad_gradient = loss, gradient
        self.history: list[float] = []
        self.batches = 0

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.history.append(self.weight.item())
        self.batches += 1
        loss = super().training_step(batch, batch_idx)
        if self.batches in self.bad_loss:
            return loss * torch.nan
        if self.batches in self.bad_gradient:
            return loss + (self.weight - self.weight.detach()).abs().sqrt().sum()  # 0, of infinite slope
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 0.1, weight_decay=0.5)


def fit(folder: Path, data: MovingShapes, module: Diverging, guard: Guard, *others: Callback, **options: Any) -> None:
    callbacks = [guard, *others]
    make_trainer(folder, callbacks, limit_val_batches=0, enable_progress_bar=False, **options).fit(
        module, datamodule=data
    )


@pytest.mark.parametrize(
    ("bad", "message"), [({"loss": (3,)}, "the loss is nan"), ({"gradient": (3,)}, "the gradient is")]
)
def test_training_stops_before_the_weights_are_touched(
    tmp_path: Path, shapes: MovingShapes, bad: dict, message: str
) -> None:
    module = Diverging(**bad)
    with pytest.raises(ValueError, match=rf"{message}.* at step 3: training has diverged"):
        fit(tmp_path, shapes, module, Guard())
    assert module.weight.item() == module.history[2] != module.history[1]


def test_a_skipped_step_changes_nothing_and_is_named(
    tmp_path: Path, shapes: MovingShapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("callbacks.guard.rank_zero_info", lines.append)
    module, guard = Diverging(loss=(3,), gradient=(5,)), Guard("skip")
    fit(tmp_path, shapes, module, guard, EMA(0.5))
    weights = module.history
    assert weights[2] == weights[3] and weights[4] == weights[5]
    assert len(set(weights)) == 4
    assert guard.state_dict() == {"skipped": 2, "in_a_row": 0}
    assert [line.partition(":")[0].rpartition(" at ")[2] for line in lines] == ["step 3", "step 5"]
    assert module.trainer.callback_metrics["guard/skipped_steps"] == 2
    optimizer = module.trainer.optimizers[0]
    assert optimizer.state[module.weight]["step"] == 4


def test_too_many_skips_in_a_row_end_training(tmp_path: Path, shapes: MovingShapes) -> None:
    module = Diverging(loss=(1, 3, 4, 5))
    with pytest.raises(ValueError, match="step 5, as in the 2 steps before"):
        fit(tmp_path, shapes, module, Guard("skip", max_skips=2))


def test_one_bad_batch_spoils_the_gradients_that_it_is_added_to(tmp_path: Path, shapes: MovingShapes) -> None:
    module = Diverging(loss=(3,))
    with pytest.raises(ValueError, match="the loss is nan at step 2"):
        fit(tmp_path, shapes, module, Guard(), accumulate_grad_batches=2)


def test_no_skips_are_no_option() -> None:
    with pytest.raises(ValueError, match="max_skips 0"):
        Guard(max_skips=0)
