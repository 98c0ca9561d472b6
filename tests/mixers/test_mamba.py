"""The Mamba mixer: what it computes, and what it promises."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lingen_kit.mixers import Mamba
from lingen_kit.ops import naive
from lingen_kit.scans import Raster

BUILDS: dict[str, Callable[[int, int], Mamba]] = {
    "both directions": lambda dim, layer: Mamba(dim, layer, state_size=4),
    "one direction": lambda dim, layer: Mamba(dim, layer, state_size=4, bidirectional=False),
    "review tokens": lambda dim, layer: Mamba(dim, layer, state_size=4, dt_rank=3, review_pool=(2, 2, 2)),
}
every_build = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS.keys())


def read(mixer: Mamba, x: Tensor, suffix: str) -> Tensor:
    """One direction, step by step: `(B, L, I)` -> the same."""
    conv1d, x_proj, dt_proj = (mixer.get_submodule(name + suffix) for name in ("conv1d", "x_proj", "dt_proj"))
    length = x.shape[1]
    x = x.flip(1) if suffix else x
    u = F.silu(conv1d(x.mT)[..., :length])  # B I L
    dt, b, c = x_proj(u.mT).split([mixer.dt_rank, mixer.state_size, mixer.state_size], dim=-1)
    a, d = -mixer.get_parameter(f"A_log{suffix}").exp(), mixer.get_parameter(f"D{suffix}")
    y = naive.selective_scan_fn(u, F.softplus(dt_proj(dt)).mT, a, b.mT, c.mT, d)
    assert isinstance(y, Tensor)
    return y.mT.flip(1) if suffix else y.mT


@every_build
def test_equals_its_definition(build: Callable) -> None:
    mixer, grid = build(16, 1), (4, 2, 6)
    x = torch.randn(2, *grid, 16, requires_grad=True)
    sequence = mixer.scan.flatten(x, 1)
    review = 0
    if mixer.review_pool is not None:
        overview = F.avg_pool3d(x.movedim(-1, 1), mixer.review_pool).movedim(1, -1)
        overview = mixer.scan.flatten(overview, 1)
        review = overview.shape[1]
        sequence = torch.cat([overview, sequence], dim=1)
    inner, z = mixer.in_proj(sequence).chunk(2, dim=-1)
    y = read(mixer, inner, "")[:, review:]
    if mixer.bidirectional:
        turned = torch.cat([inner[:, review:], inner[:, :review]], dim=1)
        y = y + read(mixer, turned, "_reverse")[:, : 4 * 2 * 6]
    expected = mixer.scan.unflatten(mixer.out_proj(y * F.silu(z[:, review:])), grid, 1)
    actual = mixer(x)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    leaves = [x, *mixer.parameters()]
    for a, e in zip(*(torch.autograd.grad(t.square().sum(), leaves) for t in (actual, expected)), strict=True):
        assert e.abs().max() > 0
        torch.testing.assert_close(a, e, rtol=1e-3, atol=1e-4 * max(1, e.abs().max().item()))


@every_build
@pytest.mark.parametrize("grid", [(1, 1, 1), (1, 4, 4), (3, 5, 2)], ids=str)
def test_shape_gradient_and_batch_independence(build: Callable, grid: tuple[int, int, int]) -> None:
    mixer = build(16, 0)
    x = torch.randn(2, *grid, 16, requires_grad=True)
    y = mixer(x)
    assert y.shape == x.shape
    torch.testing.assert_close(mixer(x[:1]), y[:1], rtol=1e-4, atol=1e-5)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in (x, *mixer.parameters()))


def test_one_direction_is_causal_along_its_scan_and_two_reach_every_token() -> None:
    x = torch.randn(1, 2, 2, 2, 16, requires_grad=True)

    def reached(mixer: Mamba) -> list[bool]:
        (gradient,) = torch.autograd.grad(mixer(x)[0, 1, 0, 0].sum(), x)  # raster position 4
        return (gradient.abs().amax(-1) > 0).flatten().tolist()

    assert reached(Mamba(16, 0, bidirectional=False, scan=Raster())) == [True] * 5 + [False] * 3
    assert all(reached(Mamba(16, 0, scan=Raster())))


def test_both_directions_are_mirror_images() -> None:
    """With the same parameters in both directions, mixing a reversed video gives the reversed result."""
    mixer = Mamba(16, 0, state_size=4, scan=Raster())
    state = mixer.state_dict()
    mixer.load_state_dict(state | {k.replace("_reverse", ""): v for k, v in state.items() if "_reverse" in k})
    x = torch.randn(1, 3, 2, 4, 16)
    torch.testing.assert_close(mixer(x.flip(1, 2, 3)), mixer(x).flip(1, 2, 3), rtol=1e-4, atol=1e-5)


def test_parameters_are_those_of_mamba_ssm_and_each_direction_has_its_own() -> None:
    shapes = {
        "in_proj.weight": (128, 32), "conv1d.weight": (64, 1, 4), "conv1d.bias": (64,), "x_proj.weight": (2 + 16, 64),
        "dt_proj.weight": (64, 2), "dt_proj.bias": (64,), "A_log": (64, 8), "D": (64,), "out_proj.weight": (32, 64),
    }  # fmt: skip
    one = Mamba(32, 0, state_size=8, bidirectional=False)
    assert {name: tuple(p.shape) for name, p in one.named_parameters()} == shapes
    shared = {"in_proj.weight", "out_proj.weight"}
    own = {name.partition(".") for name in shapes if name not in shared}
    both = set(shapes) | {f"{head}_reverse{dot}{tail}" for head, dot, tail in own}
    assert {name for name, _ in Mamba(32, 0, state_size=8).named_parameters()} == both


def test_initialization_is_that_of_the_paper() -> None:
    mixer = Mamba(64, 0, state_size=8)
    for dt_proj, a_log, d in (
        (mixer.dt_proj, mixer.A_log, mixer.D),
        (mixer.dt_proj_reverse, mixer.A_log_reverse, mixer.D_reverse),
    ):
        steps = F.softplus(dt_proj.bias)
        assert 0.9e-3 < steps.min() < 0.01 < steps.max() < 0.101
        assert 0.3 < dt_proj.weight.abs().max() <= 4**-0.5  # rank 64 / 16
        torch.testing.assert_close(a_log.exp(), torch.arange(1.0, 9).expand(128, -1))
        assert (d == 1).all()


def test_works_in_float64_and_under_autocast() -> None:
    x = torch.randn(1, 2, 2, 3, 16)
    mixer = Mamba(16, 0, state_size=4)
    expected = mixer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = mixer(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.05, atol=0.02)
    torch.testing.assert_close(mixer.double()(x.double()).float(), expected, rtol=1e-4, atol=1e-5)


def test_flops_are_those_counted_by_hand() -> None:
    grid, tokens, length = (4, 2, 6), 48, 48 + 2 * 1 * 3
    mixer = Mamba(16, 0, state_size=4, dt_rank=3, conv_size=4, review_pool=(2, 2, 2))
    ends = 2 * length * 16 * 64 + 2 * tokens * 32 * 16
    one = 2 * length * 32 * 4 + 2 * length * 32 * (3 + 4 + 4) + 2 * length * 3 * 32 + length * 32 * (6 * 4 + 2)
    assert mixer.flops(grid) == ends + 2 * one


@pytest.mark.parametrize("option", ["state_size", "conv_size", "expand", "dt_rank"])
def test_wrong_sizes_are_named(option: str) -> None:
    with pytest.raises(ValueError, match=f"Mamba: {option} 0 must be at least 1"):
        Mamba(16, 0, **{option: 0})
