"""ReLU linear attention against its formula written out, with and without rotary embedding."""

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lingen_kit.mixers import LinearAttention
from lingen_kit.ops.rope import rope3d

Grid = tuple[int, int, int]
every_option = pytest.mark.parametrize(
    "options",
    [{}, {"qk_norm": False}, {"rope": True}, {"heads": 2, "rope": True, "rope_base": 100.0}],
    ids=["default", "no norm", "rope", "two heads, rope"],
)


def written_out(mixer: LinearAttention, x: Tensor) -> Tensor:
    """Every pair of tokens; the denominator knows no positions."""
    q, k, v = mixer.qkv(x)
    q, k = q.relu(), k.relu()
    turned_q, turned_k = (rope3d(t, mixer.rope_base) if mixer.rope else t for t in (q, k))
    scores = torch.einsum("blap,bsap->bals", turned_q.flatten(1, 3), turned_k.flatten(1, 3))
    weights = torch.einsum("blap,bsap->bals", q.flatten(1, 3), k.flatten(1, 3)).sum(-1, keepdim=True)
    mixed = torch.einsum("bals,bsap->blap", scores / (weights + 1e-6), v.flatten(1, 3))
    return mixer.out_proj(mixed.flatten(2)).view_as(x)


@every_option
@pytest.mark.parametrize("grid", [(1, 1, 1), (1, 4, 4), (3, 5, 2)], ids=str)
def test_equals_the_formula(options: dict, grid: Grid) -> None:
    mixer = LinearAttention(32, 0, **options).double()
    x = torch.randn(2, *grid, 32, dtype=torch.float64, requires_grad=True)
    leaves, weights = [x, *mixer.parameters()], torch.randn_like(x)
    actual, expected = mixer(x), written_out(mixer, x)
    torch.testing.assert_close(actual, expected)
    for a, e in zip(
        torch.autograd.grad(actual, leaves, weights), torch.autograd.grad(expected, leaves, weights), strict=True
    ):
        torch.testing.assert_close(a, e)


@every_option
def test_batch_independence_and_strided_input(options: dict) -> None:
    mixer, x = LinearAttention(32, 0, **options), torch.randn(2, 3, 5, 2, 32)
    y = mixer(x)
    torch.testing.assert_close(mixer(x[1:]), y[1:], rtol=1e-4, atol=1e-6)
    turned = x.transpose(1, 3).contiguous().transpose(1, 3)
    assert not turned.is_contiguous()
    torch.testing.assert_close(mixer(turned), y, rtol=1e-4, atol=1e-6)


@every_option
def test_every_token_is_reached(options: dict) -> None:
    x = torch.randn(1, 3, 4, 2, 32, requires_grad=True)
    LinearAttention(32, 0, **options)(x)[0, 0, 0, 0].sum().backward()
    assert x.grad is not None and (x.grad.abs().amax(-1) > 0).all()


def test_rope_tells_tokens_apart_that_are_alike() -> None:
    x = torch.randn(1, 2, 3, 4, 32)
    moved = x.flip(2)
    plain, rotary = LinearAttention(32, 0), LinearAttention(32, 0, rope=True)
    torch.testing.assert_close(plain(moved).flip(2), plain(x), rtol=1e-4, atol=1e-6)
    assert (rotary(moved).flip(2) - rotary(x)).abs().max() > 1e-3


@every_option
def test_features_that_are_all_zero_give_zero(options: dict) -> None:
    """No query meets a key: no division by zero, forward or backward."""
    mixer = LinearAttention(32, 0, **options)
    with torch.no_grad():
        mixer.qkv.proj.weight[:32] = 0
    x = torch.randn(1, 2, 3, 4, 32, requires_grad=True)
    y = mixer(x)
    y.sum().backward()
    assert not y.any() and x.grad is not None and x.grad.isfinite().all()


@every_option
def test_flops_formula_equals_the_counter(options: dict) -> None:
    mixer, grid = LinearAttention(32, 0, **options), (2, 3, 5)
    with FlopCounterMode(display=False) as counter:
        mixer(torch.randn(1, *grid, 32))
    assert mixer.flops(grid) == counter.get_total_flops()


def test_flops_are_linear_in_the_tokens() -> None:
    mixer = LinearAttention(64, 0)
    assert mixer.flops((8, 16, 16)) == 8 * mixer.flops((4, 8, 8)) == 8 * 256 * (8 * 64**2 + 4 * 64 * 16)


@every_option
def test_under_autocast(options: dict) -> None:
    mixer, x = LinearAttention(32, 0, **options), torch.randn(1, 2, 3, 4, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = mixer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), mixer(x), rtol=0.1, atol=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "heads 5 of the attention does not divide its width dim 32"),
        ({"heads": 8, "rope": True}, "head dim 4 must be even and at least 6"),
        ({"rope_base": 0.5}, "LinearAttention: rope_base 0.5 must be at least 1"),
    ],
    ids=["heads", "rope", "rope_base"],
)
def test_wrong_options_name_the_value(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearAttention(32, 0, **options)
