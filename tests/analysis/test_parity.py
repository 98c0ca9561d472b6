"""The comparison of kernels finds what differs, and says what it could not run."""

from dataclasses import replace

import pytest
import torch

from lingen_kit.analysis.parity import CASES, Case, Row, compare
from lingen_kit.errors import MissingPackage


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}, {case.backend}")
def test_every_case_runs_its_operator(case: Case) -> None:
    """The torch path stands in for the kernel: shapes, dtypes and options of the case are good."""
    rows = list(compare(replace(case, device="cpu", backend=case.native), torch.float32))
    assert [row.tensor for row in rows] == ["y", *(f"d{name}" for name in case.shapes)]
    assert all(row.passed and row.kernel_error == row.native_error for row in rows)


def test_a_wrong_kernel_is_found() -> None:
    def scale(x: torch.Tensor, backend: str) -> torch.Tensor:
        return x * (1.01 if backend == "kernel" else 1.0)

    rows = list(compare(Case("scale", "kernel", scale, {"x": (4,)}, device="cpu"), torch.float32))
    assert [(row.tensor, row.passed) for row in rows] == [("y", False), ("dx", False)]
    assert rows[0].kernel_error == pytest.approx(0.01, rel=1e-3)


def test_nan_does_not_pass() -> None:
    assert not Row("case", "kernel", "float32", "y", 1e-7, float("nan")).passed
    assert not Row("case", "kernel", "float32", "y", float("nan")).passed


def test_a_missing_kernel_leaves_the_torch_path() -> None:
    def square(x: torch.Tensor, backend: str) -> torch.Tensor:
        if backend == "kernel":
            raise MissingPackage("op: kernel is not installed")
        return x.square()

    rows = list(compare(Case("square", "kernel", square, {"x": (4,)}, device="cpu"), torch.float32))
    assert all(row.passed and row.kernel_error is None for row in rows)
    assert rows[0].skipped == "kernel is not installed"


def test_a_kernel_that_fails_is_told_and_ends_nothing() -> None:
    def square(x: torch.Tensor, backend: str) -> torch.Tensor:
        if backend == "kernel":
            raise RuntimeError("wrong results with\nthis compiler")
        return x.square()

    rows = list(compare(Case("square", "kernel", square, {"x": (4,)}, device="cpu"), torch.float32))
    assert [(row.tensor, row.passed, row.skipped) for row in rows] == [
        ("y", False, "wrong results with this compiler"),
        ("dx", False, "wrong results with this compiler"),
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_without_a_gpu_its_kernels_are_skipped() -> None:
    (row,) = compare(next(case for case in CASES if case.device == "cuda"), torch.bfloat16)
    assert row.skipped == "no CUDA device" and not row.passed
