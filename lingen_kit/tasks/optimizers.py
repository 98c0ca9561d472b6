"""Muon for the matrices inside the network, AdamW for everything else, as one optimizer.

Muon (Jordan et al. 2024; arXiv 2502.16982) orthogonalises the momentum of a matrix before it steps along it. Both
halves are torch's; torch leaves it to the user to run them side by side, and computes Muon's steps in bf16 on any
device. A CPU without bf16 units then takes longer for them than for the model, so here they are fp32 on a CPU.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer


class MuonAdamW(Optimizer):
    """Muon on parameter groups marked `hidden`, AdamW on the others, under one learning-rate schedule.

    Muon's updates are scaled to the size of AdamW's, so one learning rate suits both.

    Args:
        params: Parameter groups; those with `hidden: True` hold matrices between two hidden layers.
        lr: Learning rate of AdamW.
        muon_lr: Learning rate of Muon; that of AdamW if null.
        betas: Decay of AdamW's moments.
        momentum: Decay of Muon's momentum.
        weight_decay: Decoupled weight decay of both.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 1e-3,
        *,
        muon_lr: float | None = None,
        betas: tuple[float, float] = (0.9, 0.95),
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        """Split the groups between the two optimizers."""
        groups = list(params)
        hidden = [dict(group) for group in groups if group.get("hidden") and group["params"]]
        others = [dict(group) for group in groups if not group.get("hidden") and group["params"]]
        if not hidden or not others:
            raise ValueError("MuonAdamW needs parameter groups with and without `hidden: True`; use AdamW otherwise")
        self._muon = _Muon(
            hidden,
            lr=lr if muon_lr is None else muon_lr,
            momentum=momentum,
            weight_decay=weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        self._adamw = AdamW(others, lr=lr, betas=betas, weight_decay=weight_decay)
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let both halves work on the groups and the state that schedules and checkpoints see."""
        self._muon.param_groups = [group for group in self.param_groups if group.get("hidden")]
        self._adamw.param_groups = [group for group in self.param_groups if not group.get("hidden")]
        self._muon.state = self._adamw.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Step both halves; `closure` recomputes the loss and its gradients, once for both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._muon.step()
        self._adamw.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore groups and state."""
        super().load_state_dict(state_dict)
        self._share()


class _Muon(Muon):
    """Torch's Muon, but for the dtype of its steps on a CPU."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Step along the orthogonalized momentum (with Nesterov's look ahead) of every matrix."""
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter.grad)
                mean = state["momentum_buffer"].lerp_(parameter.grad, 1 - momentum)
                direction = orthogonalize(
                    parameter.grad.lerp(mean, momentum), group["ns_coefficients"], group["ns_steps"], group["eps"]
                )
                parameter.mul_(1 - rate * group["weight_decay"])
                size_of_adamw = 0.2 * max(parameter.shape) ** 0.5
                parameter.add_(direction.to(parameter.dtype), alpha=-rate * size_of_adamw)


def orthogonalize(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Bring the singular values of a matrix near 1 by Newton-Schulz iterations, in bf16 on a GPU, in fp32 on a CPU.

    Args:
        matrix: `(M, N)`.
        coefficients: Of the matrix, its cube and its fifth power in an iteration.
        steps: Iterations.
        eps: Least norm to divide by.
    """
    a, b, c = coefficients
    x = matrix.to(torch.float32 if matrix.device.type == "cpu" else torch.bfloat16)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
