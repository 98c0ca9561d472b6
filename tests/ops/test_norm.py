"""The gated RMSNorm against its twin."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lingen_kit.ops import naive
from lingen_kit.ops.norm import rmsnorm_fn


def make_inputs(
    shape: tuple[int, ...] = (2, 3, 8), dtype: torch.dtype = torch.float64, seed: int = 0
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"x": shape, "weight": shape[-1:], "z": shape}
    drawn = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    return {name: value.to(dtype).requires_grad_() for name, value in drawn.items()}


def outputs_and_gradients(operator: Any, inputs: dict[str, torch.Tensor], **options: Any) -> list[torch.Tensor]:
    y = operator(**inputs, **options)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [y, *torch.autograd.grad((y * weight).sum(), list(inputs.values()))]


@given(
    rows=st.lists(st.integers(1, 4), max_size=3),
    groups=st.integers(1, 3),
    size=st.integers(1, 5),
    gated=st.booleans(),
    norm_before_gate=st.booleans(),
    seed=st.integers(0, 50),
)
def test_equals_the_twin(
    rows: list[int], groups: int, size: int, gated: bool, norm_before_gate: bool, seed: int
) -> None:
    inputs = make_inputs((*rows, groups * size), seed=seed)
    if not gated:
        del inputs["z"]
    options = {"group_size": size, "norm_before_gate": norm_before_gate, "eps": 1e-3}
    actual, expected = (outputs_and_gradients(f, inputs, **options) for f in (rmsnorm_fn, naive.rmsnorm_fn))
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize("norm_before_gate", [False, True], ids=["gate first", "norm first"])
def test_gradcheck(norm_before_gate: bool) -> None:
    x, weight, z = make_inputs((2, 4)).values()
    call = lambda x, weight, z: rmsnorm_fn(x, weight, z, group_size=2, norm_before_gate=norm_before_gate)  # noqa: E731
    assert torch.autograd.gradcheck(call, (x, weight, z))


def test_equals_torch_and_leaves_its_inputs_alone() -> None:
    inputs = {k: v.detach() for k, v in make_inputs((5, 64), torch.float32).items()}
    before = {k: v.clone() for k, v in inputs.items()}
    plain = rmsnorm_fn(inputs["x"], inputs["weight"], eps=1e-5)
    torch.testing.assert_close(plain, torch.nn.functional.rms_norm(inputs["x"], (64,), inputs["weight"], 1e-5))
    rmsnorm_fn(**inputs, norm_before_gate=False)
    assert all(torch.equal(inputs[k], before[k]) for k in inputs)


def test_strided_input_and_an_expanded_gradient() -> None:
    x, weight, z = make_inputs((3, 4, 8)).values()
    strided = x.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    gradients = [torch.autograd.grad(rmsnorm_fn(t, weight, z).sum(), t)[0] for t in (x, strided)]
    torch.testing.assert_close(*gradients)
    assert rmsnorm_fn(strided, weight).is_contiguous()


def test_bfloat16_is_as_good_as_its_rounding() -> None:
    inputs = make_inputs((4, 64), torch.bfloat16)
    exact = {k: v.detach().double() for k, v in inputs.items()}
    y = rmsnorm_fn(**inputs)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), naive.rmsnorm_fn(**exact), rtol=0.03, atol=0.03)


def test_fp16_does_not_overflow_in_the_gate() -> None:
    x = torch.full((4, 8), 300.0, dtype=torch.float16)
    y = rmsnorm_fn(x, torch.ones(8), x, norm_before_gate=False)
    assert y.dtype == torch.float16
    torch.testing.assert_close(y, torch.ones_like(x))


def test_gradients_of_bfloat16_inputs() -> None:
    inputs = make_inputs((4, 64), torch.bfloat16)
    exact = {k: v.detach().double().requires_grad_() for k, v in inputs.items()}
    for options in ({"norm_before_gate": False}, {"norm_before_gate": True}):
        actual = outputs_and_gradients(rmsnorm_fn, inputs, **options)
        expected = outputs_and_gradients(naive.rmsnorm_fn, exact, **options)
        for a, e in zip(actual, expected, strict=True):
            assert a.dtype == torch.bfloat16
            assert (a.double() - e).norm() < 4e-3 * e.norm()


def test_other_devices_than_the_cpu_keep_shape_and_dtype() -> None:
    inputs = {k: v.detach().to("meta", torch.bfloat16) for k, v in make_inputs((4, 8)).items()}
    for options in ({}, {"z": None}, {"norm_before_gate": False}):
        y = rmsnorm_fn(**(inputs | options))
        assert (y.shape, y.dtype, y.device.type) == ((4, 8), torch.bfloat16, "meta")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group_size": 3}, "group_size 3 does not divide the 8 channels"),
        ({"weight": torch.ones(4)}, r"weight is \(4,\), expected \(8,\)"),
        ({"z": torch.ones(2, 8)}, r"z is torch.float32 \(2, 8\), expected torch.float64 \(2, 3, 8\)"),
    ],
    ids=["group_size", "weight", "z"],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rmsnorm_fn(**(make_inputs() | change))
