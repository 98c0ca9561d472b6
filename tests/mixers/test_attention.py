"""Self-attention and its options: norms of queries and keys, rotary embedding."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lingen_kit.mixers import SelfAttention
from lingen_kit.mixers.attention import HeadNorm, QKVProjection
from lingen_kit.ops import naive
from lingen_kit.ops.rope import rope3d

every_option = pytest.mark.parametrize(
    "options",
    [{}, {"qk_norm": False}, {"rope": True}, {"qk_norm": False, "rope": True, "rope_base": 100.0}],
    ids=["default", "no norm", "rope", "no norm, rope"],
)


@every_option
@pytest.mark.parametrize("grid", [(1, 1, 1), (1, 4, 4), (3, 5, 2)], ids=str)
def test_equals_attention_written_out(options: dict, grid: tuple[int, int, int]) -> None:
    mixer = SelfAttention(32, 0, **options).double()
    x = torch.randn(2, *grid, 32, dtype=torch.float64, requires_grad=True)
    q, k, v = mixer.qkv.proj(x).view(2, *grid, 3, 4, 8).unbind(-3)
    if options.get("qk_norm", True):
        eps = torch.finfo(torch.float64).eps
        q, k = (t / (t.square().mean(-1, keepdim=True) + eps).sqrt() for t in (q, k))
    if options.get("rope"):
        q, k = (rope3d(t, options.get("rope_base", 10_000.0)) for t in (q, k))
    mixed = naive.attention(*(t.flatten(1, 3) for t in (q, k, v)))
    expected = mixed.flatten(2) @ mixer.out_proj.weight.T
    parameters = [x, *mixer.parameters()]
    weights = torch.randn_like(x)
    actual = mixer(x)
    torch.testing.assert_close(actual, expected.view_as(x))
    gradient = torch.autograd.grad(actual, x, weights, retain_graph=True)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.view_as(x), x, weights)[0])
    assert all(g.isfinite().all() for g in torch.autograd.grad(actual, parameters, weights))


def test_parameters_by_option() -> None:
    shapes = {"qkv.proj.weight": (96, 32), "qkv.q_norm.weight": (8,), "qkv.k_norm.weight": (8,)}
    out = {"out_proj.weight": (32, 32)}
    for options, expected in (({}, shapes | out), ({"rope": True}, shapes | out)):
        assert {n: tuple(p.shape) for n, p in SelfAttention(32, 0, **options).named_parameters()} == expected
    assert set(dict(SelfAttention(32, 0, qk_norm=False).named_parameters())) == {"qkv.proj.weight", "out_proj.weight"}


def test_rope_tells_tokens_apart_that_are_alike() -> None:
    """Without positions a token's output does not depend on where the others stand."""
    x = torch.randn(1, 2, 3, 4, 32)
    moved = x.flatten(1, 3)[:, torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(23)])].view_as(x)
    plain, rotary = SelfAttention(32, 0), SelfAttention(32, 0, rope=True)
    torch.testing.assert_close(plain(moved)[0, 0, 0, 0], plain(x)[0, 0, 0, 0])
    assert (rotary(moved)[0, 0, 0, 0] - rotary(x)[0, 0, 0, 0]).abs().max() > 1e-3


def test_rope_reads_a_window_of_the_grid_as_the_whole() -> None:
    """Only differences of positions count: moving everything by a frame and two columns changes no score."""
    projection = QKVProjection(32, 4)
    x = torch.randn(1, 2, 3, 2, 32)
    wide = torch.nn.functional.pad(x, (0, 0, 2, 0, 0, 0, 1, 0))
    scores = []
    for grid, place in ((x, (slice(0, 2), slice(0, 2))), (wide, (slice(1, 3), slice(2, 4)))):
        q, k, _ = projection(grid)
        q, k = (rope3d(t)[:, place[0], :, place[1]].flatten(1, 3) for t in (q, k))
        scores.append(torch.einsum("blap,bsap->bals", q, k))
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-5)


@every_option
def test_flops_formula_equals_the_counter(options: dict) -> None:
    mixer, grid = SelfAttention(32, 0, **options), (2, 3, 5)
    with FlopCounterMode(display=False) as counter:
        mixer(torch.randn(1, *grid, 32))
    assert mixer.flops(grid) == counter.get_total_flops()


@every_option
def test_under_autocast(options: dict) -> None:
    mixer, x = SelfAttention(32, 0, **options), torch.randn(1, 2, 3, 4, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = mixer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), mixer(x), rtol=0.1, atol=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "heads 5 of the attention does not divide its width dim 32"),
        ({"heads": 8, "rope": True}, "head dim 4 must be even and at least 6"),
        ({"rope_base": 0.5}, "SelfAttention: rope_base 0.5 must be at least 1"),
    ],
    ids=["heads", "rope", "rope_base"],
)
def test_wrong_options_name_the_value(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelfAttention(32, 0, **options)


@pytest.mark.parametrize("scale", [1.0, 0.03])
def test_head_norm_normalizes_small_heads_in_bfloat16(scale: float) -> None:
    x = (scale * torch.randn(64, 32)).bfloat16()
    y = HeadNorm(32)(x).float()
    torch.testing.assert_close(y.square().mean(-1), torch.ones(64), rtol=0.01, atol=0)
