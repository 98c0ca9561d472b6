"""Scans are permutations, undo themselves, and keep neighbours as near as the paper says."""

import pytest
import torch

from lingen_kit.scans import AxisScan, Raster, RotaryMajor

GRIDS = [(1, 1, 1), (1, 4, 5), (3, 1, 2), (2, 3, 4)]
ORDERS = ["thw", "twh", "htw", "hwt", "wth", "wht"]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("order", ORDERS)
def test_axis_scan_is_a_permutation_that_undoes_itself(order: str, grid: tuple[int, int, int]) -> None:
    scan = AxisScan([order])
    x = torch.randn(2, *grid, 3)
    sequence = scan.flatten(x, layer=0)
    assert sorted(scan.index(grid, 0).tolist()) == list(range(grid[0] * grid[1] * grid[2]))
    assert torch.equal(sequence, x.flatten(1, 3)[:, scan.index(grid, 0)])
    assert torch.equal(scan.unflatten(sequence, grid, layer=0), x)


def test_the_last_axis_of_an_order_is_the_fastest() -> None:
    assert AxisScan(["hwt"]).index((2, 1, 3), 0).tolist() == [0, 3, 1, 4, 2, 5]
    assert AxisScan(["wht"]).index((1, 2, 2), 0).tolist() == [0, 2, 1, 3]
    assert Raster().index((2, 2, 2), 5).tolist() == list(range(8))


def test_rotary_major_cycles_through_its_orders() -> None:
    scan = RotaryMajor()
    grid = (2, 3, 4)
    for layer, order in enumerate(["thw", "hwt", "twh", "wht", "thw"]):
        assert torch.equal(scan.index(grid, layer), AxisScan([order]).index(grid, 0))


@pytest.mark.parametrize(("layers", "expected"), [(1, 352.33), (2, 11.33), (3, 1.0), (4, 1.0)])
def test_adjacency_of_rotary_major(layers: int, expected: float) -> None:
    """Mean over face-adjacent tokens of the smallest distance in any of k layers, on 32x32x32 (supplement, Fig. 1)."""
    grid = (32, 32, 32)
    distances = []
    for layer in range(layers):
        position = torch.empty(32**3, dtype=torch.long)
        position[RotaryMajor().index(grid, layer)] = torch.arange(32**3)
        position = position.view(grid)
        distances.append(torch.cat([position.diff(dim=axis).abs().flatten() for axis in range(3)]))
    assert torch.stack(distances).amin(0).double().mean().item() == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("orders", [["thx"], ["th"], ["tthw"], []], ids=str)
def test_wrong_orders_are_refused(orders: list[str]) -> None:
    with pytest.raises(ValueError, match="order"):
        AxisScan(orders)
