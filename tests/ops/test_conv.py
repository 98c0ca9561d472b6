"""The depthwise causal convolution against its tap-by-tap twin."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lingen_kit.ops import conv, naive
from lingen_kit.ops.conv import causal_conv1d


def make_inputs(
    batch: int = 2, length: int = 9, channels: int = 5, width: int = 4, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((batch, length, channels), (channels, width), (channels,))
    x, weight, bias = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in shapes)
    return tuple(t.to(dtype).requires_grad_() for t in (x, weight, bias))  # type: ignore[return-value]


def outputs_and_gradients(operator: Any, inputs: tuple[Tensor, ...], *args: Any, **options: Any) -> list[Tensor]:
    y = operator(*inputs, *args, **options)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [y, *torch.autograd.grad((y * weight).sum(), inputs)]


@settings(deadline=None, max_examples=25)
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 12),
    channels=st.integers(1, 6),
    width=st.integers(1, 5),
    activation=st.sampled_from([None, "silu"]),
    reverse=st.booleans(),
    biased=st.booleans(),
)
def test_equals_the_twin(
    batch: int, length: int, channels: int, width: int, activation: str | None, reverse: bool, biased: bool
) -> None:
    inputs: tuple[Tensor, ...] = make_inputs(batch, length, channels, width)
    inputs = inputs if biased else inputs[:2]
    results = [
        outputs_and_gradients(operator, inputs, activation=activation, reverse=reverse)
        for operator in (causal_conv1d, naive.causal_conv1d)
    ]
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("reverse", [False, True], ids=["causal", "anticausal"])
@pytest.mark.parametrize("activation", [None, "silu"])
def test_gradcheck(activation: str | None, reverse: bool) -> None:
    assert torch.autograd.gradcheck(
        lambda *inputs: causal_conv1d(*inputs, activation, reverse=reverse), make_inputs(length=5, channels=2)
    )


def test_no_position_sees_its_future() -> None:
    x, weight, bias = make_inputs()
    for reverse, unseen in ((False, slice(5, None)), (True, slice(0, 4))):
        gradient = torch.autograd.grad(causal_conv1d(x, weight, bias, "silu", reverse=reverse)[:, 4].sum(), x)[0]
        assert gradient[:, 4].abs().min() > 0
        assert not gradient[:, unseen].any()


def test_float32_and_strided_input() -> None:
    """float32 takes another library kernel than float64; x is a slice of a wider tensor, as in a mixer."""
    inputs = make_inputs(3, 50, 48)
    expected = outputs_and_gradients(naive.causal_conv1d, inputs, activation="silu")
    wide = torch.cat([inputs[0], inputs[0]], dim=2).detach().float()
    single = (wide[..., 48:].requires_grad_(), *(t.detach().float().requires_grad_() for t in inputs[1:]))
    assert not single[0].is_contiguous()
    y = causal_conv1d(*single, "silu")
    assert y.is_contiguous()
    for actual, exact in zip(outputs_and_gradients(causal_conv1d, single, activation="silu"), expected, strict=True):
        torch.testing.assert_close(actual.double(), exact, rtol=1e-4, atol=1e-4)


def test_autocast_casts_mixed_inputs() -> None:
    x, weight, bias = make_inputs(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = causal_conv1d(x.bfloat16(), weight, bias)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert weight.grad is not None and weight.grad.dtype == torch.float32
    torch.testing.assert_close(y.float(), causal_conv1d(x, weight, bias), rtol=0.05, atol=0.1)


@pytest.mark.parametrize("reverse", [False, True], ids=["causal", "anticausal"])
def test_kernel_is_called_channels_first(reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the CUDA kernel, which takes `(B, D, L)` and only runs causally."""

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None, activation: Any) -> Tensor:
        return naive.causal_conv1d(x.transpose(1, 2), weight, bias, activation).transpose(1, 2)

    inputs = make_inputs()
    expected = naive.causal_conv1d(*inputs, "silu", reverse=reverse)
    monkeypatch.setattr(conv, "choose_kernel", lambda *args: kernel)
    torch.testing.assert_close(causal_conv1d(*inputs, "silu", reverse=reverse), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(2, 5)}, r"x is \(2, 5\), expected \(batch, length, channels\)"),
        ({"x": torch.zeros(2, 0, 5)}, "length >= 1"),
        ({"weight": torch.zeros(4, 4)}, r"weight is \(4, 4\), expected \(5, filter width\)"),
        ({"bias": torch.zeros(4)}, r"bias is \(4,\), expected \(5,\)"),
        ({"weight": torch.zeros(5, 4, dtype=torch.float64)}, "weight is torch.float64, expected torch.float32"),
        ({"activation": "relu"}, "activation='relu' is none of None, 'silu'"),
        ({"backend": "cudnn"}, "backend='cudnn' is none of 'auto', 'torch', 'causal_conv1d'"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    x, weight, bias = (t.detach() for t in make_inputs(dtype=torch.float32))
    with pytest.raises(ValueError, match=message):
        causal_conv1d(**({"x": x, "weight": weight, "bias": bias} | change))
