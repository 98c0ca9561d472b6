"""d_k: the supplement's Fig. 1 as we compute it, and any grid against counting pairs one by one."""

import itertools
import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingen_kit.analysis.adjacency import Pairs, mean_distances, places
from lingen_kit.scans import Grid, Hilbert, LocalWindows, Raster, RotaryMajor, Scan, Snake, Zigzag

ROTARY = RotaryMajor()
ROTARY_BY_ROWS = RotaryMajor(["thw", "twh", "hwt", "wht"])


@pytest.mark.parametrize(
    ("scan", "face", "cube"),
    [
        (Raster(), [352.33, 352.33, 352.33, 352.33, 352.33], [594.43, 594.43, 594.43, 594.43, 594.43]),
        (ROTARY, [352.33, 11.33, 1.00, 1.00, 1.00], [594.43, 302.07, 297.64, 158.07, 158.07]),
        (ROTARY_BY_ROWS, [352.33, 342.00, 1.00, 1.00, 1.00], [594.43, 583.36, 297.64, 158.07, 158.07]),
        (Snake(), [352.33, 11.33, 1.00, 1.00, 1.00], [594.43, 212.09, 170.40, 82.22, 82.22]),
    ],
    ids=repr,
)
def test_the_table(scan: Scan, face: list[float], cube: list[float]) -> None:
    layers, grid = [1, 2, 3, 4, 8], (32, 32, 32)
    assert [round(d, 2) for d in mean_distances(scan, grid, layers, "face")] == face
    assert [round(d, 2) for d in mean_distances(scan, grid, layers, "cube")] == cube


def count_pairs(scan: Scan, grid: Grid, k: int, pairs: Pairs) -> list[int]:
    """The smallest distance of every pair, found by walking over all cubes or all pairs of tokens."""
    tokens = list(itertools.product(*map(range, grid)))
    if pairs == "face":
        adjacent = [(a, b) for a, b in itertools.combinations(tokens, 2) if math.dist(a, b) == 1]
    else:
        corners = itertools.product(*(range(max(1, size - 1)) for size in grid))
        cubes = ([range(c, min(c + 2, size)) for c, size in zip(corner, grid, strict=True)] for corner in corners)
        adjacent = [pair for cube in cubes for pair in itertools.combinations(itertools.product(*cube), 2)]
    sequences = [scan.index(grid, layer).tolist() for layer in range(k)]
    place = [{tokens[position]: i for i, position in enumerate(sequence)} for sequence in sequences]
    return [min(abs(p[a] - p[b]) for p in place) for a, b in adjacent]


@pytest.mark.parametrize("pairs", get_args(Pairs))
@given(
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(2, 4)),
    scan=st.sampled_from([RotaryMajor(), Zigzag(), Hilbert(), LocalWindows((2, 2, 2))]),
    k=st.integers(1, 5),
)
def test_equals_counting_pairs(pairs: Pairs, grid: Grid, scan: Scan, k: int) -> None:
    distances = count_pairs(scan, grid, k, pairs)
    expected = sum(distances) / len(distances)
    assert mean_distances(scan, grid, [1, k], pairs)[1] == pytest.approx(expected, rel=1e-12)


def test_a_cube_has_28_pairs() -> None:
    assert len(count_pairs(Raster(), (2, 2, 2), 1, "cube")) == 28


def test_numbers_of_layers_come_back_as_they_were_asked_for() -> None:
    one, two, three = mean_distances(ROTARY, (4, 5, 6), [1, 2, 3])
    assert one > two > three
    assert mean_distances(ROTARY, (4, 5, 6), [3, 1, 2, 1]) == [three, one, two, one]


def test_places_invert_the_index() -> None:
    assert places(RotaryMajor(["hwt"]), (2, 1, 3), 0).tolist() == [[[0, 2, 4]], [[1, 3, 5]]]


@pytest.mark.parametrize("layers", [[], [0, 1]], ids=str)
def test_wrong_layers_are_refused(layers: list[int]) -> None:
    with pytest.raises(ValueError, match="layers"):
        mean_distances(ROTARY, (2, 2, 2), layers)


@pytest.mark.parametrize("grid", [(1, 1, 1), (0, 2, 2)], ids=str)
def test_wrong_grids_are_refused(grid: Grid) -> None:
    with pytest.raises(ValueError, match="grid"):
        mean_distances(ROTARY, grid, [1])
