"""Space-filling curves: continuous where they promise to be, block after block, at once on large grids."""

import itertools
import math

import pytest
import torch

from lingen_kit.scans import Grid, Hilbert, Morton
from lingen_kit.scans.hilbert import hilbert_curve


@pytest.mark.parametrize("grid", [(8, 8, 8), (34, 16, 16), (16, 16, 34), (6, 10, 14), (1, 8, 8), (1, 6, 20), (8, 1, 2)])
@pytest.mark.parametrize("order", ["thw", "hwt", "twh", "wht"])
def test_hilbert_goes_to_face_neighbors_if_all_sides_are_even_or_one(order: str, grid: Grid) -> None:
    coordinates = torch.stack(torch.unravel_index(Hilbert([order]).index(grid, 0), grid))
    assert (coordinates.diff(dim=1).abs().sum(0) == 1).all()
    axis = next(axis for axis in ("thw".index(letter) for letter in order) if grid[axis] > 1)
    assert coordinates[:, 0].tolist() == [0, 0, 0]
    assert coordinates[:, -1].tolist() == [grid[i] - 1 if i == axis else 0 for i in range(3)]


def test_odd_sides_cost_diagonal_steps_and_no_longer_ones() -> None:
    diagonal = 0
    for a, b, c in itertools.product(range(2, 9), range(1, 9), range(1, 9)):
        sides = (a, b, c) if b > 1 else (a, c, b)
        changes = hilbert_curve(sides).diff(dim=1).abs()
        assert changes.max() == 1
        assert changes.sum(0).max() <= 2
        diagonal += int((changes.sum(0) == 2).sum())
    assert diagonal > 0


@pytest.mark.parametrize("kind", [Hilbert, Morton])
@pytest.mark.parametrize("grid", [(16, 16, 16), (1, 16, 16), (16, 16, 1)], ids=str)
def test_curves_finish_a_block_before_they_leave_it(kind: type[Hilbert], grid: Grid) -> None:
    for layer, size in itertools.product(range(4), (2, 4, 8)):
        blocks = torch.stack(torch.unravel_index(kind().index(grid, layer), grid)) // size
        changes = int((blocks.diff(dim=1) != 0).any(0).sum())
        assert changes + 1 == math.prod(-(-side // size) for side in grid)


def test_hilbert_by_hand() -> None:
    """The first two curves of the plane, starting down the rows: a cup, and four cups."""
    assert Hilbert(["hwt"]).index((1, 2, 2), 0).tolist() == [0, 1, 3, 2]
    assert Hilbert(["hwt"]).index((1, 4, 4), 0).tolist() == [0, 4, 5, 1, 2, 3, 7, 6, 10, 11, 15, 14, 13, 9, 8, 12]
    assert Hilbert(["wht"]).index((1, 2, 2), 0).tolist() == [0, 2, 3, 1]
    assert Hilbert(["thw"]).index((2, 1, 1), 0).tolist() == [0, 1]


def test_morton_by_hand() -> None:
    assert Morton(["thw"]).index((1, 4, 4), 0).tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    assert Morton(["wht"]).index((1, 2, 2), 0).tolist() == [0, 2, 1, 3]
    assert Morton(["thw"]).index((2, 2, 2), 0).tolist() == list(range(8))
    assert Morton(["thw"]).index((1, 3, 3), 0).tolist() == [0, 1, 3, 4, 2, 5, 6, 7, 8]  # inside of 4x4


def test_a_long_grid_is_a_row_of_morton_cubes() -> None:
    index = Morton(["hwt"]).index((32, 8, 8), 0)
    cube = Morton(["hwt"]).index((8, 8, 8), 0)
    assert torch.equal(index, torch.cat([cube + i * 512 for i in range(4)]))


@pytest.mark.parametrize("kind", [Hilbert, Morton])
def test_a_large_grid(kind: type[Hilbert]) -> None:
    index = kind().index((272, 32, 32), 1)
    assert torch.equal(index.sort().values, torch.arange(272 * 32 * 32))
