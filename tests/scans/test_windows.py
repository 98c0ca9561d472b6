"""Scans window by window."""

import math

import pytest
import torch

from lingen_kit.scans import Grid, LocalWindows, Raster


def test_windows_by_hand() -> None:
    """2x4 tokens in windows of 2x2, and 3x3 tokens, whose windows at the borders are ragged."""
    assert LocalWindows((1, 2, 2)).index((1, 2, 4), 0).tolist() == [0, 1, 4, 5, 2, 3, 6, 7]
    assert LocalWindows((1, 2, 2)).index((1, 3, 3), 0).tolist() == [0, 1, 3, 4, 2, 5, 6, 7, 8]


def test_orders_hold_for_windows_and_within_them() -> None:
    scan = LocalWindows((1, 2, 2), orders=["thw", "wht"])
    assert scan.index((1, 4, 4), 1).tolist() == [0, 4, 1, 5, 8, 12, 9, 13, 2, 6, 3, 7, 10, 14, 11, 15]


@pytest.mark.parametrize("order", ["thw", "hwt", "twh", "wht"])
@pytest.mark.parametrize(("grid", "window"), [((4, 4, 4), (2, 2, 2)), ((5, 4, 7), (2, 3, 4)), ((1, 6, 5), (8, 4, 4))])
def test_a_sequence_is_sorted_by_window_then_by_token(grid: Grid, window: Grid, order: str) -> None:
    coordinates = torch.unravel_index(LocalWindows(window, [order]).index(grid, 0), grid)
    axes = ["thw".index(letter) for letter in order]
    keys = [tuple(int(coordinates[a][n]) // window[a] for a in axes) + tuple(int(coordinates[a][n]) for a in axes)
            for n in range(math.prod(grid))]  # fmt: skip
    assert keys == sorted(keys)


def test_a_window_larger_than_the_grid_is_the_raster() -> None:
    assert torch.equal(LocalWindows((9, 9, 9)).index((2, 3, 4), 0), Raster().index((2, 3, 4), 0))


@pytest.mark.parametrize("window", [(0, 2, 2), (2, 2)], ids=str)
def test_wrong_windows_are_refused(window: Grid) -> None:
    with pytest.raises(ValueError, match="window"):
        LocalWindows(window)
