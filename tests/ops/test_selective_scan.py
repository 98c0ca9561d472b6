"""The selective scan, in torch and compiled by numba, against its token-by-token twin: outputs, gradients, errors."""

import importlib.util
import logging
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lingen_kit.errors import MissingPackage
from lingen_kit.ops import backend, naive, selective_scan, selective_scan_chunks
from lingen_kit.ops.selective_scan import selective_scan_fn

needs_numba = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason='numba is not installed: pip install "lingen_kit[numba]"'
)
ENGINES = ["torch", pytest.param("numba", marks=needs_numba)]
both_engines = pytest.mark.parametrize("engine", ENGINES)
DIRECTIONS = ["forward", "reverse"]
SEQUENCES = ("u", "delta", "B", "C", "z")


def make_inputs(
    batch: int = 2,
    channels: int = 6,
    length: int = 71,
    groups: int | None = 2,
    state: int = 5,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> dict[str, Tensor]:
    """All inputs, with gradients; B and C have no axis for groups if that is None."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    axis = () if groups is None else (groups,)
    decays = -3 * torch.rand(channels, state, generator=generator, dtype=torch.float64)
    return {
        "u": normal(batch, channels, length),
        "delta": normal(batch, channels, length),
        "A": decays.to(dtype).requires_grad_(),
        "B": normal(batch, *axis, state, length),
        "C": normal(batch, *axis, state, length),
        "D": normal(channels),
        "z": normal(batch, channels, length),
        "delta_bias": normal(channels),
        "initial_states": normal(batch, channels, state),
    }


def outputs_and_gradients(operator: Any, inputs: dict[str, Tensor], **options: Any) -> dict[str, Tensor]:
    """Output, last state and the gradient of every input under fixed random weights."""
    y, state = operator(**inputs, delta_softplus=True, return_last_state=True, **options)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in (y, state)]
    loss = (y * weights[0]).sum() + (state * weights[1]).sum()
    gradients = torch.autograd.grad(loss, list(inputs.values()))
    return {"y": y, "last_state": state} | {f"d{name}": g for name, g in zip(inputs, gradients, strict=True)}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    for name, value in expected.items():
        assert actual[name].shape == value.shape, name
        scale = value.abs().max().clamp(min=1e-3)
        error = ((actual[name] - value).abs().max() / scale).item()
        assert error < tolerance, f"{name} is off by {error:.1e} of its largest entry"


@both_engines
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("groups", [None, 1, 2], ids="groups {}".format)
def test_equals_the_recurrence(engine: str, direction: str, groups: int | None) -> None:
    inputs = make_inputs(groups=groups)
    expected = outputs_and_gradients(naive.selective_scan_fn, inputs, direction=direction)
    assert_same(outputs_and_gradients(selective_scan_fn, inputs, direction=direction, backend=engine), expected, 1e-11)


@both_engines
@given(
    batch=st.integers(1, 3),
    channels_per_group=st.sampled_from([1, 3, 33, 65]),
    length=st.one_of(st.integers(1, 8), st.sampled_from([31, 32, 33, 64])),
    groups=st.integers(1, 3),
    state=st.integers(1, 5),
    direction=st.sampled_from(DIRECTIONS),
    seed=st.integers(0, 100),
)
def test_equals_the_recurrence_on_random_shapes(
    engine: str, batch: int, channels_per_group: int, length: int, groups: int, state: int, direction: str, seed: int
) -> None:
    inputs = make_inputs(batch, channels_per_group * groups, length, groups, state, seed=seed)
    expected = outputs_and_gradients(naive.selective_scan_fn, inputs, direction=direction)
    assert_same(outputs_and_gradients(selective_scan_fn, inputs, direction=direction, backend=engine), expected, 1e-10)


@both_engines
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("length", [1, 7], ids="length {}".format)
def test_gradcheck(engine: str, direction: str, length: int) -> None:
    inputs = make_inputs(1, 4, length, 2, 2)

    def call(*tensors: Tensor) -> Any:
        named = dict(zip(inputs, tensors, strict=True))
        return selective_scan_fn(
            **named, delta_softplus=True, return_last_state=True, direction=direction, backend=engine
        )

    assert torch.autograd.gradcheck(call, tuple(inputs.values()))


def test_few_chunks_at_a_time_give_what_all_at_once_give(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make_inputs(length=200)
    whole = outputs_and_gradients(selective_scan_fn, inputs, backend="torch")
    monkeypatch.setattr(selective_scan_chunks, "_CPU_ENTRIES", 70)  # two chunks of 6 x 5 entries, one sequence
    assert_same(outputs_and_gradients(selective_scan_fn, inputs, backend="torch"), whole, 1e-12)


@both_engines
def test_only_the_required_inputs(engine: str) -> None:
    inputs = {k: v for k, v in make_inputs(groups=None).items() if k in ("u", "delta", "A", "B", "C")}
    expected = outputs_and_gradients(naive.selective_scan_fn, inputs)
    assert_same(outputs_and_gradients(selective_scan_fn, inputs, backend=engine), expected, 1e-11)


@both_engines
def test_step_of_zero_keeps_the_state(engine: str) -> None:
    inputs = {k: v for k, v in make_inputs().items() if k not in ("delta_bias", "delta")}
    delta = torch.zeros(2, 6, 71, dtype=torch.float64, requires_grad=True)
    y, state = selective_scan_fn(**inputs, delta=delta, return_last_state=True, backend=engine)
    torch.testing.assert_close(state, inputs["initial_states"])
    expected = naive.selective_scan_fn(**inputs, delta=delta)
    gradients = [torch.autograd.grad(t.square().sum(), delta, retain_graph=True)[0] for t in (y, expected)]
    assert gradients[1].abs().max() > 0
    torch.testing.assert_close(*gradients)


@both_engines
def test_inputs_need_not_be_contiguous(engine: str) -> None:
    inputs = make_inputs()
    expected = outputs_and_gradients(naive.selective_scan_fn, inputs)
    strided = {name: t.detach().repeat_interleave(2, dim=-1)[..., ::2] for name, t in inputs.items()}
    strided["u"] = inputs["u"].detach().mT.contiguous().mT
    strided["B"] = inputs["B"].detach().transpose(0, 1).contiguous().transpose(0, 1)
    assert not any(t.is_contiguous() for t in strided.values())
    leaves = {name: t.requires_grad_() for name, t in strided.items()}
    assert_same(outputs_and_gradients(selective_scan_fn, leaves, backend=engine), expected, 1e-11)


@both_engines
def test_gradient_of_an_expanded_output_sum(engine: str) -> None:
    """`y.sum()` hands backward a gradient with stride zero everywhere."""
    inputs = {k: v for k, v in make_inputs().items() if k != "z"}
    operators = (lambda **tensors: selective_scan_fn(**tensors, backend=engine)), naive.selective_scan_fn
    sums = [torch.autograd.grad(f(**inputs, delta_softplus=True).sum(), inputs["u"])[0] for f in operators]
    torch.testing.assert_close(*sums)


@needs_numba
def test_channels_last_views_reach_the_kernel_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    from lingen_kit.ops import selective_scan_numba

    seen: list[Tensor] = []
    run = selective_scan_numba._run
    monkeypatch.setattr(selective_scan_numba, "_run", lambda *a: (seen.extend(a[2]), run(*a))[1])
    projected = torch.randn(2, 71, 6 + 6 + 5 + 5)  # B L D, as a mixer has it
    u, delta, B, C = (t.mT for t in projected.split([6, 6, 5, 5], dim=-1))
    y = selective_scan_fn(u, delta, -torch.ones(6, 5), B, C, backend="numba")
    pointers = {t.data_ptr() for t in seen}
    assert all(t.data_ptr() in pointers for t in (u, delta, B, C, y))
    assert y.mT.is_contiguous()


@both_engines
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_float32_on_a_long_sequence(engine: str, direction: str) -> None:
    inputs = make_inputs(1, 4, 600, 2, 8)
    inputs["delta_bias"] = torch.full((4,), -4.0, dtype=torch.float64, requires_grad=True)
    expected = outputs_and_gradients(naive.selective_scan_fn, inputs, direction=direction)
    single = {name: t.detach().float().requires_grad_() for name, t in inputs.items()}
    actual = outputs_and_gradients(selective_scan_fn, single, direction=direction, backend=engine)
    assert_same(actual, expected, 1e-5)


@both_engines
def test_strong_decays_stay_finite_in_float32(engine: str) -> None:
    """A state that decays by exp(-6000) over a chunk neither overflows nor turns into NaN."""
    inputs = make_inputs(1, 2, 64, 2, 4, torch.float32)
    inputs["A"] = torch.tensor([[-100.0], [-0.01]]).repeat(1, 4).requires_grad_()
    inputs["delta_bias"] = torch.ones(2, requires_grad=True)
    expected = outputs_and_gradients(naive.selective_scan_fn, inputs)
    actual = outputs_and_gradients(selective_scan_fn, inputs, backend=engine)
    assert all(t.isfinite().all() for t in actual.values())
    assert_same(actual, expected, 1e-5)


@both_engines
def test_nan_in_the_decays_is_not_swallowed(engine: str) -> None:
    inputs = {k: v.detach() for k, v in make_inputs(dtype=torch.float32).items()}
    inputs["A"][1, 2] = torch.nan
    y = selective_scan_fn(**inputs, delta_softplus=True, backend=engine)
    assert y[:, 1].isnan().all() and y[:, [0, 2, 3, 4, 5]].isfinite().all()


@both_engines
def test_bfloat16_inputs_are_as_good_as_their_rounding(engine: str) -> None:
    """All maths but the gate is in float32, so the only errors are those of rounding inputs and results."""
    wide = ("A", "D", "delta_bias", "initial_states")
    inputs = {
        name: (t.detach() if name in wide else t.detach().bfloat16()).requires_grad_()
        for name, t in make_inputs(dtype=torch.float32).items()
    }
    exact = {name: t.detach().double().requires_grad_() for name, t in inputs.items()}
    expected = outputs_and_gradients(naive.selective_scan_fn, exact)
    actual = outputs_and_gradients(selective_scan_fn, inputs, backend=engine)
    dtypes = [actual[name].dtype for name in ("y", "last_state", "du", "dA")]
    assert dtypes == [torch.bfloat16, torch.float32, torch.bfloat16, torch.float32]
    assert_same(actual, expected, 0.02)


@both_engines
def test_autocast_casts_mixed_inputs(engine: str) -> None:
    inputs = make_inputs(dtype=torch.float32)
    expected = selective_scan_fn(**inputs, delta_softplus=True, backend=engine)
    for name in ("B", "delta"):  # what a linear layer under autocast hands over
        inputs[name] = inputs[name].detach().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = selective_scan_fn(**inputs, delta_softplus=True, backend=engine)
        y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=0.05, atol=0.2)


@needs_numba
def test_no_grad_keeps_no_states() -> None:
    from lingen_kit.ops import selective_scan_numba

    inputs = {k: v.detach() for k, v in make_inputs().items()}
    B, C = (inputs[name].permute(0, 3, 1, 2) for name in ("B", "C"))
    arguments = (inputs["u"].mT, inputs["delta"].mT.exp(), inputs["A"], B, C, inputs["D"], inputs["initial_states"])
    silent = selective_scan_numba.forward(*arguments, reverse=False, save=False)
    kept = selective_scan_numba.forward(*arguments, reverse=False, save=True)
    assert [t[2].shape[1] for t in (silent, kept)] == [0, 3]
    assert all(torch.equal(a, b) for a, b in zip(silent[:2], kept[:2], strict=True))


@needs_numba
def test_exp2_is_as_exact_as_float32() -> None:
    import numpy as np
    from numba import vectorize

    from lingen_kit.ops.selective_scan_numba import _exp2

    exp2 = vectorize(["float32(float32)"])(lambda x: _exp2(x))
    x = np.linspace(-126, 127, 500_001, dtype=np.float32)
    error = np.abs(exp2(x).astype(np.float64) / np.exp2(x.astype(np.float64)) - 1).max()
    assert error < 2e-7
    with np.errstate(invalid="ignore"):  # NaN has no exponent
        limits = exp2(np.array([-np.inf, -1000, 0, 1000, np.inf, np.nan], dtype=np.float32))
    np.testing.assert_array_equal(limits, np.array([0, 0, 1, np.inf, np.inf, np.nan], dtype=np.float32))


@pytest.fixture
def _two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@both_engines
@pytest.mark.usefixtures("_two_threads")
def test_threads_may_call_at_the_same_time(engine: str) -> None:
    problems = [make_inputs(1, 70, 65, 1, 4, torch.float32, seed=seed) for seed in range(4)]

    def call(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return outputs_and_gradients(selective_scan_fn, inputs, backend=engine)

    alone = [call(inputs) for inputs in problems]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(call, problems * 2))
    for result, expected in zip(together, alone * 2, strict=True):
        assert all(torch.equal(result[name], value) for name, value in expected.items())


def _scan_small(connection: Any) -> None:
    with torch.no_grad():
        connection.send(selective_scan_fn(**make_inputs(1, 70, 3), backend="numba").sum().item())


@needs_numba
@pytest.mark.usefixtures("_two_threads")
def test_a_forked_child_may_call_too() -> None:
    """A data loader forks its workers after the parent's threads have begun."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    expected = selective_scan_fn(**make_inputs(1, 70, 3), backend="numba").sum().item()
    child = context.Process(target=_scan_small, args=(sender,))
    child.start()
    answered = receiver.poll(30)
    if not answered:
        child.kill()
    child.join()
    assert answered, "the child hangs"
    assert receiver.recv() == pytest.approx(expected)


@needs_numba
def test_a_folder_that_cannot_be_written_costs_the_cache_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from lingen_kit.ops import selective_scan_numba

    def njit(signature: Any, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function '_forward_block': no locator available")
        return lambda function: "compiled"

    monkeypatch.setattr(selective_scan_numba, "njit", njit)
    compiled = selective_scan_numba._compiled.__wrapped__
    with caplog.at_level(logging.INFO, logger="lingen_kit.ops.selective_scan_numba"):
        assert compiled(selective_scan_numba._forward_block, (1,), torch.float32) == "compiled"
    assert "some seconds" in caplog.records[0].message and "NUMBA_CACHE_DIR" in caplog.records[1].message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delta": torch.zeros(2, 6, 70)}, r"delta is \(2, 6, 70\), expected \(2, 6, 71\)"),
        ({"delta": torch.zeros(2, 6, 71).index_fill(2, torch.tensor(7), torch.nan)}, r"delta\[0, 0, 7\] is nan"),
        ({"delta": torch.full((2, 6, 71), torch.inf)}, r"delta\[0, 0, 0\] is inf"),
        ({"A": torch.zeros(5, 5)}, r"A is \(5, 5\), expected \(6, 5\)"),
        ({"A": torch.zeros(6)}, r"A \(channels, state size\); got u \(2, 6, 71\), A \(6,\)"),
        ({"B": torch.zeros(2, 4, 5, 71)}, r"B \(2, 4, 5, 71\) has 4 groups, which do not divide the 6 channels"),
        ({"B": torch.zeros(2, 4, 71)}, r"B is \(2, 4, 71\), expected \(2, 5, 71\)"),
        ({"C": torch.zeros(2, 3, 5, 71)}, "B has 2 groups and C has 3"),
        ({"C": torch.zeros(2, 5, 71)}, "B has 2 groups and C has 1"),
        ({"D": torch.zeros(5)}, r"D is \(5,\), expected \(6,\)"),
        ({"z": torch.zeros(2, 71, 6)}, r"z is \(2, 71, 6\), expected \(2, 6, 71\)"),
        ({"delta_bias": torch.zeros(1)}, r"delta_bias is \(1,\), expected \(6,\)"),
        ({"initial_states": torch.zeros(2, 5, 6)}, r"initial_states is \(2, 5, 6\), expected \(2, 6, 5\)"),
        ({"u": torch.zeros(2, 6)}, r"u must be \(batch, channels, length\)"),
        ({"u": torch.zeros(2, 6, 0)}, "length 0"),
        ({"C": torch.zeros(2, 2, 5, 71, dtype=torch.float64)}, "C is torch.float64, expected torch.float32"),
        ({"A": torch.zeros(6, 5, dtype=torch.bfloat16)}, "A is torch.bfloat16, expected torch.float32"),
        ({"direction": "both"}, "direction='both' is none of 'forward', 'reverse'"),
        ({"backend": "triton"}, "backend='triton' is none of 'auto', 'torch', 'mamba_ssm', 'numba'"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    inputs = {k: v.detach() for k, v in make_inputs(dtype=torch.float32).items()}
    with pytest.raises(ValueError, match=message):
        selective_scan_fn(**(inputs | change))


@pytest.fixture
def _fresh_choice() -> Iterator[None]:
    backend._log_choice.cache_clear()
    yield
    backend._log_choice.cache_clear()


@pytest.mark.usefixtures("_fresh_choice")
@pytest.mark.parametrize(
    ("installed", "chosen"), [pytest.param(True, "numba", marks=needs_numba), (False, "torch")], ids=str
)
def test_auto_takes_numba_where_it_is_installed_and_says_so_once(
    installed: bool, chosen: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backend, "load_kernel", lambda kernel: print if installed else None)
    with caplog.at_level(logging.INFO, logger="lingen_kit.ops.backend"):
        for _ in range(2):
            selective_scan_fn(**make_inputs())
    assert [record.message for record in caplog.records] == [f"selective_scan_fn on cpu: backend {chosen}"]


@pytest.mark.parametrize(("name", "extra"), [("numba", "numba"), ("mamba_ssm", "mamba")])
def test_missing_kernel_names_the_install_line(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "load_kernel", lambda kernel: None)
    with pytest.raises(MissingPackage, match=rf'package {name}, .* pip install "lingen_kit\[{extra}\]"'):
        selective_scan_fn(**make_inputs(), backend=name)


def test_the_cuda_kernel_refuses_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "load_kernel", lambda kernel: naive.selective_scan_fn)
    with pytest.raises(ValueError, match="runs on CUDA"):
        selective_scan_fn(**make_inputs(), backend="mamba_ssm")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_cuda_kernel_is_called_as_it_expects(direction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin stands in for it: positional arguments, forward only, float32 parameters, a delta in the dtype of u."""

    def kernel(*args: Any) -> Any:
        assert args[0].dtype == args[1].dtype == torch.bfloat16
        assert args[2].dtype == args[5].dtype == args[7].dtype == torch.float32
        return naive.selective_scan_fn(*(t.double() if isinstance(t, Tensor) else t for t in args))

    monkeypatch.setattr(selective_scan, "choose_backend", lambda *a, **k: "mamba_ssm")
    monkeypatch.setattr(selective_scan, "load_kernel", lambda kernel_: kernel)
    inputs = {k: v.detach().bfloat16() for k, v in make_inputs().items() if k != "initial_states"}
    inputs["delta"] = inputs["delta"].float()  # may be wider than u
    options = {"delta_softplus": True, "return_last_state": True, "direction": direction}
    actual = selective_scan_fn(**inputs, **options)
    expected = naive.selective_scan_fn(**{k: v.double() for k, v in inputs.items()}, **options)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e)


def test_what_the_cuda_kernel_cannot_do() -> None:
    inputs = make_inputs(state=257)
    assert "at most 256, not 257" in str(selective_scan._why_unfit(inputs["A"], None, False))
    assert "no initial_states" in str(selective_scan._why_unfit(inputs["A"][:, :16], inputs["initial_states"], False))
    assert "no gradient of the last state" in str(selective_scan._why_unfit(inputs["A"][:, :16], None, True))
    assert selective_scan._why_unfit(inputs["A"][:, :16], None, False) is None
