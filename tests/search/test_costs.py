"""What a candidate costs, told of real models."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lingen_kit.commands.search import read
from lingen_kit.models import Denoiser
from lingen_kit.search.costs import costs_of
from lingen_kit.search.settings import Budget

BASE = [f"--config={Path(__file__).parents[2] / 'experiments' / 'quickstart.yaml'}"]
DIT = [*BASE, "--model.denoiser.mixer=lingen_kit.mixers.SelfAttention"]
LONG = {"frames": 64, "height": 64, "width": 64}
"""32 times the tokens of the quickstart, which has 8 frames of 32 x 32."""


def test_flops_are_of_the_video_that_is_asked_for() -> None:
    short, long = (
        {name: costs_of(read, BASE, words, ["parameters", "flops"], size=size).values for name, words in models}
        for size, models in ((None, (("lingen", BASE), ("dit", DIT))), (LONG, (("lingen", BASE), ("dit", DIT))))
    )
    grown = {name: long[name]["flops"] / short[name]["flops"] for name in short}
    assert grown["lingen"] < 33 < 50 < grown["dit"]
    assert long["dit"]["parameters"] == short["dit"]["parameters"]


def test_latency_is_of_the_video_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, forward = [], Denoiser.forward

    def watched(self: Denoiser, x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x.shape))
        return forward(self, x, *others)

    def once(calls: dict[str, Callable[[], object]], *_: int, **__: int) -> dict[str, list[float]]:
        for call in calls.values():
            call()
        return {name: [1.0] for name in calls}

    monkeypatch.setattr(Denoiser, "forward", watched)
    monkeypatch.setattr("lingen_kit.search.costs.take_turns", once)
    assert costs_of(read, BASE, DIT, ["latency"], size={"frames": 16}).values == {"latency": 1.0}
    assert set(seen) == {(1, 3, 16, 32, 32)}


def test_a_size_that_the_model_cannot_take_is_refused() -> None:
    with pytest.raises(ValueError, match="33"):
        costs_of(read, BASE, BASE, ["flops"], size={"height": 33})


def test_a_budget_of_flops_is_of_that_video_too() -> None:
    budget = Budget("model.denoiser.dim", "flops", 1e10, step=48)
    short, long = (costs_of(read, DIT, DIT, ["flops"], budget, size=size) for size in (None, LONG))
    assert short.solved is not None and long.solved is not None and short.solved > long.solved
    assert max(short.values["flops"], long.values["flops"]) <= 1e10
