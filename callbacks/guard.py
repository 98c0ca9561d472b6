"""What to do when a loss or a gradient is no longer a finite number."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from lingen_kit.errors import require_at_least


class Guard(Callback):
    """Looks for NaN and infinity in loss and gradients before each step of the optimizer, and stops or skips the step.

    Weights and checkpoints stay as they were. A skipped step leaves the optimizer's state alone as well, while the
    data and the learning rate go on; each is named in a line, and `guard/skipped_steps` counts them.

    All ranks decide alike, also where one alone saw the NaN. The price is a norm of the gradients and, on a GPU, that
    the next step is prepared only when this one's gradients are there. Under 16-mixed infinite gradients are normal
    and its scaler skips those steps, so there the loss alone is looked at.

    Args:
        policy: `stop` ends training with an error, `skip` leaves the step out.
        max_skips: Steps in a row that may be skipped; one more ends training.
    """

    def __init__(self, policy: Literal["stop", "skip"] = "stop", max_skips: int = 10) -> None:
        """Nothing is skipped yet."""
        require_at_least("Guard", 1, max_skips=max_skips)
        self.policy, self.max_skips = policy, max_skips
        self._loss: Tensor | float = 0.0  # of this rank, summed while gradients are accumulated
        self._skipped = self._in_a_row = 0

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Note the loss."""
        self._loss = self._loss + loss.detach().float()

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Look at the loss and at the gradients that the optimizer is about to use."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        loss = torch.as_tensor(self._loss, device=pl_module.device)
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        gradients = [] if scaled else [parameter.grad for parameter in parameters if parameter.grad is not None]
        # Sums over gradients and ranks are finite only if all their terms are.
        figures = trainer.strategy.reduce(torch.stack([loss, _norms(gradients).to(loss).sum()]), reduce_op="sum")
        self._loss = 0.0
        named = zip(("loss", "gradient"), figures.tolist(), strict=True)
        bad = [f"the {name} is {value}" for name, value in named if not math.isfinite(value)]
        self._in_a_row = self._in_a_row + 1 if bad else 0
        if bad:
            where = f"{bad[0]} at step {trainer.global_step + 1}"
            if self.policy == "stop" or self._in_a_row > self.max_skips:
                before = f", as in the {self.max_skips} steps before, which were skipped" if self._in_a_row > 1 else ""
                raise ValueError(
                    f"{where}{before}: training has diverged. Resume from the last checkpoint, or start again, with a "
                    "lower learning rate or trainer.gradient_clip_val 1; --guard.policy skip leaves out single steps"
                )
            self._skipped += 1
            rank_zero_info(f"{where}: this step is skipped, {self._skipped} so far")
            for parameter in parameters:
                parameter.grad = None  # optimizers pass over parameters without a gradient
        if self.policy == "skip":
            pl_module.log("guard/skipped_steps", float(self._skipped))

    def state_dict(self) -> dict[str, Any]:
        """The skipped steps."""
        return {"skipped": self._skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._skipped, self._in_a_row = state_dict["skipped"], state_dict["in_a_row"]


def _norms(gradients: Sequence[Tensor]) -> Tensor:
    """The norm of each gradient, where it is sharded of this rank's shard."""
    local = [gradient.to_local() if isinstance(gradient, DTensor) else gradient for gradient in gradients]
    return torch.stack(torch._foreach_norm(local, dtype=torch.float32)) if local else torch.zeros(0)
