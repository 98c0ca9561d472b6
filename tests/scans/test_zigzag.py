"""Zigzag, sweep and snake, by hand and step by step."""

import pytest
import torch
from torch import Tensor

from lingen_kit.scans import Grid, Raster, Snake, Sweep, Zigzag


def steps(index: Tensor, grid: Grid) -> Tensor:
    """Coordinates that change, summed, at each step through the grid."""
    return torch.stack(torch.unravel_index(index, grid)).diff(dim=1).abs().sum(0)


# On 2 rows of 3: 0 1 2
#                 3 4 5
ZIGZAG = [
    [0, 1, 2, 5, 4, 3],  # top left, rows
    [0, 3, 4, 1, 2, 5],  # top left, columns
    [2, 1, 0, 3, 4, 5],  # top right, rows
    [2, 5, 4, 1, 0, 3],
    [3, 4, 5, 2, 1, 0],  # bottom left, rows
    [3, 0, 1, 4, 5, 2],
    [5, 4, 3, 0, 1, 2],  # bottom right, rows
    [5, 2, 1, 4, 3, 0],
]
SWEEP = [
    [0, 1, 2, 3, 4, 5],
    [0, 3, 1, 4, 2, 5],
    [2, 1, 0, 5, 4, 3],
    [2, 5, 1, 4, 0, 3],
    [3, 4, 5, 0, 1, 2],
    [3, 0, 4, 1, 5, 2],
    [5, 4, 3, 2, 1, 0],
    [5, 2, 4, 1, 3, 0],
]


@pytest.mark.parametrize(("kind", "schemes"), [(Zigzag, ZIGZAG), (Sweep, SWEEP)])
def test_the_eight_schemes_take_turns(kind: type[Zigzag], schemes: list[list[int]]) -> None:
    scan = kind(pattern="s")
    assert scan.period == 8
    assert [scan.index((1, 2, 3), layer).tolist() for layer in range(8)] == schemes


def test_fewer_schemes_are_the_first_ones() -> None:
    scan = Zigzag(pattern="s", schemes=2)
    assert [scan.index((1, 2, 3), layer).tolist() for layer in range(3)] == [ZIGZAG[0], ZIGZAG[1], ZIGZAG[0]]


def test_a_video_by_hand() -> None:
    """Two frames of 2x2, the second being 4 to 7: two spatial layers, then a temporal one, and again."""
    scan = Zigzag()
    assert [scan.index((2, 2, 2), layer).tolist() for layer in range(6)] == [
        [0, 1, 3, 2, 4, 5, 7, 6],
        [0, 2, 3, 1, 4, 6, 7, 5],
        [1, 5, 0, 4, 2, 6, 3, 7],  # forward in time, pixels in the order of the layer that follows
        [1, 0, 2, 3, 5, 4, 6, 7],
        [1, 3, 2, 0, 5, 7, 6, 4],
        [6, 2, 7, 3, 5, 1, 4, 0],  # backward in time
    ]
    assert scan.period == 12


@pytest.mark.parametrize(
    ("pattern", "schemes", "period"), [("st", 8, 16), ("sst", 1, 6), ("sst", 8, 12), ("t", 8, 2), ("ssst", 3, 8)]
)
def test_periods(pattern: str, schemes: int, period: int) -> None:
    assert Zigzag(pattern, schemes).period == period


def test_zigzag_is_continuous_within_a_frame_and_everywhere_on_an_image() -> None:
    scan = Zigzag()
    for layer in range(12):
        assert (steps(scan.index((1, 5, 4), layer), (1, 5, 4)) == 1).all()
        if scan.pattern[layer % 3] == "s":
            within = steps(scan.index((3, 5, 4), layer), (3, 5, 4))
            assert (within[torch.arange(1, 60) % 20 != 0] == 1).all()


@pytest.mark.parametrize("grid", [(1, 1, 1), (1, 5, 4), (3, 5, 4), (2, 3, 7), (4, 1, 3)], ids=str)
@pytest.mark.parametrize("order", ["thw", "twh", "htw", "hwt", "wth", "wht"])
def test_every_step_of_the_snake_goes_to_a_face_neighbor(order: str, grid: Grid) -> None:
    assert (steps(Snake([order]).index(grid, 0), grid) == 1).all()


def test_the_snake_by_hand() -> None:
    assert Snake(["thw"]).index((2, 2, 3), 0).tolist() == [0, 1, 2, 5, 4, 3, 9, 10, 11, 8, 7, 6]
    assert Snake(["wht"]).index((2, 1, 2), 0).tolist() == [0, 2, 3, 1]


def test_a_sweep_from_the_top_left_is_the_raster() -> None:
    assert torch.equal(Sweep().index((3, 4, 5), 0), Raster().index((3, 4, 5), 0))


@pytest.mark.parametrize("pattern", ["", "sx", "S"])
def test_wrong_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        Zigzag(pattern=pattern)


@pytest.mark.parametrize("schemes", [0, 9])
def test_wrong_numbers_of_schemes_are_refused(schemes: int) -> None:
    with pytest.raises(ValueError, match=f"schemes {schemes} must be between 1 and 8"):
        Sweep(schemes=schemes)
