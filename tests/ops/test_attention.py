"""Attention against its naive twins, outputs and gradients."""

import pytest
import torch

from lingen_kit.ops import naive
from lingen_kit.ops.attention import attention, window_attention

Size3 = tuple[int, int, int]


def test_attention_equals_its_twin() -> None:
    q = torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(2, 7, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mask = torch.rand(2, 1, 1, 7) < 0.6
    mask[..., 0] = True
    fast, slow = attention(q, k, v, mask), naive.attention(q, k, v, mask)
    torch.testing.assert_close(fast, slow)
    weights = torch.randn_like(fast)
    for a, b in zip(
        torch.autograd.grad(fast, (q, k, v), weights),
        torch.autograd.grad(slow, (q, k, v), weights),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


CASES: list[tuple[Size3, Size3, Size3]] = [
    ((4, 4, 4), (2, 2, 2), (0, 0, 0)),
    ((4, 4, 4), (2, 2, 2), (1, 1, 1)),
    ((8, 4, 4), (4, 4, 4), (2, 2, 2)),
    ((5, 3, 7), (4, 2, 3), (0, 0, 0)),
    ((5, 3, 7), (4, 2, 3), (2, 1, 1)),
    ((1, 6, 6), (8, 4, 4), (4, 2, 2)),
    ((1, 1, 1), (8, 4, 4), (4, 2, 2)),
    ((3, 9, 2), (8, 4, 4), (4, 2, 2)),
    ((6, 1, 5), (2, 3, 4), (1, 1, 2)),
]


@pytest.mark.parametrize(("grid", "window", "shift"), CASES, ids=str)
def test_window_attention_equals_its_twin(grid: Size3, window: Size3, shift: Size3) -> None:
    q, k, v = (torch.randn(2, *grid, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    fast, slow = window_attention(q, k, v, window, shift), naive.window_attention(q, k, v, window, shift)
    torch.testing.assert_close(fast, slow)
    weights = torch.randn_like(fast)
    for a, b in zip(
        torch.autograd.grad(fast, (q, k, v), weights),
        torch.autograd.grad(slow, (q, k, v), weights),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_one_window_over_everything_is_full_attention() -> None:
    q, k, v = (torch.randn(1, 2, 3, 4, 2, 5) for _ in range(3))
    everywhere = window_attention(q, k, v, (2, 3, 4), (1, 1, 1))
    full = attention(q.flatten(1, 3), k.flatten(1, 3), v.flatten(1, 3))
    torch.testing.assert_close(everywhere.flatten(1, 3), full)


def test_tokens_of_other_windows_have_no_influence() -> None:
    q, k, v = (torch.randn(1, 4, 4, 4, 1, 2) for _ in range(3))
    before = window_attention(q, k, v, (2, 2, 2), (1, 1, 1))
    v[0, 3, 3, 3] += 1  # with the shift, a window of its own
    changed = (window_attention(q, k, v, (2, 2, 2), (1, 1, 1)) != before).any(-1).any(-1)[0]
    assert changed.nonzero().tolist() == [[3, 3, 3]]
