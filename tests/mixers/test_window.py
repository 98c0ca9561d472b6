"""Windowed attention (TESA) as a mixer: against the naive twin, exact FLOPs, errors."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lingen_kit.mixers import WindowAttention
from lingen_kit.ops import naive

Size3 = tuple[int, int, int]
GRIDS: list[Size3] = [(1, 1, 1), (1, 4, 4), (3, 5, 2), (4, 4, 4), (5, 7, 6)]


def on_the_grid(mixer: WindowAttention, x: Tensor) -> Tensor:
    """The mixer as it is defined: projections on the grid, attention under a mask of all pairs of tokens."""
    q, k, v = mixer.qkv(x)
    return mixer.out_proj(naive.window_attention(q, k, v, mixer.window, mixer.shift).flatten(4))


@pytest.mark.parametrize("layer", [0, 1], ids=["unshifted", "shifted"])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_equals_the_naive_twin_in_outputs_and_gradients(grid: Size3, layer: int) -> None:
    torch.manual_seed(0)
    mixer = WindowAttention(32, layer, window=(4, 2, 3)).double()
    x = torch.randn(2, *grid, 32, dtype=torch.float64, requires_grad=True)
    fast, slow = mixer(x), on_the_grid(mixer, x)
    assert fast.is_contiguous()
    torch.testing.assert_close(fast, slow)
    weights = torch.randn_like(fast)
    gradients = [torch.autograd.grad(y, (x, *mixer.parameters()), weights) for y in (fast, slow)]
    for actual, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected)


def test_a_turned_grid_in_float32_equals_the_naive_twin() -> None:
    torch.manual_seed(0)
    mixer = WindowAttention(32, 1, window=(4, 2, 2))
    x = torch.randn(1, 4, 6, 5, 32).transpose(1, 3)
    assert not x.is_contiguous()
    torch.testing.assert_close(mixer(x), on_the_grid(mixer, x), rtol=1e-5, atol=1e-5)


def test_odd_layers_shift_by_half_a_window_unless_told_not_to() -> None:
    assert WindowAttention(32, 2, window=(8, 4, 3)).shift == (0, 0, 0)
    assert WindowAttention(32, 3, window=(8, 4, 3)).shift == (4, 2, 1)
    assert WindowAttention(32, 3, window=(8, 4, 3), shift=False).shift == (0, 0, 0)


def test_two_layers_carry_information_across_a_border() -> None:
    """In one layer the first window sees nothing beyond itself; a shifted second layer brings in its neighbor."""
    first, second = (WindowAttention(32, layer, window=(2, 2, 2)) for layer in (0, 1))
    x = torch.randn(1, 4, 4, 4, 32, requires_grad=True)
    for y, seen in ((first(x), 2), (second(first(x)), 4)):
        (gradient,) = torch.autograd.grad(y[0, 1, 1, 1].sum(), x)
        assert (gradient[0].abs().amax(-1) > 0).nonzero().amax(0).tolist() == [seen - 1] * 3


@pytest.mark.parametrize("layer", [0, 1], ids=["unshifted", "shifted"])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_flops_are_what_torch_counts(grid: Size3, layer: int) -> None:
    mixer = WindowAttention(32, layer, window=(4, 2, 3))
    with FlopCounterMode(display=False) as counter:
        mixer(torch.randn(1, *grid, 32))
    assert mixer.flops(grid) == counter.get_total_flops()


def test_flops_by_hand() -> None:
    """Time is cut into 2, 4, 2; height into 1, 2, 1; width is one window of 3."""
    pairs = (4 + 16 + 4) * (1 + 4 + 1) * 9
    assert WindowAttention(32, 1, window=(4, 2, 8)).flops((8, 4, 3)) == 8 * 96 * 32**2 + 4 * pairs * 32


def test_parameters_keep_their_names() -> None:
    assert {name: tuple(p.shape) for name, p in WindowAttention(32, 0, heads=2).named_parameters()} == {
        "qkv.proj.weight": (96, 32),
        "qkv.q_norm.weight": (16,),
        "qkv.k_norm.weight": (16,),
        "out_proj.weight": (32, 32),
    }


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: WindowAttention(32, 0, window=(0, 2, 2)), r"window \(0, 2, 2\) must be three sizes of at least 1"),
        (lambda: WindowAttention(32, 0, heads=5), "heads 5 .* does not divide"),
        (
            lambda: WindowAttention(32, 0, backend="flash")(torch.zeros(1, 2, 2, 2, 32)),  # type: ignore[arg-type]
            "backend='flash' is none of 'auto', 'sdpa', 'flash_attn'",
        ),
    ],
    ids=["window", "heads", "backend"],
)
def test_wrong_options_name_the_value(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("at_most", [1, 20, 33])
def test_blocks_of_windows_change_nothing(at_most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mixer, x = WindowAttention(32, 1, window=(4, 2, 2)), torch.randn(2, 5, 4, 3, 32, requires_grad=True)
    whole = mixer(x)
    gradient = torch.autograd.grad(whole.square().sum(), x)[0]
    monkeypatch.setattr("lingen_kit.mixers.window._CPU_TOKENS", at_most)
    blocks = mixer(x)
    torch.testing.assert_close(blocks, whole)
    torch.testing.assert_close(torch.autograd.grad(blocks.square().sum(), x)[0], gradient)
