"""Rotary embedding: relative positions, lengths, the split of the channels, cached tables."""

import math

import pytest
import torch

from lingen_kit.ops.rope import _table, rope3d, split_channels


def test_turns_each_pair_by_its_own_angle() -> None:
    """Written out with complex numbers, pair by pair."""
    base, grid, head_dim = 100.0, (2, 3, 2), 14
    x = torch.randn(1, *grid, 2, head_dim, dtype=torch.float64)
    turned = rope3d(x, base)
    first = 0
    for axis, channels in enumerate(split_channels(head_dim)):
        for pair in range(channels // 2):
            speed = base ** (-2 * pair / channels)
            for position in torch.cartesian_prod(*(torch.arange(size) for size in grid)).tolist():
                place = (0, *position, slice(None), slice(first, first + 2))
                point = torch.view_as_complex(x[place].contiguous())
                expected = point * complex(math.cos(speed * position[axis]), math.sin(speed * position[axis]))
                torch.testing.assert_close(turned[place], torch.view_as_real(expected), rtol=1e-6, atol=1e-6)
            first += 2
    assert first == head_dim


def test_products_depend_on_relative_positions_only() -> None:
    """The same query and key at every place: their product is a function of the offset, of each axis."""
    grid = (4, 5, 6)
    q, k = (torch.randn(12, dtype=torch.float64) for _ in range(2))
    turned_q, turned_k = (rope3d(t.expand(1, *grid, 1, -1))[0, ..., 0, :] for t in (q, k))
    products = torch.einsum("thwp,xyzp->thwxyz", turned_q, turned_k)
    torch.testing.assert_close(
        products[:-1, :-2, :-3, :-1, :-2, :-3], products[1:, 2:, 3:, 1:, 2:, 3:], rtol=1e-5, atol=1e-5
    )
    offsets = [
        products[0, 0, 0, 1, 0, 0],
        products[0, 0, 0, 0, 1, 0],
        products[0, 0, 0, 0, 0, 1],
        products[0, 0, 0, 0, 0, 0],
    ]
    assert torch.stack(offsets).unique().numel() == 4


def test_keeps_lengths_dtype_and_the_first_token() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        x = torch.randn(2, 3, 4, 5, 2, 8, dtype=dtype)
        turned = rope3d(x)
        assert turned.dtype == dtype and turned.shape == x.shape
        torch.testing.assert_close(
            turned.norm(dim=-1), x.norm(dim=-1), rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=0
        )
        torch.testing.assert_close(turned[:, 0, 0, 0], x[:, 0, 0, 0], rtol=0, atol=0)


def test_gradcheck_and_strided_input() -> None:
    x = torch.randn(1, 6, 2, 2, 1, 2, dtype=torch.float64).transpose(1, 5).requires_grad_()
    assert not x.is_contiguous()
    assert torch.autograd.gradcheck(rope3d, x)
    torch.testing.assert_close(rope3d(x), rope3d(x.detach().contiguous()))


@pytest.mark.parametrize(
    ("head_dim", "split"),
    [(128, (44, 42, 42)), (64, (24, 20, 20)), (112, (40, 36, 36)), (6, (2, 2, 2)), (8, (4, 2, 2))],
)
def test_the_split_of_wan(head_dim: int, split: tuple[int, int, int]) -> None:
    assert split_channels(head_dim) == split


@pytest.mark.parametrize("head_dim", [2, 4, 7, 65])
def test_head_dims_that_do_not_split_are_named(head_dim: int) -> None:
    for call in (split_channels, lambda p: rope3d(torch.zeros(1, 1, 1, 1, 1, p))):
        with pytest.raises(ValueError, match=f"head dim {head_dim} must be even and at least 6"):
            call(head_dim)


def test_a_part_of_a_video_turns_as_in_the_whole() -> None:
    x = torch.randn(1, 5, 2, 3, 2, 12)
    torch.testing.assert_close(rope3d(x[:, 2:], first_frame=2), rope3d(x)[:, 2:], rtol=0, atol=0)


def test_a_table_first_made_in_inference_mode_serves_training() -> None:
    _table.cache_clear()
    x = torch.randn(1, 2, 2, 2, 1, 6, requires_grad=True)
    with torch.inference_mode():
        rope3d(x)
    rope3d(x).sum().backward()
    rope3d(x)
    assert x.grad is not None and _table.cache_info().misses == 1
