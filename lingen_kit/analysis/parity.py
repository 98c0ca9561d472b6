"""Do the optional kernels compute what the torch paths compute? Outputs and gradients of every operator that has one.

Both run on the same inputs, rounded to the dtype in question, and are compared with the torch path in float64. So
a kernel is judged beside what the dtype itself costs, not against a tolerance guessed for it.

Letters: B batch, L length, H heads, P head dim, G groups, N state size, D channels, K filter width.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lingen_kit.errors import MissingPackage
from lingen_kit.ops.attention import attention, window_attention
from lingen_kit.ops.conv import causal_conv1d
from lingen_kit.ops.gated_delta import chunk_gated_delta_rule
from lingen_kit.ops.linear_attention import linear_attention
from lingen_kit.ops.quasiseparable import quasiseparable_scan
from lingen_kit.ops.selective_scan import selective_scan_fn
from lingen_kit.ops.ssd import mamba_chunk_scan_combined

Inputs = dict[str, Tensor]

# Kernels may multiply fp32 in TF32, which keeps 10 bits; a bf16 number keeps 8.
FLOORS = {torch.float32: 2e-3, torch.float16: 5e-3, torch.bfloat16: 2e-2, torch.float64: 1e-9}


@dataclass(frozen=True)
class Case:
    """One operator and one of its kernels.

    Attributes:
        name: What is computed.
        backend: The kernel.
        op: The operator, called with the inputs by name, the options and `backend`.
        shapes: Shape of each input.
        options: Its options.
        native: The torch path's name.
        device: Where the kernel runs.
        wide: Inputs that stay in fp32 beside 16-bit ones.
        prepare: What makes an input of a normal draw, by name.
    """

    name: str
    backend: str
    op: Callable[..., Any]
    shapes: Mapping[str, tuple[int, ...]]
    options: Mapping[str, object] = field(default_factory=dict)
    native: str = "torch"
    device: str = "cuda"
    wide: tuple[str, ...] = ()
    prepare: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)

    def inputs(self, dtype: torch.dtype, device: torch.device) -> Inputs:
        """Draw inputs, the same on every device, that need gradients."""
        generator = torch.Generator().manual_seed(0)
        drawn = {}
        for name, shape in self.shapes.items():
            value = self.prepare.get(name, lambda t: t)(torch.randn(shape, generator=generator))
            drawn[name] = value.to(device, torch.promote_types(dtype, torch.float32) if name in self.wide else dtype)
        return {name: value.requires_grad_() for name, value in drawn.items()}


@dataclass(frozen=True)
class Row:
    """One tensor of a case: relative errors (norms) against float64, and why there are none.

    Attributes:
        case: Name of the case.
        backend: The kernel.
        dtype: Name of the dtype.
        tensor: `y`, or `d` and the name of an input.
        native_error: Error of the torch path.
        kernel_error: Error of the kernel; NaN if it failed.
        skipped: Why the kernel did not run, or with what it failed; empty if it did.
    """

    case: str
    backend: str
    dtype: str
    tensor: str
    native_error: float | None = None
    kernel_error: float | None = None
    skipped: str = ""

    @property
    def passed(self) -> bool:
        """Whether the torch path is as good as the dtype allows, and the kernel, if it ran, as good as either."""
        floor = FLOORS[getattr(torch, self.dtype)]
        if self.native_error is None:
            return False
        # `not a <= b` also where an error is NaN
        return self.native_error <= floor and not (
            self.kernel_error is not None and not self.kernel_error <= max(2 * self.native_error, floor)
        )


def compare(case: Case, dtype: torch.dtype) -> Iterator[Row]:
    """Run a case in one dtype: a row for the output and one for each gradient.

    Without the device there is a single row that says so; without the kernel, rows of the torch path alone.
    """
    name = str(dtype).removeprefix("torch.")
    if case.device == "cuda" and not torch.cuda.is_available():
        yield Row(case.name, case.backend, name, "", skipped="no CUDA device")
        return
    inputs = case.inputs(dtype, torch.device(case.device))
    exact = {key: value.detach().double().requires_grad_() for key, value in inputs.items()}
    truth = _outputs_and_gradients(case, exact, case.native)
    native = _outputs_and_gradients(case, inputs, case.native)
    kernel, skipped, without = {}, "", None
    try:
        kernel = _outputs_and_gradients(case, inputs, case.backend)
    except (MissingPackage, ValueError) as error:
        skipped = str(error).partition(": ")[2]
    except RuntimeError as error:  # a kernel that knows itself to be wrong on this machine raises this
        skipped, without = " ".join(str(error).split()), float("nan")
    for tensor, value in truth.items():
        kernel_error = _distance(kernel[tensor], value) if kernel else without
        yield Row(case.name, case.backend, name, tensor, _distance(native[tensor], value), kernel_error, skipped)


def _distance(value: Tensor, truth: Tensor) -> float:
    return float((value.double() - truth).norm() / truth.norm())


def _outputs_and_gradients(case: Case, inputs: Inputs, backend: str) -> dict[str, Tensor]:
    output = case.op(**inputs, **case.options, backend=backend)
    y: Tensor = output[0] if isinstance(output, tuple) else output
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    gradients = torch.autograd.grad(y, list(inputs.values()), direction)
    return {"y": y.detach()} | {f"d{name}": g for name, g in zip(inputs, gradients, strict=True)}


def _decay(t: Tensor) -> Tensor:
    return -(1 + t.abs())


def _unit(t: Tensor) -> Tensor:
    return F.normalize(t, dim=-1)


def _small_step(t: Tensor) -> Tensor:
    return t - 4  # softplus of it is about 0.02


_SSD = {"x": (2, 512, 8, 64), "dt": (2, 512, 8), "A": (8,), "B": (2, 512, 2, 64), "C": (2, 512, 2, 64), "D": (8,)}
_QUASI = _SSD | {"dt": (2, 512, 16), "A": (16,), "D": (2, 512, 8)}
_SELECTIVE = {
    "u": (2, 256, 512), "delta": (2, 256, 512), "A": (256, 16), "B": (2, 16, 512), "C": (2, 16, 512), "D": (256,),
    "z": (2, 256, 512),
}  # fmt: skip
_DELTA = {"q": (2, 512, 4, 64), "k": (2, 512, 4, 64), "v": (2, 512, 4, 64), "g": (2, 512, 4), "beta": (2, 512, 4)}
_CONV = {"x": (2, 512, 256), "weight": (256, 4), "bias": (256,)}
_QKV = dict.fromkeys("qkv", (2, 512, 4, 64))
_GRID = dict.fromkeys("qkv", (2, 10, 9, 8, 4, 64))
_DYNAMICS: dict[str, Callable[[Tensor], Tensor]] = {"A": _decay, "dt": _small_step, "delta": _small_step}

CASES = (
    *(
        Case(f"state space dual, {direction}", "mamba_ssm", mamba_chunk_scan_combined, _SSD,
             options={"dt_softplus": True, "direction": direction}, wide=("dt", "A", "D"), prepare=_DYNAMICS)
        for direction in ("forward", "reverse", "both")
    ),
    Case("quasi-separable scan", "mamba_ssm", quasiseparable_scan, _QUASI,
         options={"dt_softplus": True}, wide=("dt", "A"), prepare=_DYNAMICS),
    *(
        Case(f"selective scan, {direction}", backend, selective_scan_fn, _SELECTIVE, device=device,
             options={"delta_softplus": True, "direction": direction}, wide=("A", "D"), prepare=_DYNAMICS)
        for backend, device in (("mamba_ssm", "cuda"), ("numba", "cpu"))
        for direction in ("forward", "reverse")
    ),
    *(
        Case(f"causal convolution, {'reverse' if reverse else 'forward'}", "causal_conv1d", causal_conv1d, _CONV,
             options={"activation": "silu", "reverse": reverse})
        for reverse in (False, True)
    ),
    Case("gated delta rule", "fla", chunk_gated_delta_rule, _DELTA, wide=("g",),
         prepare={"q": _unit, "k": _unit, "g": lambda t: -t.abs() / 8, "beta": torch.sigmoid}),
    Case("linear attention, causal", "fla", linear_attention, _QKV,
         options={"causal": True}, prepare={"q": torch.abs, "k": torch.abs}),
    Case("attention", "flash_attn", attention, _QKV, native="sdpa"),
    Case("shifted windows", "flash_attn", window_attention, _GRID, native="sdpa",
         options={"window": (4, 4, 4), "shift": (2, 2, 2)}),
)  # fmt: skip
