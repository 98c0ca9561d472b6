"""The chunked SSD operator against its token-by-token twin: outputs, gradients, edges, errors."""

import importlib
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lingen_kit.ops import backend, naive, ssd, ssd_chunks, ssd_segments
from lingen_kit.ops.ssd import mamba_chunk_scan_combined

DIRECTIONS = ["forward", "reverse", "both"]


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
        "dt": normal(batch, length, heads),
        "A": (-3 * torch.rand(heads, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_(),
        "B": normal(batch, length, groups, state),
        "C": normal(batch, length, groups, state),
        "D": normal(heads),
        "z": normal(batch, length, heads, width),
        "dt_bias": normal(heads),
        "initial_states": normal(batch, heads, width, state),
    }


def outputs_and_gradients(operator: Any, inputs: dict[str, Tensor], **options: Any) -> dict[str, Tensor]:
    """Output, final states and the gradient of every input under fixed random weights."""
    y, states = operator(**inputs, dt_softplus=True, return_final_states=True, **options)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in (y, states)]
    loss = (y * weights[0]).sum() + (states * weights[1]).sum()
    gradients = torch.autograd.grad(loss, list(inputs.values()))
    return {"y": y, "final_states": states} | {f"d{name}": g for name, g in zip(inputs, gradients, strict=True)}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    for name, value in expected.items():
        scale = value.abs().max().clamp(min=1e-3)
        error = ((actual[name] - value).abs().max() / scale).item()
        assert error < tolerance, f"{name} is off by {error:.1e} of its largest entry"


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("chunk_size", [None, 1, 4, 13, 100], ids="chunk {}".format)
def test_equals_the_recurrence(direction: str, chunk_size: int | None) -> None:
    inputs = make_inputs()
    expected = outputs_and_gradients(naive.mamba_chunk_scan_combined, inputs, direction=direction)
    actual = outputs_and_gradients(mamba_chunk_scan_combined, inputs, direction=direction, chunk_size=chunk_size)
    assert_same(actual, expected, 1e-11)


@settings(deadline=None, max_examples=25)
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 40),
    heads_per_group=st.integers(1, 3),
    width=st.integers(1, 4),
    groups=st.sampled_from([2, 4]),
    state=st.integers(1, 5),
    chunk_size=st.one_of(st.none(), st.integers(1, 17)),
    direction=st.sampled_from(DIRECTIONS),
    seed=st.integers(0, 100),
)
def test_equals_the_recurrence_on_random_shapes(
    batch: int, length: int, heads_per_group: int, width: int, groups: int, state: int, seed: int, **options: Any
) -> None:
    inputs = make_inputs(batch, length, heads_per_group * groups, width, groups, state, seed=seed)
    options["dt_limit"] = (0.05, 1.5)
    expected = outputs_and_gradients(naive.mamba_chunk_scan_combined, inputs, **options)
    assert_same(outputs_and_gradients(mamba_chunk_scan_combined, inputs, **options), expected, 1e-10)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_many_segments_give_what_one_gives(direction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make_inputs(length=50)
    one = outputs_and_gradients(mamba_chunk_scan_combined, inputs, direction=direction, chunk_size=4)
    monkeypatch.setattr(ssd_segments, "_CPU_SEGMENT", 500)  # a few chunks of 4 positions
    segments = ssd_segments.cut_segments(50, 4, 3)
    assert len(segments) > 3
    many = outputs_and_gradients(mamba_chunk_scan_combined, inputs, direction=direction, chunk_size=4)
    assert_same(many, one, 1e-11)


def test_segments_cover_the_sequence_once() -> None:
    for length in range(1, 40):
        for size in range(1, 12):
            covered = [
                t
                for segment in ssd_segments.cut_segments(length, size, 2)
                for t in range(segment.positions.start, segment.positions.stop)
            ]
            assert covered == list(range(length))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("length", [1, 7], ids="length {}".format)
def test_gradcheck(direction: str, length: int) -> None:
    inputs = make_inputs(1, length, 4, 2, 2, 2)

    def call(*tensors: Tensor) -> Any:
        options = dict(zip(inputs, tensors, strict=True))
        return mamba_chunk_scan_combined(
            **options, chunk_size=3, dt_softplus=True, return_final_states=True, direction=direction
        )

    assert torch.autograd.gradcheck(call, tuple(inputs.values()))


def test_reverse_is_forward_on_the_flipped_sequence() -> None:
    inputs = make_inputs()
    flipped = {name: t.flip(1) if name in ("x", "dt", "B", "C", "z") else t for name, t in inputs.items()}
    reverse = mamba_chunk_scan_combined(**inputs, dt_softplus=True, direction="reverse")
    forward = mamba_chunk_scan_combined(**flipped, dt_softplus=True)
    torch.testing.assert_close(reverse, forward.flip(1))


def test_skip_of_each_channel() -> None:
    inputs = make_inputs() | {"D": torch.randn(4, 3, dtype=torch.float64, requires_grad=True)}
    expected = outputs_and_gradients(naive.mamba_chunk_scan_combined, inputs)
    assert_same(outputs_and_gradients(mamba_chunk_scan_combined, inputs, chunk_size=4), expected, 1e-11)


def test_only_the_required_inputs() -> None:
    inputs = {k: v for k, v in make_inputs().items() if k in ("x", "dt", "A", "B", "C")}
    expected = outputs_and_gradients(naive.mamba_chunk_scan_combined, inputs)
    assert_same(outputs_and_gradients(mamba_chunk_scan_combined, inputs), expected, 1e-11)


def test_step_of_zero_has_a_finite_exact_gradient() -> None:
    inputs = make_inputs()
    inputs["dt"] = torch.zeros_like(inputs["dt"]).requires_grad_()

    def gradients(operator: Any) -> tuple[Tensor, ...]:
        y = operator(**{k: v for k, v in inputs.items() if k != "dt_bias"}, dt_limit=(-1.0, 1.0))
        return torch.autograd.grad(y.square().sum(), [inputs["x"], inputs["dt"], inputs["B"]])

    actual, expected = gradients(mamba_chunk_scan_combined), gradients(naive.mamba_chunk_scan_combined)
    assert expected[1].abs().max() > 0
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e)


def test_inputs_need_not_be_contiguous() -> None:
    inputs = make_inputs(batch=3)
    expected = outputs_and_gradients(mamba_chunk_scan_combined, inputs)
    strided = {name: t.detach().repeat_interleave(2, dim=-1)[..., ::2] for name, t in inputs.items()}
    strided["x"] = inputs["x"].detach().permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    strided["B"] = inputs["B"].detach().transpose(0, 1).contiguous().transpose(0, 1)
    assert not any(strided[name].is_contiguous() for name in ("x", "dt", "A", "B", "C", "initial_states"))
    leaves = {name: t.requires_grad_() for name, t in strided.items()}
    assert_same(outputs_and_gradients(mamba_chunk_scan_combined, leaves), expected, 1e-11)


def test_gradient_of_an_expanded_output_sum() -> None:
    """`y.sum()` hands backward a gradient with stride zero everywhere."""
    inputs = make_inputs()
    sums = [
        torch.autograd.grad(f(**inputs, dt_softplus=True).sum(), inputs["x"])[0]
        for f in (mamba_chunk_scan_combined, naive.mamba_chunk_scan_combined)
    ]
    torch.testing.assert_close(*sums)


def test_strong_decays_stay_finite_in_float32() -> None:
    """A chunk over which the state decays by exp(-6000) neither overflows nor turns into NaN."""
    inputs = make_inputs(1, 64, 2, 3, 2, 4, torch.float32)
    inputs["A"] = torch.tensor([-100.0, -0.01], requires_grad=True)
    inputs["dt_bias"] = torch.ones(2, requires_grad=True)
    expected = outputs_and_gradients(naive.mamba_chunk_scan_combined, inputs, direction="both")
    actual = outputs_and_gradients(mamba_chunk_scan_combined, inputs, direction="both", chunk_size=64)
    assert all(t.isfinite().all() for t in actual.values())
    assert_same(actual, expected, 1e-4)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_float32_on_a_long_sequence(direction: str) -> None:
    inputs = make_inputs(1, 300, 2, 8, 2, 8)
    inputs["dt_bias"] = torch.full((2,), -4.0, dtype=torch.float64, requires_grad=True)
    expected = outputs_and_gradients(naive.mamba_chunk_scan_combined, inputs, direction=direction)
    single = {name: t.detach().float().requires_grad_() for name, t in inputs.items()}
    actual = outputs_and_gradients(mamba_chunk_scan_combined, single, direction=direction)
    assert_same(actual, expected, 1e-5)


def test_bfloat16_inputs_are_as_good_as_their_rounding() -> None:
    """All maths is in float32, so the only errors are those of rounding inputs and results."""
    wide = ("A", "dt_bias", "initial_states")
    inputs = {
        name: (t.detach() if name in wide else t.detach().bfloat16()).requires_grad_()
        for name, t in make_inputs(1, 100, 2, 8, 2, 8, torch.float32).items()
    }
    exact = {name: t.detach().double().requires_grad_() for name, t in inputs.items()}
    expected = outputs_and_gradients(naive.mamba_chunk_scan_combined, exact)
    y, states = mamba_chunk_scan_combined(**inputs, dt_softplus=True, return_final_states=True)
    assert (y.dtype, states.dtype) == (torch.bfloat16, torch.float32)
    actual = outputs_and_gradients(mamba_chunk_scan_combined, inputs)
    assert actual["dx"].dtype == torch.bfloat16 and actual["dA"].dtype == torch.float32
    assert_same(actual, expected, 0.02)


def test_autocast_casts_mixed_inputs() -> None:
    inputs = make_inputs(dtype=torch.float32)
    expected = mamba_chunk_scan_combined(**inputs, dt_softplus=True)
    inputs["B"] = inputs["B"].detach().bfloat16()  # what a linear layer under autocast hands over
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = mamba_chunk_scan_combined(**inputs, dt_softplus=True)
        y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=0.05, atol=0.1)


def test_no_grad_saves_no_states(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = []
    apply = ssd_chunks._ChunkedScan.apply
    monkeypatch.setattr(ssd_chunks._ChunkedScan, "apply", lambda *a: (flags.append(a[-1]), apply(*a))[1])
    inputs = make_inputs()
    with torch.no_grad():
        silent = mamba_chunk_scan_combined(**inputs)
    torch.testing.assert_close(silent, mamba_chunk_scan_combined(**inputs))
    assert flags == [False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dt": torch.zeros(2, 12, 4)}, r"dt is \(2, 12, 4\), expected \(2, 13, 4\)"),
        ({"A": torch.zeros(3)}, r"A is \(3,\), expected \(4,\)"),
        ({"B": torch.zeros(2, 13, 3, 5)}, "4 heads do not divide into 3 groups"),
        ({"C": torch.zeros(2, 13, 2, 6)}, r"C is \(2, 13, 2, 6\), expected \(2, 13, 2, 5\)"),
        ({"D": torch.zeros(4, 2)}, r"D is \(4, 2\), expected \(4, 3\)"),
        ({"z": torch.zeros(2, 13, 4, 4)}, r"z is \(2, 13, 4, 4\), expected \(2, 13, 4, 3\)"),
        ({"dt_bias": torch.zeros(1)}, r"dt_bias is \(1,\), expected \(4,\)"),
        ({"initial_states": torch.zeros(2, 4, 5, 3)}, r"initial_states is \(2, 4, 5, 3\), expected \(2, 4, 3, 5\)"),
        ({"x": torch.zeros(2, 13, 12)}, r"x must be \(batch, length, heads, head dim\)"),
        ({"x": torch.zeros(2, 0, 4, 3)}, "length 0"),
        ({"B": torch.zeros(2, 13, 2, 5, dtype=torch.float64)}, r"B is torch.float64, expected torch.float32"),
        ({"A": torch.zeros(4, dtype=torch.bfloat16)}, r"A is torch.bfloat16, expected torch.float32"),
        ({"chunk_size": 0}, "chunk_size=0"),
        ({"dt_limit": (1.0, 0.5)}, r"dt_limit=\(1.0, 0.5\)"),
        ({"direction": "backward"}, "direction='backward' is none of 'forward', 'reverse', 'both'"),
        ({"backend": "triton"}, "backend='triton' is none of 'auto', 'torch', 'mamba_ssm'"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    inputs = {k: v.detach() for k, v in make_inputs(dtype=torch.float32).items()}
    with pytest.raises(ValueError, match=message):
        mamba_chunk_scan_combined(**(inputs | change))


def test_both_directions_need_even_groups() -> None:
    with pytest.raises(ValueError, match="got 4 heads, 1 groups"):
        mamba_chunk_scan_combined(**make_inputs(groups=1), direction="both")


@pytest.fixture
def _fresh_kernels() -> Iterator[None]:
    backend.load_kernel.cache_clear()
    backend._log_choice.cache_clear()
    yield
    backend.load_kernel.cache_clear()
    backend._log_choice.cache_clear()


@pytest.mark.usefixtures("_fresh_kernels")
def test_missing_kernel_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r'pip install "lingen_kit\[mamba\]"'):
        mamba_chunk_scan_combined(**make_inputs(), backend="mamba_ssm")


@pytest.mark.usefixtures("_fresh_kernels")
def test_a_broken_package_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ModuleNotFoundError("No module named 'einops'", name="einops")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="einops"):
        mamba_chunk_scan_combined(**make_inputs(), backend="mamba_ssm")


@pytest.mark.usefixtures("_fresh_kernels")
def test_kernel_by_name_refuses_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "load_kernel", lambda kernel: naive.mamba_chunk_scan_combined)
    with pytest.raises(ValueError, match="runs on CUDA"):
        mamba_chunk_scan_combined(**make_inputs(), backend="mamba_ssm")


@pytest.mark.usefixtures("_fresh_kernels")
def test_choice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="lingen_kit.ops.backend"):
        for _ in range(2):
            mamba_chunk_scan_combined(**make_inputs())
    assert [record.message for record in caplog.records] == ["mamba_chunk_scan_combined on cpu: backend torch"]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_kernel_is_called_for_each_direction(direction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin stands in for the CUDA kernel, which only runs forward."""
    calls: list[int | None] = []

    def kernel(*args: Any, **options: Any) -> Any:
        calls.append(args[5])
        return naive.mamba_chunk_scan_combined(*args, **options)

    inputs = make_inputs()
    expected = outputs_and_gradients(naive.mamba_chunk_scan_combined, inputs, direction=direction)
    monkeypatch.setattr(ssd, "choose_kernel", lambda *args: kernel)
    actual = outputs_and_gradients(mamba_chunk_scan_combined, inputs, direction=direction)
    assert_same(actual, expected, 1e-12)
    assert calls == [256] * (2 if direction == "both" else 1)
