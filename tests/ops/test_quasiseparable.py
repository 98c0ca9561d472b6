"""The quasi-separable operator against two recurrences and a diagonal: outputs, gradients, edges, errors."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lingen_kit.ops import naive, quasiseparable, ssd_segments
from lingen_kit.ops.quasiseparable import quasiseparable_scan


def make_inputs(
    batch: int = 2,
    length: int = 13,
    heads: int = 4,
    width: int = 3,
    groups: int = 2,
    state: int = 5,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    return {
        "x": normal(batch, length, heads, width),
        "dt": normal(batch, length, 2 * heads),
        "A": (-3 * torch.rand(2 * heads, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_(),
        "B": normal(batch, length, groups, state),
        "C": normal(batch, length, groups, state),
        "D": normal(batch, length, heads),
        "dt_bias": normal(2 * heads),
    }


def outputs_and_gradients(operator: Any, inputs: dict[str, Tensor], **options: Any) -> dict[str, Tensor]:
    y = operator(**inputs, dt_softplus=True, **options)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(y.dtype)
    gradients = torch.autograd.grad((y * weight).sum(), list(inputs.values()))
    return {"y": y} | {f"d{name}": g for name, g in zip(inputs, gradients, strict=True)}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    for name, value in expected.items():
        error = ((actual[name] - value).abs().max() / value.abs().max().clamp(min=1e-3)).item()
        assert error < tolerance, f"{name} is off by {error:.1e} of its largest entry"


@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 40),
    heads_per_group=st.integers(1, 3),
    width=st.integers(1, 4),
    groups=st.integers(1, 3),
    state=st.integers(1, 5),
    chunk_size=st.one_of(st.none(), st.integers(1, 17)),
    seed=st.integers(0, 100),
)
def test_equals_two_recurrences_and_a_diagonal(
    batch: int, length: int, heads_per_group: int, width: int, groups: int, state: int, seed: int, chunk_size: int
) -> None:
    inputs = make_inputs(batch, length, heads_per_group * groups, width, groups, state, seed=seed)
    options: dict[str, Any] = {"dt_limit": (0.05, 1.5), "chunk_size": chunk_size}
    expected = outputs_and_gradients(naive.quasiseparable_scan, inputs, **options)
    assert_same(outputs_and_gradients(quasiseparable_scan, inputs, **options), expected, 1e-10)


def test_many_segments_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make_inputs(length=50)
    one = outputs_and_gradients(quasiseparable_scan, inputs, chunk_size=4)
    monkeypatch.setattr(ssd_segments, "_CPU_SEGMENT", 500)  # a few chunks of 4 positions
    assert_same(outputs_and_gradients(quasiseparable_scan, inputs, chunk_size=4), one, 1e-11)


@pytest.mark.parametrize("length", [1, 7], ids="length {}".format)
def test_gradcheck(length: int) -> None:
    inputs = make_inputs(1, length, 2, 2, 1, 2)

    def call(*tensors: Tensor) -> Tensor:
        return quasiseparable_scan(**dict(zip(inputs, tensors, strict=True)), chunk_size=3, dt_softplus=True)

    assert torch.autograd.gradcheck(call, tuple(inputs.values()))


def test_the_diagonal_is_free() -> None:
    """Without D no token sees itself; every other pair is connected."""
    inputs = make_inputs(1, 9, 1, 1, 1, 2)
    del inputs["D"]
    x = inputs["x"]
    rows = [torch.autograd.grad(quasiseparable_scan(**inputs, dt_softplus=True)[0, t].sum(), x)[0] for t in range(9)]
    matrix = torch.stack(rows).squeeze()
    assert not matrix.diagonal().any()
    assert (matrix + torch.eye(9)).abs().min() > 0


def test_strong_decays_stay_finite_in_float32() -> None:
    inputs = make_inputs(1, 64, 2, 3, 2, 4, torch.float32)
    inputs["A"] = torch.tensor([-100.0, -0.01, -100.0, -0.01], requires_grad=True)
    inputs["dt_bias"] = torch.ones(4, requires_grad=True)
    expected = outputs_and_gradients(naive.quasiseparable_scan, inputs)
    actual = outputs_and_gradients(quasiseparable_scan, inputs, chunk_size=64)
    assert all(t.isfinite().all() for t in actual.values())
    assert_same(actual, expected, 1e-4)


def test_bfloat16_and_autocast() -> None:
    inputs = make_inputs(1, 100, 2, 8, 2, 8, torch.float32)
    inputs["dt_bias"] = torch.full((4,), -3.0, requires_grad=True)
    expected = quasiseparable_scan(**inputs, dt_softplus=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = quasiseparable_scan(**inputs, dt_softplus=True)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=0.05, atol=0.2)


def test_inputs_need_not_be_contiguous() -> None:
    inputs = make_inputs(batch=3)
    expected = outputs_and_gradients(quasiseparable_scan, inputs)
    strided = {name: t.detach().repeat_interleave(2, dim=-1)[..., ::2].requires_grad_() for name, t in inputs.items()}
    assert_same(outputs_and_gradients(quasiseparable_scan, strided), expected, 1e-11)


def test_the_kernel_runs_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin of the state space dual stands in for its CUDA kernel."""

    def dual(*args: Any, backend: str, **options: Any) -> Any:
        assert backend == "mamba_ssm"
        return naive.mamba_chunk_scan_combined(*args, **options)

    monkeypatch.setattr(quasiseparable, "choose_kernel", lambda *args: dual)
    monkeypatch.setattr(quasiseparable, "mamba_chunk_scan_combined", dual)
    inputs = make_inputs()
    expected = outputs_and_gradients(naive.quasiseparable_scan, inputs)
    assert_same(outputs_and_gradients(quasiseparable_scan, inputs), expected, 1e-11)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dt": torch.zeros(2, 13, 4)}, r"dt is \(2, 13, 4\), expected \(2, 13, 8\)"),
        ({"A": torch.zeros(4)}, r"A is \(4,\), expected \(8,\)"),
        ({"D": torch.zeros(4)}, r"D is \(4,\), expected \(2, 13, 4\)"),
        ({"B": torch.zeros(2, 13, 3, 5)}, "4 heads do not divide into 3 groups"),
        ({"dt": torch.full((2, 13, 8), torch.nan)}, r"dt\[0, 0, 0\] is nan; every entry must be finite"),
        ({"backend": "triton"}, "backend='triton' is none of 'auto', 'torch', 'mamba_ssm'"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    inputs = {k: v.detach() for k, v in make_inputs(dtype=torch.float32).items()}
    with pytest.raises(ValueError, match=message):
        quasiseparable_scan(**(inputs | change))
