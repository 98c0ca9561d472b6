"""MuonAdamW is Muon and AdamW, and resumes exactly."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import AdamW, Muon
from torch.optim.lr_scheduler import LambdaLR

from lingen_kit.tasks import MuonAdamW
from lingen_kit.tasks.optimizers import orthogonalize


def _problem() -> tuple[nn.Sequential, torch.Tensor]:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)), torch.randn(16, 6)


def _groups(model: nn.Sequential) -> list[dict]:
    return [{"params": [model[0].weight, model[2].weight], "hidden": True}, {"params": [model[0].bias, model[2].bias]}]


def _train(model: nn.Module, x: torch.Tensor, optimizers: list, schedules: list, steps: int) -> None:
    for _ in range(steps):
        model(x).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
        for optimizer in optimizers:
            optimizer.zero_grad()
        for schedule in schedules:
            schedule.step()


def test_it_is_both_of_its_halves_under_one_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.optim._muon._zeropower_via_newtonschulz", orthogonalize)  # torch's is bf16 on a CPU too
    model, x = _problem()
    twin = copy.deepcopy(model)
    together = MuonAdamW(_groups(model), lr=0.01, muon_lr=0.02)
    _train(model, x, [together], [LambdaLR(together, lambda step: 1 / (1 + step))], 5)
    muon = Muon(_groups(twin)[0]["params"], lr=0.02, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    adamw = AdamW(_groups(twin)[1]["params"], lr=0.01, betas=(0.9, 0.95))
    _train(twin, x, [muon, adamw], [LambdaLR(o, lambda step: 1 / (1 + step)) for o in (muon, adamw)], 5)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_singular_values_of_its_steps_are_near_1(shape: tuple[int, int]) -> None:
    step = orthogonalize(torch.randn(shape), (3.4445, -4.7750, 2.0315), 5, 1e-7)
    assert step.dtype == torch.float32
    values = torch.linalg.svdvals(step)
    assert 0.5 < values.min() < values.max() < 1.3


def test_it_resumes_bit_for_bit() -> None:
    model, x = _problem()
    optimizer = MuonAdamW(_groups(model), lr=0.01)
    _train(model, x, [optimizer], [], 3)
    resumed = copy.deepcopy(model)
    other = MuonAdamW(_groups(resumed), lr=0.5)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    _train(model, x, [optimizer], [], 3)
    _train(resumed, x, [other], [], 3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


def test_the_closure_runs_once() -> None:
    model, x = _problem()
    calls = []

    def closure() -> torch.Tensor:
        calls.append(1)
        loss = model(x).square().mean()
        loss.backward()
        return loss

    assert MuonAdamW(_groups(model)).step(closure) is not None
    assert len(calls) == 1


def test_groups_without_a_mark_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden"):
        MuonAdamW([{"params": [nn.Parameter(torch.zeros(2, 2))]}])
