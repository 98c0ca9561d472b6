"""The chunked gated delta rule against its token-by-token twin: outputs, gradients, edges, errors."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lingen_kit.ops import gated_delta, gated_delta_chunks, naive, ssd_segments
from lingen_kit.ops.gated_delta import chunk_gated_delta_rule

both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def make_inputs(
    batch: int = 2,
    length: int = 13,
    heads: int = 3,
    key_dim: int = 4,
    value_dim: int = 5,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rows = (batch, length, heads)
    inputs = {
        "q": normal(*rows, key_dim),
        "k": normal(*rows, key_dim),
        "v": normal(*rows, value_dim),
        "g": -normal(*rows).abs() / 2,
        "beta": 2 * torch.rand(*rows, generator=generator, dtype=torch.float64),
        "initial_state": normal(batch, heads, key_dim, value_dim),
    }
    return {name: t.to(dtype).requires_grad_() for name, t in inputs.items()}


def outputs_and_gradients(operator: Any, inputs: dict[str, Tensor], **options: Any) -> dict[str, Tensor]:
    """Output, final state and the gradient of every input under fixed random weights."""
    options = {"use_qk_l2norm_in_kernel": True} | options
    o, state = operator(**inputs, output_final_state=True, **options)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in (o, state)]
    gradients = torch.autograd.grad((o * weights[0]).sum() + (state * weights[1]).sum(), list(inputs.values()))
    return {"o": o, "final_state": state} | {f"d{name}": g for name, g in zip(inputs, gradients, strict=True)}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    for name, value in expected.items():
        scale = value.abs().max().clamp(min=1e-3)
        error = ((actual[name] - value).abs().max() / scale).item()
        assert error < tolerance, f"{name} is off by {error:.1e} of its largest entry"


@both_ways
@pytest.mark.parametrize("chunk_size", [1, 4, 13, 64], ids="chunk {}".format)
def test_equals_the_recurrence(reverse: bool, chunk_size: int) -> None:
    inputs = make_inputs()
    expected = outputs_and_gradients(naive.chunk_gated_delta_rule, inputs, reverse=reverse)
    actual = outputs_and_gradients(chunk_gated_delta_rule, inputs, reverse=reverse, chunk_size=chunk_size)
    assert_same(actual, expected, 1e-11)


@given(
    batch=st.integers(1, 2),
    length=st.integers(1, 40),
    heads=st.integers(1, 3),
    key_dim=st.integers(1, 5),
    value_dim=st.integers(1, 5),
    chunk_size=st.integers(1, 41),
    reverse=st.booleans(),
    scale=st.sampled_from([None, 1.0, -0.3]),
    seed=st.integers(0, 100),
)
def test_equals_the_recurrence_on_random_shapes(
    batch: int, length: int, heads: int, key_dim: int, value_dim: int, seed: int, **options: Any
) -> None:
    inputs = make_inputs(batch, length, heads, key_dim, value_dim, seed=seed)
    expected = outputs_and_gradients(naive.chunk_gated_delta_rule, inputs, **options)
    assert_same(outputs_and_gradients(chunk_gated_delta_rule, inputs, **options), expected, 1e-10)


@both_ways
def test_many_segments_give_what_one_gives(reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make_inputs(length=50)
    one = outputs_and_gradients(chunk_gated_delta_rule, inputs, reverse=reverse, chunk_size=4)
    monkeypatch.setattr(ssd_segments, "_CPU_SEGMENT", 400)  # a few chunks of 4 positions
    segments = []
    build = gated_delta_chunks._SegmentTensors

    def record(segment: Any, *args: Any) -> Any:
        segments.append(segment)
        return build(segment, *args)

    monkeypatch.setattr(gated_delta_chunks, "_SegmentTensors", record)
    many = outputs_and_gradients(chunk_gated_delta_rule, inputs, reverse=reverse, chunk_size=4)
    assert len(segments) > 6 and {s.chunks for s in segments} > {1}
    assert_same(many, one, 1e-11)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 31, 64, 65])
def test_inverse_of_a_unit_triangle(size: int) -> None:
    a = torch.randn(3, size, size, dtype=torch.float64) / 4
    inverse = gated_delta_chunks.unit_lower_inverse(a)
    eye = torch.eye(size, dtype=torch.float64)
    torch.testing.assert_close(inverse @ (eye + a.tril(-1)), eye.expand(3, -1, -1))
    assert not inverse.triu(1).any()


@both_ways
@pytest.mark.parametrize("length", [1, 7], ids="length {}".format)
def test_gradcheck(reverse: bool, length: int) -> None:
    inputs = make_inputs(1, length, 2, 2, 3)

    def call(*tensors: Tensor) -> Any:
        named = dict(zip(inputs, tensors, strict=True))
        return chunk_gated_delta_rule(**named, output_final_state=True, chunk_size=3, reverse=reverse)

    assert torch.autograd.gradcheck(call, tuple(inputs.values()))


def test_reverse_is_forward_on_the_flipped_sequence() -> None:
    inputs = make_inputs()
    flipped = {name: t if name == "initial_state" else t.flip(1) for name, t in inputs.items()}
    reverse, state = chunk_gated_delta_rule(**inputs, output_final_state=True, reverse=True, chunk_size=5)
    forward, other = chunk_gated_delta_rule(**flipped, output_final_state=True, chunk_size=5)
    torch.testing.assert_close(reverse, forward.flip(1))
    torch.testing.assert_close(state, other)


def test_two_halves_with_a_state_in_between_are_the_whole() -> None:
    inputs = make_inputs(length=20)
    whole, last = chunk_gated_delta_rule(**inputs, output_final_state=True, chunk_size=8)
    state, outputs = inputs.pop("initial_state"), []
    for half in (slice(0, 9), slice(9, 20)):
        part = {name: t[:, half] for name, t in inputs.items()}
        o, state = chunk_gated_delta_rule(**part, initial_state=state, output_final_state=True, chunk_size=8)
        outputs.append(o)
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole)
    torch.testing.assert_close(state, last)


@both_ways
def test_no_position_sees_its_future(reverse: bool) -> None:
    inputs = make_inputs()
    o, state = chunk_gated_delta_rule(**inputs, reverse=reverse, chunk_size=4)
    assert state is None
    unseen, seen = (slice(0, 6), slice(6, None)) if reverse else (slice(7, None), slice(0, 7))
    for gradient in torch.autograd.grad(o[:, 6].sum(), [inputs["k"], inputs["v"], inputs["beta"]]):
        assert not gradient[:, unseen].any() and gradient[:, seen].abs().amax(dim=(0, 2)).min() > 0


def test_a_write_of_strength_one_replaces_what_the_key_held() -> None:
    """Two writes at one key of length one: the second value is read back, whatever was there."""
    k = torch.tensor([1.0, 0.0]).expand(1, 2, 1, 2)
    v = torch.tensor([[3.0], [5.0]]).view(1, 2, 1, 1)
    ones = torch.ones(1, 2, 1)
    o, state = chunk_gated_delta_rule(k, k, v, 0 * ones, ones, scale=1.0, output_final_state=True)
    assert o.flatten().tolist() == [3.0, 5.0] and state is not None and state.flatten().tolist() == [5.0, 0.0]


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_edges_of_the_writing_strength_have_exact_gradients(beta: float) -> None:
    inputs = make_inputs() | {"beta": torch.full((2, 13, 3), beta, dtype=torch.float64, requires_grad=True)}
    expected = outputs_and_gradients(naive.chunk_gated_delta_rule, inputs)
    assert expected["dbeta"].abs().min() > 0
    assert_same(outputs_and_gradients(chunk_gated_delta_rule, inputs, chunk_size=6), expected, 1e-11)


def test_inputs_need_not_be_contiguous() -> None:
    inputs = make_inputs()
    expected = outputs_and_gradients(chunk_gated_delta_rule, inputs, chunk_size=4)
    strided = {name: t.detach().repeat_interleave(2, dim=-1)[..., ::2] for name, t in inputs.items()}
    strided["v"] = inputs["v"].detach().permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert not any(t.is_contiguous() for t in strided.values())
    leaves = {name: t.requires_grad_() for name, t in strided.items()}
    assert_same(outputs_and_gradients(chunk_gated_delta_rule, leaves, chunk_size=4), expected, 1e-11)


def test_gradient_of_an_expanded_output_sum() -> None:
    """`o.sum()` hands backward a gradient with stride zero everywhere, and none for the final state."""
    inputs = make_inputs()
    sums = [
        torch.autograd.grad(f(**inputs)[0].sum(), inputs["k"])[0]
        for f in (chunk_gated_delta_rule, naive.chunk_gated_delta_rule)
    ]
    torch.testing.assert_close(*sums)


def test_samples_do_not_touch_each_other() -> None:
    inputs = make_inputs(batch=3)
    o, _ = chunk_gated_delta_rule(**inputs)
    alone, _ = chunk_gated_delta_rule(**{name: t[1:2] for name, t in inputs.items()})
    torch.testing.assert_close(o[1:2], alone)


@both_ways
def test_float32_on_a_long_sequence(reverse: bool) -> None:
    inputs = make_inputs(1, 300, 2, 16, 8)
    expected = outputs_and_gradients(naive.chunk_gated_delta_rule, inputs, reverse=reverse)
    single = {name: t.detach().float().requires_grad_() for name, t in inputs.items()}
    assert_same(outputs_and_gradients(chunk_gated_delta_rule, single, reverse=reverse), expected, 1e-5)


def test_strong_decays_stay_finite_in_float32() -> None:
    """A chunk over which the memory decays by exp(-6000) neither overflows nor turns into NaN."""
    inputs = make_inputs(1, 64, 2, 4, 4, torch.float32)
    inputs["g"] = torch.tensor([-100.0, -0.01]).expand(1, 64, 2).clone().requires_grad_()
    expected = outputs_and_gradients(naive.chunk_gated_delta_rule, inputs)
    actual = outputs_and_gradients(chunk_gated_delta_rule, inputs)
    assert all(t.isfinite().all() for t in actual.values())
    assert_same(actual, expected, 1e-4)


def test_alike_keys_do_not_spoil_the_inverse() -> None:
    """64 writes at the same key: powers of A reach 1e18, its inverse stays below 2."""
    inputs = make_inputs(1, 64, 1, 4, 4)
    inputs["k"] = torch.ones(1, 64, 1, 4, dtype=torch.float64, requires_grad=True)
    inputs["g"] = torch.zeros(1, 64, 1, dtype=torch.float64, requires_grad=True)
    expected = outputs_and_gradients(naive.chunk_gated_delta_rule, inputs)
    single = {name: t.detach().float().requires_grad_() for name, t in inputs.items()}
    assert_same(outputs_and_gradients(chunk_gated_delta_rule, single), expected, 1e-4)


def test_bfloat16_inputs_are_as_good_as_their_rounding() -> None:
    """All maths is in float32, so the only errors are those of rounding inputs and results."""
    wide = ("g", "initial_state")
    inputs = {
        name: (t.detach() if name in wide else t.detach().bfloat16()).requires_grad_()
        for name, t in make_inputs(1, 100, 2, 8, 8, torch.float32).items()
    }
    exact = {name: t.detach().double().requires_grad_() for name, t in inputs.items()}
    expected = outputs_and_gradients(naive.chunk_gated_delta_rule, exact)
    actual = outputs_and_gradients(chunk_gated_delta_rule, inputs)
    assert (actual["o"].dtype, actual["final_state"].dtype) == (torch.bfloat16, torch.float32)
    assert (actual["dq"].dtype, actual["dg"].dtype) == (torch.bfloat16, torch.float32)
    assert_same(actual, expected, 0.01)


def test_autocast_casts_mixed_inputs() -> None:
    inputs = make_inputs(dtype=torch.float32)
    expected, _ = chunk_gated_delta_rule(**inputs, use_qk_l2norm_in_kernel=True)
    inputs["k"] = inputs["k"].detach().bfloat16()  # what a linear layer under autocast hands over
    with torch.autocast("cpu", dtype=torch.bfloat16):
        o, _ = chunk_gated_delta_rule(**inputs, use_qk_l2norm_in_kernel=True)
        o.float().sum().backward()
    assert o.dtype == torch.bfloat16
    torch.testing.assert_close(o.float(), expected, rtol=0.05, atol=0.05)


def test_no_grad_saves_no_states(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = []
    apply = gated_delta_chunks._ChunkedDeltaRule.apply
    monkeypatch.setattr(gated_delta_chunks._ChunkedDeltaRule, "apply", lambda *a: (flags.append(a[-1]), apply(*a))[1])
    inputs = make_inputs()
    with torch.no_grad():
        silent, _ = chunk_gated_delta_rule(**inputs)
    torch.testing.assert_close(silent, chunk_gated_delta_rule(**inputs)[0])
    assert flags == [False, True]


@both_ways
def test_kernel_gets_forward_order(reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin stands in for the CUDA kernel, which only runs forward."""
    calls: list[dict[str, Any]] = []

    def kernel(*args: Tensor, **options: Any) -> Any:
        calls.append(options)
        return naive.chunk_gated_delta_rule(*args, **options)

    inputs = make_inputs()
    expected = outputs_and_gradients(naive.chunk_gated_delta_rule, inputs, reverse=reverse)
    monkeypatch.setattr(gated_delta, "choose_kernel", lambda *args: kernel)
    assert_same(outputs_and_gradients(chunk_gated_delta_rule, inputs, reverse=reverse), expected, 1e-12)
    assert set(calls[0]) == {"scale", "initial_state", "output_final_state", "use_qk_l2norm_in_kernel"}


def test_kernel_is_refused_what_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(gated_delta, "choose_kernel", lambda *args: asked.append(args[-1]))
    chunk_gated_delta_rule(**make_inputs(1, 2, 1, 256, 2))
    chunk_gated_delta_rule(**make_inputs(1, 2, 1, 257, 2))
    assert asked == [None, "takes keys of at most 256 channels, not 257"]
    assert torch.float32 not in gated_delta._KERNEL.dtypes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.zeros(2, 13, 12)}, r"q must be \(batch, length, heads, key dim\)"),
        ({"q": torch.zeros(2, 0, 3, 4)}, "length 0"),
        ({"k": torch.zeros(2, 13, 3, 5)}, r"k is \(2, 13, 3, 5\), expected \(2, 13, 3, 4\)"),
        ({"v": torch.zeros(2, 12, 3, 5)}, r"v is \(2, 12, 3, 5\), expected \(2, 13, 3, 5\)"),
        ({"g": torch.zeros(2, 13, 4)}, r"g is \(2, 13, 4\), expected \(2, 13, 3\)"),
        ({"beta": torch.zeros(2, 13)}, r"beta is \(2, 13\), expected \(2, 13, 3\)"),
        ({"initial_state": torch.zeros(2, 3, 5, 4)}, r"initial_state is \(2, 3, 5, 4\), expected \(2, 3, 4, 5\)"),
        ({"v": torch.zeros(2, 13, 3, 5, dtype=torch.float64)}, "v is torch.float64, expected torch.float32"),
        ({"g": torch.zeros(2, 13, 3, dtype=torch.bfloat16)}, "g is torch.bfloat16, expected torch.float32"),
        ({"g": torch.full((2, 13, 3), torch.nan)}, r"g\[0, 0, 0\] is nan; every entry must be finite"),
        ({"g": torch.full((2, 13, 3), -torch.inf)}, r"g\[0, 0, 0\] is -inf; every entry must be finite"),
        ({"chunk_size": 0}, "chunk_size=0"),
        ({"backend": "triton"}, "backend='triton' is none of 'auto', 'torch', 'fla'"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    inputs = {k: v.detach() for k, v in make_inputs(dtype=torch.float32).items()}
    with pytest.raises(ValueError, match=message):
        chunk_gated_delta_rule(**(inputs | change))
