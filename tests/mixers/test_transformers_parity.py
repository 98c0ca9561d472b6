"""Our one-direction Mamba mixers load the weights of transformers' modules as they are, and compute the same."""

import pytest
import torch
from torch import nn

from lingen_kit.mixers import Mamba, Mamba2
from lingen_kit.mixers.base import Mixer
from lingen_kit.scans import Raster

pytest.importorskip("transformers", reason='transformers is not installed: pip install "lingen_kit[test]"')

GRID = (2, 3, 5)  # 30 tokens, which Mamba2Mixer's chunks of 8 do not divide


def theirs_of_mamba() -> nn.Module:
    from transformers import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    config = MambaConfig(hidden_size=24, state_size=8, expand=2, num_hidden_layers=1, use_mambapy=False)
    return MambaMixer(config, layer_idx=0)


def theirs_of_mamba2(groups: int) -> nn.Module:
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    config = Mamba2Config(
        hidden_size=24, state_size=8, expand=2, head_dim=12, num_heads=4, n_groups=groups, chunk_size=8,
        num_hidden_layers=1,
    )  # fmt: skip
    return Mamba2Mixer(config, layer_idx=0)


def shake(module: nn.Module) -> None:
    """Move every parameter off its initialization, where some are constant and an exchange would not show."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def check(ours: Mixer, theirs: nn.Module) -> None:
    shake(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, *GRID, 24, requires_grad=True)
    weights = torch.randn(2, *GRID, 24)
    y, expected = ours(x), theirs(x.flatten(1, 3)).unflatten(1, GRID)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    gradients = torch.autograd.grad((y * weights).sum(), [x, *ours.parameters()])
    names = ["x", *(name for name, _ in ours.named_parameters())]
    sources = [x, *(theirs.get_parameter(name) for name in names[1:])]
    for name, ours_of, theirs_of in zip(
        names, gradients, torch.autograd.grad((expected * weights).sum(), sources), strict=True
    ):
        scale = theirs_of.abs().max().item()
        assert scale > 0, name
        torch.testing.assert_close(ours_of, theirs_of, rtol=1e-4, atol=1e-5 * max(scale, 1), msg=f"gradient of {name}")


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_mamba(backend: str) -> None:
    if backend == "numba":
        pytest.importorskip("numba", reason='numba is not installed: pip install "lingen_kit[numba]"')
    check(Mamba(24, 0, state_size=8, bidirectional=False, scan=Raster(), backend=backend), theirs_of_mamba())


@pytest.mark.parametrize("groups", [1, 2])
def test_mamba2(groups: int) -> None:
    ours = Mamba2(24, 0, state_size=8, head_dim=12, groups=groups, bidirectional=False, scan=Raster())
    check(ours, theirs_of_mamba2(groups))
