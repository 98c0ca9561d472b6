"""Frozen networks: used as they are, and invisible to whatever trains, averages or saves the model around them."""

import copy

import pytest
import torch
from torch import nn

from lingen_kit.models.fingerprint import fingerprint
from lingen_kit.models.frozen import Frozen, frozen_networks


class Around(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.frozen = Frozen(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)))
        self.trained = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.frozen.running() as network:
            seen = network(x)
        return self.trained(seen)


def test_nothing_that_trains_or_saves_sees_it() -> None:
    module = Around()
    assert {name for name, _ in module.named_parameters()} == {"trained.weight", "trained.bias"}
    assert module.state_dict().keys() == {"trained.weight", "trained.bias"}
    Around(seed=1).load_state_dict(module.state_dict(), strict=True)
    assert [name for name, _ in frozen_networks(module)] == ["frozen"]
    network = module.train().requires_grad_(True).frozen.network
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    module(torch.randn(2, 4)).sum().backward()
    assert module.trained.weight.grad is not None and network[0].weight.grad is None


def test_copies_share_the_network_and_not_the_rest() -> None:
    module = Around()
    copied = copy.deepcopy(module)
    assert copied.frozen.network is module.frozen.network
    assert copied.trained.weight is not module.trained.weight
    assert copied.frozen.place is not module.frozen.place


def test_casts_and_autocast_do_not_reach_it() -> None:
    module, x = Around(), torch.randn(2, 4)
    with module.frozen.running() as network:
        exact = network(x)
    module.bfloat16()
    assert module.frozen.place.dtype == torch.bfloat16 and module.frozen.network[0].weight.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16), module.frozen.running() as network:
        assert torch.equal(network(x), exact)


def test_what_validation_computes_may_be_kept_for_training() -> None:
    module = Around()
    with torch.inference_mode(), module.frozen.running() as network:
        kept = network(torch.randn(2, 4))
    module.trained(kept).sum().backward()  # torch refuses this for a tensor of inference mode


def test_it_follows_the_device_at_its_next_use() -> None:
    module = Around().to("meta")
    assert module.frozen.network[0].weight.device.type == "cpu"
    with module.frozen.running() as network:
        assert network[0].weight.is_meta


def test_a_planned_network_does_not_run() -> None:
    with torch.device("meta"):
        planned = nn.Linear(4, 4)
    frozen = Frozen(planned)
    with pytest.raises(ValueError, match="Linear was built on the meta device"), frozen.running():
        pass


def test_the_fingerprint_covers_frozen_weights() -> None:
    assert fingerprint(Around()) == fingerprint(Around())
    other = Around()
    with torch.no_grad():
        other.frozen.network[0].bias[0] += 1
    assert fingerprint(other) != fingerprint(Around())
