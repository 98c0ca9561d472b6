"""Gated DeltaNet: the layer written out with the twins, both directions, review tokens, parameters, FLOPs."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lingen_kit.mixers import GatedDeltaNet, gated_delta_net
from lingen_kit.mixers.sequence import pool
from lingen_kit.ops import naive
from lingen_kit.scans import Raster

Grid = tuple[int, int, int]
SMALL: dict[str, Any] = {"head_dim": 6, "heads": 2}
every_option = pytest.mark.parametrize(
    "options",
    [{}, {"bidirectional": False}, {"review_pool": (2, 2, 2), "expand_v": 1, "conv_size": 3}],
    ids=["both directions", "one direction", "review"],
)


def read_one_way(mixer: GatedDeltaNet, suffix: str, sequence: Tensor) -> Tensor:
    """One direction from first to last with the slow twins: `(B, L, D)` -> `(B, L, A, V)`."""
    streams = []
    for name in ("q", "k", "v"):
        weight = mixer.get_parameter(f"{name}_conv1d{suffix}.weight").squeeze(1)
        mixed = naive.causal_conv1d(mixer.get_submodule(f"{name}_proj")(sequence), weight, activation="silu")
        streams.append(mixed.unflatten(-1, (mixer.heads, -1)))
    step = F.softplus(mixer.a_proj(sequence) + mixer.get_parameter(f"dt_bias{suffix}"))
    g = -mixer.get_parameter(f"A_log{suffix}").exp() * step
    beta = mixer.b_proj(sequence).sigmoid() * (2 if mixer.allow_neg_eigval else 1)
    return naive.chunk_gated_delta_rule(*streams, g, beta, use_qk_l2norm_in_kernel=True)[0]


def written_out(mixer: GatedDeltaNet, x: Tensor) -> Tensor:
    """Both directions as two causal readers, each of which reads the review tokens first."""
    tokens = x.flatten(1, 3)
    overview = tokens[:, :0] if mixer.review_pool is None else pool(x, mixer.review_pool).flatten(1, 3)
    review = overview.shape[1]
    o = read_one_way(mixer, "", torch.cat([overview, tokens], 1))[:, review:]
    if mixer.bidirectional:
        flipped = torch.cat([overview.flip(1), tokens.flip(1)], 1)
        o = o + read_one_way(mixer, "_reverse", flipped)[:, review:].flip(1)
    normed = o / (o.square().mean(-1, keepdim=True) + 1e-5).sqrt() * mixer.o_norm.weight
    return mixer.o_proj(normed.flatten(2) * F.silu(mixer.g_proj(tokens))).view_as(x)


@every_option
@pytest.mark.parametrize("neg", [False, True], ids=["", "negative eigenvalues"])
@pytest.mark.parametrize("grid", [(1, 1, 1), (2, 3, 5)], ids=str)
def test_equals_the_layer_written_out(options: dict, neg: bool, grid: Grid) -> None:
    mixer = GatedDeltaNet(16, 0, scan=Raster(), allow_neg_eigval=neg, **SMALL, **options).double()
    torch.nn.init.uniform_(mixer.o_norm.weight, 0.5, 1.5)
    x = torch.randn(2, *grid, 16, dtype=torch.float64, requires_grad=True)
    leaves, weights = [x, *mixer.parameters()], torch.randn_like(x)
    actual, expected = mixer(x), written_out(mixer, x)
    torch.testing.assert_close(actual, expected)
    for a, e in zip(
        torch.autograd.grad(actual, leaves, weights), torch.autograd.grad(expected, leaves, weights), strict=True
    ):
        torch.testing.assert_close(a, e)


@every_option
def test_batch_independence_and_strided_input(options: dict) -> None:
    for layer in range(4):
        mixer, x = GatedDeltaNet(16, layer, **SMALL, **options), torch.randn(2, 3, 5, 2, 16)
        y = mixer(x)
        torch.testing.assert_close(mixer(x[1:]), y[1:], rtol=1e-4, atol=1e-5)
        turned = x.transpose(1, 3).contiguous().transpose(1, 3)
        assert not turned.is_contiguous()
        torch.testing.assert_close(mixer(turned), y, rtol=1e-4, atol=1e-5)


def test_both_directions_reach_every_token() -> None:
    x = torch.randn(1, 2, 3, 4, 16, requires_grad=True)
    GatedDeltaNet(16, 1, **SMALL)(x)[0, 1, 1, 1].sum().backward()
    assert x.grad is not None and (x.grad.abs().amax(-1) > 0).all()


def test_one_direction_is_causal_along_its_scan() -> None:
    mixer = GatedDeltaNet(16, 0, bidirectional=False, scan=Raster(), **SMALL)
    x = torch.randn(1, 2, 2, 2, 16)
    before = mixer(x).flatten(1, 3)
    x[0, 1, 0, 0] += 1  # raster position 4
    changed = ((mixer(x).flatten(1, 3) - before).abs().amax(-1) > 1e-6)[0]
    assert changed.tolist() == [False] * 4 + [True] * 4


def test_review_tokens_show_the_end_to_the_first_token_of_a_causal_mixer() -> None:
    x = torch.randn(1, 4, 4, 4, 16, requires_grad=True)
    for review, sees in ((None, False), ((2, 2, 2), True)):
        mixer = GatedDeltaNet(16, 0, bidirectional=False, review_pool=review, **SMALL)
        gradient = torch.autograd.grad(mixer(x)[0, 0, 0, 0].sum(), x)[0]
        assert bool(gradient[0, -1, -1, -1].abs().sum() > 1e-6) is sees


def test_the_scan_of_the_layer_orders_the_tokens() -> None:
    """Rotary-major, layer 3 reads columns outermost: transposing the video and reading it in raster is the same."""
    mixer = GatedDeltaNet(16, 3, **SMALL)
    raster = GatedDeltaNet(16, 0, scan=Raster(), **SMALL)
    raster.load_state_dict(mixer.state_dict())
    x = torch.randn(1, 2, 3, 4, 16)
    turned = x.permute(0, 3, 2, 1, 4)  # wht
    torch.testing.assert_close(mixer(x), raster(turned).permute(0, 3, 2, 1, 4), rtol=1e-4, atol=1e-5)


def test_one_direction_has_the_parameters_of_fla() -> None:
    mixer = GatedDeltaNet(32, 0, head_dim=8, heads=3, bidirectional=False)
    assert {name: tuple(p.shape) for name, p in mixer.named_parameters()} == {
        "q_proj.weight": (24, 32),
        "k_proj.weight": (24, 32),
        "v_proj.weight": (48, 32),
        "a_proj.weight": (3, 32),
        "b_proj.weight": (3, 32),
        "g_proj.weight": (48, 32),
        "o_proj.weight": (32, 48),
        "q_conv1d.weight": (24, 1, 4),
        "k_conv1d.weight": (24, 1, 4),
        "v_conv1d.weight": (48, 1, 4),
        "A_log": (3,),
        "dt_bias": (3,),
        "o_norm.weight": (16,),
    }


@pytest.mark.parametrize(("dim", "heads"), [(2560, 30), (256, 3), (128, 2), (32, 1)])
def test_default_heads_follow_the_published_allocation(dim: int, heads: int) -> None:
    with torch.device("meta"):
        mixer = GatedDeltaNet(dim, 0)
    assert mixer.heads == heads
    if dim == 2560:
        matrices = sum(p.numel() for name, p in mixer.named_parameters() if name.endswith("proj.weight"))
        assert matrices / dim**2 == pytest.approx(6, rel=0.01)


def test_initial_dynamics_are_in_the_published_ranges() -> None:
    mixer = GatedDeltaNet(16, 0, head_dim=1, heads=1000)
    for suffix in ("", "_reverse"):
        decay, step = mixer.get_parameter(f"A_log{suffix}").exp(), F.softplus(mixer.get_parameter(f"dt_bias{suffix}"))
        assert decay.min() > 0 and 15 < decay.max() <= 16 * (1 + 1e-6)
        assert 0.9e-3 < step.min() < 2e-3 and 0.05 < step.max() < 0.101


@every_option
def test_flops_beside_the_delta_rule_equal_the_counter(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Projections and convolutions exactly; the delta rule counts as its recurrence, not as chunks."""
    grid, mixer = (2, 3, 5), GatedDeltaNet(16, 0, **SMALL, **options)
    recurrence = 0

    def no_products(q: Tensor, k: Tensor, v: Tensor, *args: Any, **options: Any) -> tuple[Tensor, None]:
        nonlocal recurrence
        recurrence += 3 * 2 * k.numel() * v.shape[-1]  # predict, write, read: K x V multiply-adds a token and head
        return v, None

    monkeypatch.setattr(gated_delta_net, "chunk_gated_delta_rule", no_products)
    with FlopCounterMode(display=False) as counter:
        mixer(torch.randn(1, *grid, 16))
    assert mixer.flops(grid) == counter.get_total_flops() + recurrence


@every_option
def test_under_autocast(options: dict) -> None:
    mixer, x = GatedDeltaNet(16, 0, **SMALL, **options), torch.randn(1, 2, 3, 4, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = mixer(x)
        y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mixer.parameters())
    torch.testing.assert_close(y.float(), mixer(x), rtol=0.1, atol=0.05)


def test_bfloat16_throughout() -> None:
    mixer, x = GatedDeltaNet(16, 0, **SMALL), torch.randn(1, 2, 3, 4, 16)
    expected = mixer(x)
    y = mixer.bfloat16()(x.bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=0.1, atol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_dim": 0}, "GatedDeltaNet: head_dim 0 must be at least 1"),
        ({"heads": 0}, "GatedDeltaNet: heads 0 must be at least 1"),
        ({"expand_v": 0}, "GatedDeltaNet: expand_v 0 must be at least 1"),
        ({"conv_size": 0}, "GatedDeltaNet: conv_size 0 must be at least 1"),
        ({"review_pool": (0, 1, 1)}, r"review_pool \(0, 1, 1\)"),
    ],
    ids=["head_dim", "heads", "expand_v", "conv_size", "review_pool"],
)
def test_wrong_options_name_the_value(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GatedDeltaNet(32, 0, **options)
