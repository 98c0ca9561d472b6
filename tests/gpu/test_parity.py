"""On a GPU: the torch paths and every kernel that is installed agree with float64, in outputs and gradients."""

import pytest
import torch

from lingen_kit.analysis.parity import CASES, Case, compare

ON_CUDA = [case for case in CASES if case.device == "cuda"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", ON_CUDA, ids=lambda case: f"{case.name}, {case.backend}")
def test_kernels_compute_what_torch_computes(case: Case, dtype: torch.dtype) -> None:
    rows = list(compare(case, dtype))
    wrong = [row for row in rows if not row.passed]
    assert rows and not wrong, "\n".join(map(str, wrong))
    if rows[0].skipped:
        pytest.skip(f"the torch path alone was compared: {rows[0].skipped}")
