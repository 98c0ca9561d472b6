"""Attention and windowed attention against their naive twins, outputs and gradients; which backend runs."""

import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lingen_kit.errors import MissingPackage
from lingen_kit.ops import attention as ops
from lingen_kit.ops import backend as backends
from lingen_kit.ops import naive
from lingen_kit.ops.attention import attention, window_attention
from lingen_kit.ops.windows import axis_windows, cut_windows, split_windows

Size3 = tuple[int, int, int]


def leaves(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes)


def assert_equal_with_gradients(fast: Callable[..., Tensor], slow: Callable[..., Tensor], *inputs: Tensor) -> None:
    outs = fast(*inputs), slow(*inputs)
    torch.testing.assert_close(*outs)
    weights = torch.randn(outs[0].shape, generator=torch.Generator().manual_seed(1), dtype=outs[0].dtype)
    gradients = [torch.autograd.grad(out, inputs, weights) for out in outs]
    for actual, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
def test_attention_equals_its_twin(masked: bool) -> None:
    q, k, v = leaves((2, 5, 3, 4), (2, 7, 3, 4), (2, 7, 3, 4))
    mask = torch.rand(2, 1, 1, 7, generator=torch.Generator().manual_seed(2)) < 0.6 if masked else None
    if mask is not None:
        mask[..., 0] = True
    assert_equal_with_gradients(lambda *x: attention(*x, mask), lambda *x: naive.attention(*x, mask), q, k, v)


CASES: list[tuple[Size3, Size3, Size3]] = [
    ((4, 4, 4), (2, 2, 2), (1, 1, 1)),
    ((8, 4, 4), (4, 4, 4), (2, 2, 2)),
    ((5, 3, 7), (4, 2, 3), (0, 0, 0)),
    ((5, 3, 7), (4, 2, 3), (2, 1, 1)),
    ((1, 6, 6), (8, 4, 4), (4, 2, 2)),
    ((1, 1, 1), (8, 4, 4), (4, 2, 2)),
    ((3, 9, 2), (8, 4, 4), (7, 3, 3)),
]


@pytest.mark.parametrize(("grid", "window", "shift"), CASES, ids=str)
def test_window_attention_equals_its_twin(grid: Size3, window: Size3, shift: Size3) -> None:
    assert_equal_with_gradients(
        lambda *x: window_attention(*x, window, shift),
        lambda *x: naive.window_attention(*x, window, shift),
        *leaves(*3 * [(2, *grid, 2, 3)]),
    )


@settings(deadline=None, max_examples=40)
@given(data=st.data(), batch=st.integers(1, 3))
def test_any_grid_window_and_shift_equal_the_twin(data: st.DataObject, batch: int) -> None:
    grid: Any = data.draw(st.tuples(*3 * [st.integers(1, 7)]), label="grid")
    window: Any = data.draw(st.tuples(*3 * [st.integers(1, 8)]), label="window")
    shift: Any = data.draw(st.tuples(*(st.integers(0, size - 1) for size in window)), label="shift")
    assert_equal_with_gradients(
        lambda *x: window_attention(*x, window, shift),
        lambda *x: naive.window_attention(*x, window, shift),
        *leaves(*3 * [(batch, *grid, 2, 3)]),
    )


def test_gradcheck() -> None:
    inputs = leaves(*3 * [(1, 3, 2, 3, 1, 2)])
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel of the CPU has no second derivative
        assert torch.autograd.gradcheck(lambda *x: window_attention(*x, (2, 2, 2), (1, 1, 1)), inputs)
        assert torch.autograd.gradgradcheck(lambda *x: window_attention(*x, (2, 2, 2), (1, 1, 1)), inputs)
    assert torch.autograd.gradcheck(lambda *x: window_attention(*x, (2, 2, 2), (1, 1, 1)), inputs)


def test_float32_of_a_joint_projection() -> None:
    """q, k, v are views of one tensor, and the last axes are turned, as in a mixer."""
    joint = torch.randn(2, 7, 5, 4, 3, 2, 16)
    q, k, v = joint.transpose(2, 3).unbind(4)
    assert not q.is_contiguous()
    fast = window_attention(q, k, v, (4, 2, 3), (1, 1, 2))
    slow = naive.window_attention(q.double(), k.double(), v.double(), (4, 2, 3), (1, 1, 2))
    torch.testing.assert_close(fast.double(), slow, rtol=1e-5, atol=1e-5)


def test_one_window_over_everything_is_full_attention() -> None:
    q, k, v = (torch.randn(1, 2, 3, 4, 2, 5) for _ in range(3))
    everywhere = window_attention(q, k, v, (2, 3, 4), (1, 1, 1))
    full = attention(q.flatten(1, 3), k.flatten(1, 3), v.flatten(1, 3))
    torch.testing.assert_close(everywhere.flatten(1, 3), full)


def test_tokens_of_other_windows_have_no_influence() -> None:
    q, k, v = (torch.randn(1, 4, 4, 4, 1, 2) for _ in range(3))
    before = window_attention(q, k, v, (2, 2, 2), (1, 1, 1))
    v[0, 3, 3, 3] += 1  # with the shift, a window of its own
    changed = (window_attention(q, k, v, (2, 2, 2), (1, 1, 1)) != before).any(-1).any(-1)[0]
    assert changed.nonzero().tolist() == [[3, 3, 3]]


@pytest.mark.parametrize("length", range(1, 12))
def test_runs_of_an_axis_are_its_windows(length: int) -> None:
    for window in range(1, 6):
        for shift in range(window):
            borders = [0, *(i for i in range(1, length) if length > window and (i - shift) % window == 0), length]
            runs = [
                (r.start + i * r.size, r.size) for r in axis_windows(length, window, shift) for i in range(r.repeats)
            ]
            assert runs == [(a, b - a) for a, b in pairwise(borders)]


def test_packed_windows_of_one_length_are_neighbors() -> None:
    windows = cut_windows((2, 4, 3, 1), (2, 2, 1), (1, 0, 0), torch.device("cpu"))
    assert windows.groups == ((2, 4), (6, 2), (4, 1))  # along time 1, 2, 1; along height 2, 1; of two videos
    raster = torch.arange(24).view(2, 4, 3, 1)
    packed = windows.pack(raster)
    assert packed.tolist()[:8] == [3, 4, 6, 7, 15, 16, 18, 19]
    assert windows.unpack(packed).equal(raster)
    assert [part.shape for part in split_windows(packed, windows.groups)] == list(windows.groups)
    assert windows.blocks(24) == [list(windows.groups)]
    assert windows.blocks(11) == [[(2, 4), (1, 2)], [(5, 2), (1, 1)], [(3, 1)]]
    assert windows.blocks(1) == [[(1, n)] for w, n in windows.groups for _ in range(w)]


def test_windows_cut_in_inference_mode_serve_training() -> None:
    with torch.inference_mode():
        cut_windows((1, 3, 5, 2), (2, 3, 2), (1, 2, 0), torch.device("cpu"))
    (x,) = leaves((1, 3, 5, 2, 1, 4))
    window_attention(x, x, x, (2, 3, 2), (1, 2, 0)).sum().backward()
    assert x.grad is not None


def test_autocast_casts_mixed_inputs() -> None:
    q, k, v = leaves(*3 * [(1, 2, 3, 4, 2, 8)], dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = window_attention(q.bfloat16(), k, v, (2, 2, 2), (1, 1, 1))
        flat = attention(q.flatten(1, 3).bfloat16(), k.flatten(1, 3), v.flatten(1, 3))
    assert out.dtype == flat.dtype == torch.bfloat16
    exact = window_attention(q, k, v, (2, 2, 2), (1, 1, 1))
    torch.testing.assert_close(out.float(), exact, rtol=0.05, atol=0.05)


@pytest.fixture
def fresh_choices() -> Iterator[None]:
    """No kernel loaded yet and no choice logged; the next test finds the same."""
    for cached in (backends.load_kernel, backends._log_choice):
        cached.cache_clear()
    yield
    for cached in (backends.load_kernel, backends._log_choice):
        cached.cache_clear()


@pytest.fixture
def flash_attn(fresh_choices: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A stand-in for the package flash_attn that takes float64 on the CPU; gives the names of its calls."""
    calls = []

    def flash_attn_func(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        calls.append("flash_attn_func")
        return naive.attention(q, k, v)

    module = ModuleType("flash_stand_in")
    module.flash_attn_func = flash_attn_func  # type: ignore
    monkeypatch.setitem(sys.modules, "flash_stand_in", module)
    monkeypatch.setattr(
        ops, "_KERNEL", replace(ops._KERNEL, module="flash_stand_in", device="cpu", dtypes=(torch.float64,))
    )
    return calls


@pytest.mark.parametrize("backend", ["auto", "flash_attn"])
def test_flash_attn_is_chosen_called_and_logged_once(
    backend: Any, flash_attn: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=backends.logger.name)
    inputs = leaves(*3 * [(2, 5, 3, 4)])
    for _ in range(2):
        assert_equal_with_gradients(lambda *x: attention(*x, backend=backend), naive.attention, *inputs)
    assert flash_attn == ["flash_attn_func"] * 2
    assert caplog.messages == ["attention on cpu: backend flash_attn"]


@pytest.mark.parametrize(("grid", "window", "shift"), CASES, ids=str)
def test_flash_attn_takes_windows_of_one_length_in_one_call(
    grid: Size3, window: Size3, shift: Size3, flash_attn: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=backends.logger.name)
    assert_equal_with_gradients(
        lambda *x: window_attention(*x, window, shift),
        lambda *x: naive.window_attention(*x, window, shift),
        *leaves(*3 * [(2, *grid, 2, 3)]),
    )
    groups = cut_windows((2, *grid), window, shift, torch.device("cpu")).groups
    assert flash_attn == ["flash_attn_func"] * len(groups)
    assert caplog.messages == ["attention on cpu: backend flash_attn"]


def test_what_flash_attn_cannot_do_sdpa_does(flash_attn: list[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=backends.logger.name)
    q, k, v = (torch.randn(1, 4, 2, 8, dtype=torch.float64) for _ in range(3))
    mask = torch.ones(4, 4, dtype=torch.bool).tril()
    attention(q, k, v, mask)
    attention(q.float(), k.float(), v.float())
    attention(*3 * [torch.randn(1, 4, 2, 264, dtype=torch.float64)])
    attention(q, k, v, backend="sdpa")
    assert flash_attn == []
    assert caplog.messages == ["attention on cpu: backend sdpa"]
    with pytest.raises(ValueError, match="backend='flash_attn' takes no mask; use backend='sdpa'"):
        attention(q, k, v, mask, backend="flash_attn")
    with pytest.raises(ValueError, match="heads of at most 256 channels, not 264"):
        attention(*3 * [torch.randn(1, 4, 2, 264, dtype=torch.float64)], backend="flash_attn")


@pytest.mark.usefixtures("fresh_choices")
def test_flash_attn_by_name_without_the_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn", None)  # as if it were not installed
    q = torch.randn(1, 2, 2, 2, 1, 4)
    install = r"backend='flash_attn' needs the package flash_attn.*pip install \"lingen_kit\[flash\]\""
    with pytest.raises(MissingPackage, match="attention: " + install):
        attention(*3 * [q.flatten(1, 3)], backend="flash_attn")
    with pytest.raises(MissingPackage, match="attention: " + install):
        window_attention(q, q, q, (2, 2, 2), backend="flash_attn")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.zeros(2, 5, 4)}, r"attention: q is \(2, 5, 4\), expected \(batch, queries, heads, head dim\)"),
        ({"q": torch.zeros(2, 0, 3, 4)}, r"q is \(2, 0, 3, 4\), expected .* no size of zero"),
        ({"k": torch.zeros(2, 7, 2, 4)}, r"k is \(2, 7, 2, 4\), expected \(2, keys, 3, 4\)"),
        ({"k": torch.zeros(2, 0, 3, 4)}, "with keys >= 1"),
        ({"v": torch.zeros(2, 6, 3, 4)}, r"v is \(2, 6, 3, 4\), expected \(2, 7, 3, 4\), the shape of k"),
        ({"k": torch.zeros(2, 7, 3, 4).double()}, r"k is torch.float64, expected torch.float32.*\.to\(q.dtype\)"),
        ({"v": torch.zeros(2, 7, 3, 4).half()}, "v is torch.float16, expected torch.float32"),
        ({"mask": torch.ones(2, 7)}, r"mask is torch.float32 \(2, 7\), expected torch.bool"),
        ({"mask": torch.ones(2, 7) > 0}, r"mask is torch.bool \(2, 7\), .* broadcastable to .* \(2, 3, 5, 7\)"),
        ({"backend": "flash"}, "backend='flash' is none of 'auto', 'sdpa', 'flash_attn'"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_bad_input_of_attention_is_named(change: dict[str, Any], message: str) -> None:
    good = {"q": torch.zeros(2, 5, 3, 4), "k": torch.zeros(2, 7, 3, 4), "v": torch.zeros(2, 7, 3, 4)}
    with pytest.raises(ValueError, match=message):
        attention(**(good | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.zeros(1, 4, 4, 4, 8)}, r"window_attention: q is \(1, 4, 4, 4, 8\), expected \(batch, time"),
        ({"k": torch.zeros(1, 4, 4, 4, 1, 8)}, r"k is \(1, 4, 4, 4, 1, 8\), expected \(1, 4, 4, 4, 2, 8\)"),
        ({"v": torch.zeros(1, 4, 4, 2, 2, 8)}, r"v is \(1, 4, 4, 2, 2, 8\), expected .* the shape of q"),
        ({"v": torch.zeros(1, 4, 4, 4, 2, 8).double()}, "v is torch.float64, expected torch.float32"),
        ({name: torch.zeros(1, 0, 4, 4, 2, 8) for name in "qkv"}, r"\(1, 0, 4, 4\) must have at least 1 of each"),
        ({"window": (2, 0, 2)}, r"window \(2, 0, 2\) must be three sizes of at least 1"),
        ({"window": (2, 2)}, r"window \(2, 2\) must be three sizes"),
        ({"shift": (0, 2, 0)}, r"shift \(0, 2, 0\) must be .* below its size of the window \(2, 2, 2\)"),
        ({"shift": (-1, 0, 0)}, r"shift \(-1, 0, 0\) must be three offsets, each at least 0"),
        ({"backend": "torch"}, "backend='torch' is none of 'auto', 'sdpa', 'flash_attn'"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_bad_input_of_window_attention_is_named(change: dict[str, Any], message: str) -> None:
    good = {name: torch.zeros(1, 4, 4, 4, 2, 8) for name in "qkv"} | {"window": (2, 2, 2), "shift": (1, 1, 1)}
    with pytest.raises(ValueError, match=message):
        window_attention(**(good | change))
