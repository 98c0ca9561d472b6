"""Linear attention against its pair-by-pair twin: outputs, gradients, states, errors."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lingen_kit.ops import linear_attention as module
from lingen_kit.ops import naive
from lingen_kit.ops.linear_attention import linear_attention

whole_and_causal = pytest.mark.parametrize("causal", [False, True], ids=["whole", "causal"])


def make_inputs(
    batch: int = 2,
    length: int = 9,
    heads: int = 3,
    key_dim: int = 4,
    value_dim: int = 5,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Positive features, as after a feature map."""
    generator = torch.Generator().manual_seed(seed)
    rows = (batch, length, heads)
    inputs = {
        "q": torch.rand(*rows, key_dim, generator=generator, dtype=torch.float64),
        "k": torch.rand(*rows, key_dim, generator=generator, dtype=torch.float64),
        "v": torch.randn(*rows, value_dim, generator=generator, dtype=torch.float64),
    }
    return {name: t.to(dtype).requires_grad_() for name, t in inputs.items()}


def outputs_and_gradients(operator: Any, inputs: dict[str, Tensor], **options: Any) -> list[Tensor]:
    o, state = operator(**inputs, output_final_state=True, **options)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in (o, state)]
    loss = (o * weights[0]).sum() + (state * weights[1]).sum()
    return [o, state, *torch.autograd.grad(loss, list(inputs.values()))]


@given(
    batch=st.integers(1, 2),
    length=st.integers(1, 70),
    heads=st.integers(1, 3),
    key_dim=st.integers(1, 5),
    value_dim=st.integers(1, 5),
    scale=st.sampled_from([None, 1.0, 0.3]),
    normalize=st.booleans(),
    causal=st.booleans(),
    seed=st.integers(0, 100),
)
def test_equals_the_twin(
    batch: int, length: int, heads: int, key_dim: int, value_dim: int, seed: int, **options: Any
) -> None:
    inputs = make_inputs(batch, length, heads, key_dim, value_dim, seed=seed)
    results = [outputs_and_gradients(f, inputs, **options) for f in (linear_attention, naive.linear_attention)]
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


def test_reduced_sums_are_those_of_the_whole_sequence() -> None:
    """Parts of a sequence that add up their sums give what the whole gives."""
    inputs = make_inputs()
    whole, _ = linear_attention(**inputs)
    parts = [{name: t[:, rows] for name, t in inputs.items()} for rows in (slice(0, 3), slice(3, None))]
    sums: list[list[torch.Tensor]] = [[], []]
    for part, kept in zip(parts, sums, strict=True):
        linear_attention(**part, reduce=lambda total, kept=kept: kept.append(total) or total)
    outputs = []
    for part in parts:
        added = iter([a + b for a, b in zip(*sums, strict=True)])
        outputs.append(linear_attention(**part, reduce=lambda _, added=added: next(added))[0])
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole)


@whole_and_causal
def test_a_normalizer_of_its_own(causal: bool) -> None:
    """The numerator may hold other features, even negative ones."""
    inputs = make_inputs()
    features = (inputs["q"], inputs["k"])
    turned = inputs | {"q": inputs["q"] - 0.5, "k": inputs["k"] - 0.5}
    leaves = list(inputs.values())
    results = []
    for operator in (linear_attention, naive.linear_attention):
        o, _ = operator(**turned, normalizer=features, causal=causal)
        results.append([o, *torch.autograd.grad(o.square().sum(), leaves)])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


@whole_and_causal
def test_initial_state(causal: bool) -> None:
    inputs = make_inputs()
    inputs["initial_state"] = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    options = {"normalize": False, "causal": causal}
    results = [outputs_and_gradients(f, inputs, **options) for f in (linear_attention, naive.linear_attention)]
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


def test_a_column_of_ones_carries_the_normalizer() -> None:
    """What the error for normalize=True with a state advises gives the normalized output of the whole sequence."""
    inputs = make_inputs(length=20)
    whole, _ = linear_attention(**inputs, causal=True)
    ones = torch.cat([inputs["v"], torch.ones_like(inputs["v"][..., :1])], dim=-1)
    state, outputs = None, []
    for part in (slice(0, 7), slice(7, 20)):
        o, state = linear_attention(
            inputs["q"][:, part], inputs["k"][:, part], ones[:, part],
            initial_state=state, output_final_state=True, normalize=False, causal=True,
        )  # fmt: skip
        outputs.append(o[..., :-1] / o[..., -1:])
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole)


@whole_and_causal
def test_gradcheck(causal: bool) -> None:
    inputs = make_inputs(1, 4, 2, 2, 2)
    assert torch.autograd.gradcheck(
        lambda *t: linear_attention(*t, output_final_state=True, causal=causal), tuple(inputs.values())
    )


@whole_and_causal
def test_a_normalized_output_is_an_average_of_the_values(causal: bool) -> None:
    inputs = make_inputs() | {"v": torch.full((2, 9, 3, 5), 7.0, dtype=torch.float64)}
    o, state = linear_attention(**inputs, causal=causal)
    torch.testing.assert_close(o, torch.full_like(o, 7.0))
    assert state is None


@whole_and_causal
def test_a_query_that_meets_no_key_gets_zero(causal: bool) -> None:
    inputs = make_inputs() | {"q": torch.zeros(2, 9, 3, 4, dtype=torch.float64, requires_grad=True)}
    o, _ = linear_attention(**inputs, causal=causal)
    assert not o.any()
    assert torch.autograd.grad(o.sum(), inputs["q"])[0].isfinite().all()


def test_no_position_sees_its_future() -> None:
    inputs = make_inputs()
    o, _ = linear_attention(**inputs, causal=True)
    for gradient in torch.autograd.grad(o[:, 4].square().sum(), [inputs["k"], inputs["v"]]):
        assert not gradient[:, 5:].any() and gradient[:, :5].abs().amax(dim=(0, 2, 3)).min() > 0


@whole_and_causal
def test_inputs_need_not_be_contiguous(causal: bool) -> None:
    inputs = make_inputs()
    expected = outputs_and_gradients(linear_attention, inputs, causal=causal)
    strided = {
        name: t.detach().permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0).requires_grad_()
        for name, t in inputs.items()
    }
    assert not any(t.is_contiguous() for t in strided.values())
    for a, e in zip(outputs_and_gradients(linear_attention, strided, causal=causal), expected, strict=True):
        torch.testing.assert_close(a, e)


@whole_and_causal
def test_bfloat16_inputs_are_as_good_as_their_rounding(causal: bool) -> None:
    inputs = {name: t.detach().bfloat16().requires_grad_() for name, t in make_inputs(1, 500, 2, 8, 8).items()}
    exact = {name: t.detach().double().requires_grad_() for name, t in inputs.items()}
    actual = outputs_and_gradients(linear_attention, inputs, causal=causal)
    assert (actual[0].dtype, actual[1].dtype, actual[2].dtype) == (torch.bfloat16, torch.float32, torch.bfloat16)
    for a, e in zip(actual, outputs_and_gradients(naive.linear_attention, exact, causal=causal), strict=True):
        assert (a - e).abs().max() < 0.005 * e.abs().max()


@whole_and_causal
def test_sums_over_a_long_sequence_fit_float16(causal: bool) -> None:
    """The unnormalized sums are near 1e6, beyond float16; a product inside autocast would round them as well."""
    inputs = {name: 10 * t.detach().half() for name, t in make_inputs(1, 4096, 1, 8, 8).items()}
    exact, _ = linear_attention(**{name: t.double() for name, t in inputs.items()}, causal=causal)
    with torch.autocast("cpu", dtype=torch.float16):
        o, _ = linear_attention(**inputs, causal=causal)
    assert o.dtype == torch.float16
    torch.testing.assert_close(o.double(), exact, rtol=1e-3, atol=1e-2)


def test_autocast_casts_mixed_inputs() -> None:
    inputs = make_inputs(dtype=torch.float32)
    expected, _ = linear_attention(**inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        o, _ = linear_attention(**(inputs | {"k": inputs["k"].detach().bfloat16()}))
    assert o.dtype == torch.bfloat16
    torch.testing.assert_close(o.float(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("normalize", [True, False], ids=["normalized", "plain"])
def test_kernel_never_normalizes(normalize: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin stands in for the CUDA kernel, whose own denominator is left out."""
    calls: list[dict[str, Any]] = []

    def kernel(*args: Tensor, **options: Any) -> Any:
        calls.append(options)
        return naive.linear_attention(*args, **options, causal=True)

    inputs = make_inputs()
    expected = outputs_and_gradients(naive.linear_attention, inputs, normalize=normalize, causal=True)
    monkeypatch.setattr(module, "choose_kernel", lambda *args: kernel)
    actual = outputs_and_gradients(linear_attention, inputs, normalize=normalize, causal=True)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e)
    assert set(calls[0]) == {"scale", "initial_state", "output_final_state", "normalize"}
    assert calls[0]["normalize"] is False


def test_kernel_is_refused_what_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(module, "choose_kernel", lambda *args: asked.append(args[-1]))
    linear_attention(**make_inputs(), causal=True)
    linear_attention(**make_inputs())
    linear_attention(**make_inputs(length=2, heads=3), causal=True)
    linear_attention(**make_inputs(dtype=torch.float16), causal=True)
    linear_attention(**make_inputs(dtype=torch.float16), causal=True, normalize=False)
    reasons = [None, "causal attention only", "shorter than the number of heads", "too small for float16", None]
    for reason, expected in zip(asked, reasons, strict=True):
        assert reason is expected is None or expected in reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.zeros(2, 9, 12)}, r"q must be \(batch, length, heads, key dim\)"),
        ({"q": torch.zeros(2, 0, 3, 4)}, "length 0"),
        ({"k": torch.zeros(2, 9, 3, 5)}, r"k is \(2, 9, 3, 5\), expected \(2, 9, 3, 4\)"),
        ({"v": torch.zeros(2, 8, 3, 5)}, r"v is \(2, 8, 3, 5\), expected \(2, 9, 3, 5\)"),
        ({"k": torch.zeros(2, 9, 3, 4, dtype=torch.float64)}, "k is torch.float64, expected torch.float32"),
        ({"initial_state": torch.zeros(2, 3, 5, 4)}, r"initial_state is \(2, 3, 5, 4\), expected \(2, 3, 4, 5\)"),
        ({"initial_state": torch.zeros(2, 3, 4, 5)}, "normalize=True cannot start from initial_state"),
        ({"normalizer": (torch.zeros(2, 9, 3, 4), torch.zeros(2, 9, 3))}, r"normalizer\[1\] is \(2, 9, 3\)"),
        (
            {"normalize": False, "normalizer": (torch.zeros(2, 9, 3, 4),) * 2},
            "normalizer is given, but normalize=False",
        ),
        ({"causal": True, "reduce": torch.clone}, "reduce is given, but causal=True"),
        ({"backend": "triton"}, "backend='triton' is none of 'auto', 'torch', 'fla'"),
    ],
    ids=[
        "rank",
        "length",
        "k",
        "v",
        "dtype",
        "state shape",
        "state",
        "normalizer shape",
        "normalizer",
        "reduce",
        "backend",
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    inputs = {k: v.detach() for k, v in make_inputs(dtype=torch.float32).items()}
    with pytest.raises(ValueError, match=message):
        linear_attention(**(inputs | change))
