"""What every mixer must do, and what each promises beyond that."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lingen_kit.mixers import MATE, Hydra, Mamba2, SelfAttention, WindowAttention
from lingen_kit.mixers.sequence import pool
from lingen_kit.ops import naive
from lingen_kit.scans import Raster

MIXERS: dict[str, Callable[[int, int], nn.Module]] = {
    "SelfAttention": SelfAttention,
    "WindowAttention": partial(WindowAttention, window=(2, 2, 2)),
    "Mamba2": partial(Mamba2, head_dim=16, state_size=8),
    "Mamba2 one direction": partial(Mamba2, head_dim=16, state_size=8, bidirectional=False),
    "Mamba2 review": partial(Mamba2, head_dim=16, state_size=8, groups=2, review_pool=(2, 2, 2)),
    "Hydra": partial(Hydra, head_dim=16, state_size=8),
    "Hydra review": partial(Hydra, head_dim=16, state_size=8, groups=2, review_pool=(2, 2, 2)),
    "MATE weighted": partial(MATE, ma=partial(Hydra, head_dim=16, state_size=8), te=SelfAttention, combine="weighted"),
    "MATE ma": partial(MATE, ma=partial(Mamba2, head_dim=16, state_size=8), branches="ma"),
    "MATE te": partial(MATE, te=partial(WindowAttention, window=(2, 2, 2)), branches="te"),
    "MATE": partial(MATE, ma=partial(Mamba2, head_dim=16, state_size=8, review_pool=(2, 2, 2))),
}
every_mixer = pytest.mark.parametrize("build", MIXERS.values(), ids=MIXERS.keys())
every_grid = pytest.mark.parametrize("grid", [(1, 1, 1), (1, 4, 4), (3, 5, 2), (4, 4, 4)], ids=str)


@every_mixer
@every_grid
def test_shape_gradient_and_batch_independence(build: Callable, grid: tuple[int, int, int]) -> None:
    for layer in range(2):
        mixer = build(32, layer)
        x = torch.randn(2, *grid, 32, requires_grad=True)
        y = mixer(x)
        assert y.shape == x.shape
        torch.testing.assert_close(mixer(x[:1]), y[:1], rtol=1e-4, atol=1e-5)
        y.square().sum().backward()
        assert x.grad is not None and x.grad.isfinite().all()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in mixer.parameters())


@every_mixer
def test_non_contiguous_input(build: Callable) -> None:
    mixer = build(32, 1)
    x = torch.randn(1, 4, 2, 3, 32)
    turned = x.transpose(1, 3).contiguous().transpose(1, 3)
    torch.testing.assert_close(mixer(turned), mixer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["SelfAttention", "Mamba2", "Mamba2 review", "Hydra", "MATE"])
def test_a_global_mixer_reaches_every_token(name: str) -> None:
    x = torch.randn(1, 2, 4, 4, 32, requires_grad=True)
    MIXERS[name](32, 0)(x)[0, 0, 0, 0].sum().backward()
    assert x.grad is not None and (x.grad.abs().amax(-1) > 0).all()


def test_a_one_direction_mamba2_is_causal_along_its_scan() -> None:
    mixer = Mamba2(32, 0, head_dim=16, state_size=8, bidirectional=False, scan=Raster())
    x = torch.randn(1, 2, 2, 2, 32)
    before = mixer(x).flatten(1, 3)
    x[0, 1, 0, 0] += 1  # raster position 4
    changed = ((mixer(x).flatten(1, 3) - before).abs().amax(-1) > 1e-6)[0]
    assert changed.tolist() == [False] * 4 + [True] * 4


def test_both_directions_of_mamba2_are_mirror_images() -> None:
    """With the same parameters in both directions, mixing a reversed video gives the reversed result."""
    mixer = Mamba2(32, 0, head_dim=16, state_size=8, scan=Raster(), review_pool=None)
    state = mixer.state_dict()
    state |= {name.replace("_reverse", ""): value for name, value in state.items() if "_reverse" in name}
    mixer.load_state_dict(state)
    x = torch.randn(1, 3, 2, 4, 32)
    torch.testing.assert_close(mixer(x.flip(1, 2, 3)), mixer(x).flip(1, 2, 3), rtol=1e-4, atol=1e-5)


def test_review_tokens_show_the_end_to_the_first_token_of_a_causal_mixer() -> None:
    x = torch.randn(1, 4, 4, 4, 32, requires_grad=True)
    for review, sees in ((None, False), ((2, 2, 2), True)):
        x.grad = None
        Mamba2(32, 0, head_dim=16, bidirectional=False, review_pool=review)(x)[0, 0, 0, 0].sum().backward()
        assert x.grad is not None
        assert bool(x.grad[0, -1, -1, -1].abs().sum() > 1e-5) is sees


def test_both_directions_are_two_causal_mixers_that_share_their_projections() -> None:
    """Each reads the review tokens first, then the video in its own direction; the gate is the video's."""
    mixer = Mamba2(32, 0, head_dim=16, state_size=8, groups=2, scan=Raster(), review_pool=(2, 2, 2))
    x = torch.randn(1, 2, 4, 4, 32)
    tokens, overview = x.flatten(1, 3), pool(x, (2, 2, 2)).flatten(1, 3)
    review = overview.shape[1]

    def read(suffix: str, sequence: torch.Tensor) -> torch.Tensor:
        _, x_b_c, dt = mixer.in_proj(sequence).split([64, 64 + 2 * 16, 4], -1)
        conv = mixer.get_submodule("conv1d" + suffix)
        mixed = naive.causal_conv1d(x_b_c, conv.weight.squeeze(1), conv.bias, activation="silu")
        inner, b, c = mixed.split([64, 16, 16], -1)
        dynamics = (getattr(mixer, name + suffix) for name in ("A_log", "D", "dt_bias"))
        a_log, d, dt_bias = dynamics
        y = naive.mamba_chunk_scan_combined(
            inner.unflatten(-1, (4, 16)), dt, -a_log.exp(), b.unflatten(-1, (2, 8)), c.unflatten(-1, (2, 8)),
            D=d, dt_bias=dt_bias, dt_softplus=True,
        )  # fmt: skip
        return y[:, review:].flatten(2)

    forward = read("", torch.cat([overview, tokens], 1))
    backward = read("_reverse", torch.cat([overview.flip(1), tokens.flip(1)], 1)).flip(1)
    gate = torch.nn.functional.silu(mixer.in_proj(tokens)[..., :64])
    grouped = ((forward + backward) * gate).unflatten(-1, (2, 32))
    normed = grouped / (grouped.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    expected = mixer.out_proj(normed.flatten(-2) * mixer.norm.weight).view_as(x)
    torch.testing.assert_close(mixer(x), expected, rtol=1e-4, atol=1e-5)


def test_mate_adds_its_branches() -> None:
    mixer = MIXERS["MATE"](32, 1)
    x = torch.randn(2, 4, 4, 4, 32)
    torch.testing.assert_close(mixer(x), mixer.ma(x) + mixer.te(x))
    assert (mixer.ma(x).abs().amax() > 0) and (mixer.te(x).abs().amax() > 0)
    assert mixer.flops((4, 4, 4)) == mixer.ma.flops((4, 4, 4)) + mixer.te.flops((4, 4, 4))


def test_weights_of_mate_start_as_the_sum_and_then_choose_a_branch() -> None:
    mixer, plain = (MATE(32, 0, ma=SelfAttention, te=SelfAttention, combine=c) for c in ("weighted", "sum"))
    plain.load_state_dict({k: v for k, v in mixer.state_dict().items() if not k.startswith("weights")})
    x = torch.randn(2, 2, 4, 4, 32)
    torch.testing.assert_close(mixer(x), plain(x))
    torch.nn.init.constant_(mixer.weights.bias[:1], 50.0)  # the first branch everywhere, at twice its weight
    torch.testing.assert_close(mixer(x), 2 * mixer.ma(x))


def test_a_mate_of_one_branch_has_no_other() -> None:
    x = torch.randn(1, 2, 4, 4, 32)
    for branches, absent in (("ma", "te"), ("te", "ma")):
        mixer = MATE(32, 1, ma=partial(Mamba2, head_dim=16), te=WindowAttention, branches=branches)
        assert not [name for name, _ in mixer.named_parameters() if name.startswith(absent)]
        torch.testing.assert_close(mixer(x), getattr(mixer, branches)(x))


def hydra_by_hand(mixer: Hydra, x: torch.Tensor) -> torch.Tensor:
    """The mixer as its matrix: every entry computed for itself, over review tokens at both ends."""
    overview = pool(x, (2, 2, 2)).flatten(1, 3)
    tokens = torch.cat([overview, x.flatten(1, 3), overview], 1)
    z, x_b_c, dt = mixer.in_proj(tokens).split([64, 64 + 2 * 16, 8], -1)
    conv = mixer.conv1d
    padded = torch.nn.functional.pad(x_b_c.mT, (3, 3))
    x_b_c = torch.nn.functional.silu(torch.nn.functional.conv1d(padded, conv.weight, conv.bias, groups=96)).mT
    inner, b, c = x_b_c.split([64, 16, 16], -1)
    y = naive.quasiseparable_scan(
        inner.unflatten(-1, (4, 16)), dt, -mixer.A_log.exp().repeat(2), b.unflatten(-1, (2, 8)),
        c.unflatten(-1, (2, 8)), D=mixer.fc_D(inner) + mixer.D, dt_bias=mixer.dt_bias.repeat(2), dt_softplus=True,
    )  # fmt: skip
    review = overview.shape[1]
    y, z = (t[:, review:-review] for t in (y.flatten(2), z))
    grouped = y.unflatten(-1, (2, 32))
    normed = (grouped / (grouped.square().mean(-1, keepdim=True) + 1e-5).sqrt()).flatten(-2) * mixer.norm.weight
    return mixer.out_proj(normed * torch.nn.functional.silu(z)).view_as(x)


def test_hydra_is_its_matrix_and_reads_review_tokens_from_both_ends() -> None:
    mixer = Hydra(32, 0, head_dim=16, state_size=8, groups=2, scan=Raster(), review_pool=(2, 2, 2))
    x = torch.randn(1, 2, 4, 4, 32)
    torch.testing.assert_close(mixer(x), hydra_by_hand(mixer, x), rtol=1e-4, atol=1e-5)


def test_one_direction_mamba2_has_the_parameters_of_mamba_ssm() -> None:
    mixer = Mamba2(32, 0, head_dim=16, state_size=8, bidirectional=False)
    shapes = {name: tuple(p.shape) for name, p in mixer.named_parameters()}
    assert shapes == {
        "in_proj.weight": (2 * 64 + 2 * 8 + 4, 32),
        "conv1d.weight": (64 + 2 * 8, 1, 4),
        "conv1d.bias": (64 + 2 * 8,),
        "dt_bias": (4,),
        "A_log": (4,),
        "D": (4,),
        "norm.weight": (64,),
        "out_proj.weight": (32, 64),
    }


def test_pooling_of_ragged_borders_averages_what_is_there() -> None:
    x = torch.arange(5.0).view(1, 1, 1, 5, 1)
    assert pool(x, (2, 2, 2)).flatten().tolist() == [0.5, 2.5, 4.0]
    x = torch.randn(2, 4, 2, 6, 3)
    blocks = torch.nn.functional.avg_pool3d(x.movedim(-1, 1), (2, 2, 3)).movedim(1, -1)
    torch.testing.assert_close(pool(x, (2, 2, 3)), blocks)


@pytest.mark.parametrize("name", ["SelfAttention", "WindowAttention"])
def test_flops_formula_equals_the_counter(name: str) -> None:
    mixer, grid = MIXERS[name](32, 0), (4, 4, 4)
    with FlopCounterMode(display=False) as counter:
        mixer(torch.randn(1, *grid, 32))
    assert mixer.flops(grid) == counter.get_total_flops()


@pytest.mark.parametrize("name", ["Mamba2", "Mamba2 one direction", "Mamba2 review", "Hydra", "Hydra review"])
def test_flops_beside_the_state_space_model_equal_the_counter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Projections and convolutions exactly; the state space model counts as its recurrence (Eq. 3), not as chunks."""
    mixer, grid = MIXERS[name](32, 0), (2, 4, 4)
    ssm = 0

    def no_products(x: torch.Tensor, *args: object, **options: object) -> torch.Tensor:
        nonlocal ssm
        inner, directions = x.shape[2] * x.shape[3], 2 if "Hydra" in name else 1  # Mamba2 calls it once a direction
        ssm += directions * 4 * x.shape[1] * inner * 8 + 2 * x.shape[1] * inner
        return x

    monkeypatch.setattr("lingen_kit.mixers.mamba2.mamba_chunk_scan_combined", no_products)
    monkeypatch.setattr("lingen_kit.mixers.hydra.quasiseparable_scan", no_products)
    with FlopCounterMode(display=False) as counter:
        mixer(torch.randn(1, *grid, 32))
    assert ssm > 0
    assert mixer.flops(grid) == counter.get_total_flops() + ssm


def test_flops_of_mamba2_are_those_of_the_paper() -> None:
    """Eq. 1 to 3 of the supplement with one group, no review tokens, doubled convolution and state space model."""
    dim, expand, head_dim, state, taps, grid = 64, 2, 32, 16, 4, (4, 8, 8)
    tokens = 4 * 8 * 8
    mixer = Mamba2(dim, 0, expand=expand, head_dim=head_dim, state_size=state, conv_size=taps)
    projections = (6 + 2 / head_dim) * expand * tokens * dim**2 + 4 * tokens * state * dim
    convolution = 2 * taps * (tokens + taps - 1) * (expand * dim + 2 * state)  # Eq. 2, over B and C too
    ssm = 4 * expand * tokens * state * dim + 2 * expand * tokens * dim
    assert mixer.flops(grid) == projections + 2 * (convolution + ssm)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: SelfAttention(32, 0, heads=5), ["heads 5", "32"]),
        (lambda: WindowAttention(32, 0, window=(0, 2, 2)), ["window", "(0, 2, 2)"]),
        (lambda: Mamba2(32, 0, head_dim=48), ["head_dim 48", "64"]),
        (lambda: Hydra(32, 0, head_dim=48), ["Hydra: head_dim 48", "64"]),
        (lambda: Hydra(32, 0, head_dim=16, conv_size=4), ["conv_size 4", "odd"]),
        (lambda: MATE(32, 0, branches="te", combine="weighted"), ["'weighted'", "'te'"]),
        (lambda: Mamba2(32, 0, head_dim=16, groups=3), ["groups 3", "4 heads"]),
        (lambda: Mamba2(32, 0, head_dim=0), ["head_dim 0", "at least 1"]),
        (lambda: Mamba2(32, 0, head_dim=16, review_pool=(0, 1, 1)), ["review_pool", "(0, 1, 1)"]),
    ],
    ids=["heads", "window", "head_dim", "hydra", "even", "one branch", "groups", "zero", "review_pool"],
)
def test_wrong_options_name_the_value(build: Callable, words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        build()
    assert all(word in str(error.value) for word in words)


@every_mixer
def test_bfloat16_on_a_ragged_grid(build: Callable) -> None:
    mixer = build(32, 1)
    x = torch.randn(1, 3, 5, 2, 32)
    y = mixer.bfloat16()(x.bfloat16())
    assert y.dtype == torch.bfloat16
    exact = mixer.float()(x.bfloat16().float())
    assert (y.float() - exact).norm() < 0.05 * exact.norm()


@every_mixer
def test_float64_and_the_meta_device(build: Callable) -> None:
    mixer = build(32, 1).double()
    assert mixer(torch.randn(1, 2, 2, 3, 32, dtype=torch.float64)).dtype == torch.float64
    assert mixer.to("meta")(torch.empty(1, 2, 2, 3, 32, dtype=torch.float64, device="meta")).device.type == "meta"
