"""What all index scans promise: a permutation on any grid, undone exactly, cheap to copy, safe to share."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lingen_kit.scans import Grid, Hilbert, IndexScan, LocalWindows, Morton, RotaryMajor, Scan, Snake, Sweep, Zigzag

SCANS = [
    Zigzag(),
    Zigzag(pattern="t", schemes=3),
    Sweep(),
    Snake(),
    Hilbert(),
    Morton(),
    LocalWindows(window=(2, 3, 2), orders=("thw", "wth")),
]
every_scan = pytest.mark.parametrize("scan", SCANS, ids=repr)
sides = st.integers(1, 9)


@every_scan
@given(grid=st.tuples(sides, sides, sides), layer=st.integers(0, 30))
def test_index_is_a_permutation_that_flatten_reads_and_unflatten_undoes(scan: Scan, grid: Grid, layer: int) -> None:
    x = torch.randn(2, *grid, 3)
    index = scan.index(grid, layer)
    assert torch.equal(index.sort().values, torch.arange(math.prod(grid)))
    sequence = scan.flatten(x, layer)
    assert torch.equal(sequence, x.flatten(1, 3)[:, index])
    assert torch.equal(scan.unflatten(sequence, grid, layer), x)


@every_scan
def test_orders_repeat_after_the_period_and_not_before(scan: IndexScan) -> None:
    grid = (4, 6, 8)
    indices = [scan.index(grid, layer) for layer in range(2 * scan.period)]
    for layer in range(scan.period):
        assert torch.equal(indices[layer], indices[layer + scan.period])
    for shorter in range(1, scan.period):
        assert any(not torch.equal(indices[layer], indices[layer + shorter]) for layer in range(scan.period))


@every_scan
def test_gradients(scan: Scan) -> None:
    grid = (2, 3, 3)
    x = torch.randn(2, *grid, 2, dtype=torch.float64, requires_grad=True)
    sequence = torch.randn(2, 18, 2, dtype=torch.float64, requires_grad=True)
    for call, argument in [(lambda x: scan.flatten(x, 1), x), (lambda s: scan.unflatten(s, grid, 1), sequence)]:
        torch.autograd.gradcheck(call, argument)
        torch.autograd.gradgradcheck(call, argument)


def test_gradients_of_a_strided_input_equal_those_of_plain_indexing() -> None:
    base = torch.randn(2, 5, 3, 4, 6, requires_grad=True)
    x = base.transpose(1, 3)  # (2, 4, 3, 5, 6)
    weight = torch.randn(6, 60).T  # a gradient that is not contiguous either
    (got,) = torch.autograd.grad((Hilbert().flatten(x, 2) * weight).sum(), base)
    (expected,) = torch.autograd.grad((x.flatten(1, 3)[:, Hilbert().index((4, 3, 5), 2)] * weight).sum(), base)
    assert torch.equal(got, expected)


class Counting(IndexScan):
    """The raster backwards."""

    period = 2
    made: list[tuple[Grid, int]] = []

    def __init__(self, option: str) -> None:
        self.option = option

    def permutation(self, grid: Grid, phase: int) -> Tensor:
        self.made.append((grid, phase))
        return torch.arange(math.prod(grid) - 1, -1, -1)


def test_equal_scans_share_an_index_that_is_made_once_for_a_grid_and_a_phase() -> None:
    Counting.made.clear()
    scan = Counting("shared")
    x = torch.randn(1, 2, 3, 4, 5)
    for each in (scan, Counting("shared"), copy.deepcopy(scan), pickle.loads(pickle.dumps(scan))):
        assert each == scan
        for layer in range(4):
            torch.testing.assert_close(each.unflatten(each.flatten(x, layer), (2, 3, 4), layer), x)
    assert Counting.made == [((2, 3, 4), 0), ((2, 3, 4), 1)]
    Counting("other").flatten(x, 0)
    scan.flatten(x[:, :1], 0)
    assert len(Counting.made) == 4
    assert Counting("other") != scan


def test_a_copy_carries_no_index_along() -> None:
    scan = Hilbert()
    scan.flatten(torch.zeros(1, 16, 16, 16, 1), 0)
    assert len(pickle.dumps(scan)) < 500


def test_an_index_that_was_handed_out_can_be_written_to() -> None:
    index = Snake().index((2, 2, 2), 0)
    index.zero_()
    assert Snake().index((2, 2, 2), 0).sum() == 28


def test_an_index_first_made_while_sampling_serves_training() -> None:
    scan, x = Counting("inference"), torch.randn(1, 2, 2, 2, 3)
    with torch.inference_mode():
        scan.flatten(x, 0)
    x.requires_grad_()
    scan.unflatten(scan.flatten(x, 0), (2, 2, 2), 0).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_a_meta_device_leaves_no_meta_tensors_behind() -> None:
    scan = Counting("meta")
    with torch.device("meta"):
        assert scan.flatten(torch.randn(1, 2, 2, 3, 4), 0).shape == (1, 12, 4)
        assert scan.index((2, 2, 3), 0).device.type == "cpu"
    assert scan.flatten(torch.ones(1, 2, 2, 3, 4), 0).sum() == 48


@pytest.mark.parametrize("scan", [*SCANS, RotaryMajor()], ids=repr)
def test_what_does_not_fit_is_refused(scan: Scan) -> None:
    with pytest.raises(ValueError, match=r"length 5 does not fit grid \(1, 2, 3\).*6 tokens"):
        scan.unflatten(torch.zeros(1, 5, 2), (1, 2, 3), 0)
    with pytest.raises(ValueError, match=r"grid \(1, 0, 3\)"):
        scan.unflatten(torch.zeros(1, 0, 2), (1, 0, 3), 0)
    with pytest.raises(ValueError, match=r"grid \(2, -1, 3\)"):
        scan.index((2, -1, 3), 0)
    with pytest.raises(ValueError, match=r"grid \(0, 2, 3\)"):
        scan.flatten(torch.zeros(1, 0, 2, 3, 4), 0)


def test_a_repr_names_class_and_options() -> None:
    assert repr(Hilbert(["thw", "wht"])) == "Hilbert(orders=[thw, wht])"
    assert repr(LocalWindows(window=(1, 2, 3))) == "LocalWindows(window=[1, 2, 3], orders=[thw])"
    assert repr(Sweep(schemes=2)) == "Sweep(pattern=sst, schemes=2)"


def test_a_compiled_model_holds_the_index() -> None:
    scan, x = Counting("compiled"), torch.randn(2, 2, 3, 4, 5, requires_grad=True)
    compiled = torch.compile(
        lambda x: scan.unflatten(scan.flatten(x, 1).cumsum(1), (2, 3, 4), 1), backend="eager", fullgraph=True
    )
    reference = scan.unflatten(scan.flatten(x, 1).cumsum(1), (2, 3, 4), 1)
    assert torch.equal(compiled(x), reference)


@pytest.mark.parametrize("scan", [Hilbert(), Snake(), Zigzag(), Morton(), LocalWindows()], ids=repr)
def test_scans_compile_for_grid_after_grid(scan: IndexScan) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: scan.unflatten(2 * scan.flatten(x, 1), x.shape[1:4], 1), backend="eager")
    for grid in ((2, 3, 4), (1, 4, 4), (3, 3, 5), (4, 2, 2), (5, 1, 3)):
        x = torch.randn(1, *grid, 2)
        assert torch.equal(compiled(x), 2 * x)


class Broken(IndexScan):
    period = 1

    def __init__(self, index: Tensor) -> None:
        self.broken = index

    def permutation(self, grid: Grid, phase: int) -> Tensor:
        return self.broken


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (torch.tensor([0, 0, 2, 3]), "1 is missing, 0 comes twice"),
        (torch.tensor([0, 1, 2]), r"torch.int64 \(3,\)"),
        (torch.tensor([0, 1, 2, 4]), "it holds 0 to 4"),
        (torch.tensor([0.0, 1, 2, 3]), "torch.float32"),
    ],
    ids=["twice", "short", "beyond", "floats"],
)
def test_what_is_no_permutation_is_refused(index: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=r"Broken.permutation\(\(1, 2, 2\), phase=0\) must be a perm.*" + message):
        Broken(index).flatten(torch.zeros(1, 1, 2, 2, 3), 0)


def test_an_attribute_that_cannot_be_looked_up_is_named() -> None:
    scan = Snake()
    scan.extra = [1, 2]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="keep a list as a tuple"):
        scan.index((1, 2, 2), 0)
