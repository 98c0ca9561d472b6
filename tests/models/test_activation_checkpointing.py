"""Activation checkpointing of the denoiser: the same gradients, of fewer kept activations."""

import pytest
import torch
from torch import Tensor

from lingen_kit.mixers import SelfAttention
from lingen_kit.models import Denoiser


def run(every: int) -> tuple[list[Tensor], int]:
    """Gradients of all parameters and the bytes of activations kept for the backward pass."""
    torch.manual_seed(1)
    model = Denoiser(3, 8, (2, 8, 8), dim=16, depth=4, mixer=SelfAttention, checkpoint_every=every)
    for layer in (model.head, model.time_modulation):
        torch.nn.init.normal_(layer.weight, std=0.3)
    x, text = torch.randn(2, 3, 2, 8, 8), torch.randn(2, 3, 8)
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(x, torch.tensor([0.2, 0.7]), text, torch.ones(2, 3, dtype=torch.bool))
    output.square().sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None for gradient in gradients)
    return gradients, sum(kept.values())


def test_gradients_are_the_same_and_less_is_kept() -> None:
    expected, most = run(0)
    sizes = [most]
    for every in (2, 1):
        gradients, size = run(every)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(gradients, expected, strict=True))
        sizes.append(size)
    assert sizes[0] > 1.5 * sizes[1] > 1.5 * 1.5 * sizes[2]


def test_only_training_computes_blocks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        "lingen_kit.models.denoiser.checkpoint", lambda block, x, *rest, **options: calls.append(block) or x
    )
    model = Denoiser(3, 8, (2, 4, 4), dim=16, depth=5, mixer=SelfAttention, checkpoint_every=2)
    inputs = torch.randn(1, 3, 2, 4, 4), torch.tensor([0.3]), torch.randn(1, 2, 8), torch.ones(1, 2, dtype=torch.bool)
    with torch.no_grad():
        model(*inputs)
    model.eval()(*inputs)
    assert not calls
    model.train()(*inputs)
    assert calls == [model.blocks[0], model.blocks[2], model.blocks[4]]
    with pytest.raises(ValueError, match="checkpoint_every -1"):
        Denoiser(3, 8, (2, 4, 4), dim=16, depth=1, mixer=SelfAttention, checkpoint_every=-1)
