"""Which implementation of an operator runs: plain torch, or an optional kernel that is installed.

`auto` picks a kernel where its package imports and it takes the tensor, else torch, and logs each choice once.
A backend asked for by name that cannot run is an error with the install line, never a silent fall back.
"""

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lingen_kit.errors import MissingPackage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kernel:
    """An optional kernel.

    Attributes:
        backend: Name under which users ask for it.
        module: Module to import.
        function: Name of the callable in that module.
        extra: Extra of this package that installs it.
        package: What must be installed; the top of `module` if None.
        device: Type of device that it runs on.
        dtypes: Dtypes of the main input that it takes.
    """

    backend: str
    module: str
    function: str
    extra: str
    package: str | None = None
    device: str = "cuda"
    dtypes: tuple[torch.dtype, ...] = (torch.float16, torch.bfloat16, torch.float32)


@cache
def load_kernel(kernel: Kernel) -> Callable[..., Any] | None:
    """Import a kernel's callable; None where its package is not installed.

    Raises:
        ImportError: The package is there and broken; the error is its own.
    """
    top = kernel.module.partition(".")[0]
    try:
        module = importlib.import_module(kernel.module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in (top, kernel.package):
            return None
        raise
    function: Callable[..., Any] = getattr(module, kernel.function)
    return function


@cache
def _log_choice(op: str, backend: str, device_type: str) -> None:
    logger.info("%s on %s: backend %s", op, device_type, backend)


def choose_kernel(
    op: str, backend: str, kernel: Kernel, x: Tensor, unfit: str | None = None, *, native: str = "torch"
) -> Callable[..., Any] | None:
    """Decide between torch and one optional kernel for one call.

    Args:
        op: Name of the operator, for messages.
        backend: What the caller asked for: `auto`, `native` or `kernel.backend`.
        kernel: The operator's optional kernel.
        x: The operator's main input; its device and dtype decide what `auto` picks.
        unfit: Why the kernel cannot serve this call although device and dtype would do; None if it can.
        native: What users call the path that needs torch alone.

    Returns:
        The kernel's callable, or None for the torch path.

    Raises:
        ValueError: `backend` is not one of the choices, or the kernel was asked for and cannot
            serve this call.
        MissingPackage: The kernel was asked for by name and is not installed.
    """
    chosen = choose_backend(op, backend, (kernel,), x, {kernel.backend: unfit}, native=native)
    return None if chosen == native else load_kernel(kernel)


def choose_backend(
    op: str,
    backend: str,
    kernels: Sequence[Kernel],
    x: Tensor,
    unfit: Mapping[str, str | None] | None = None,
    *,
    native: str = "torch",
) -> str:
    """Decide between torch and several optional kernels for one call.

    Args:
        op: Name of the operator, for messages.
        backend: What the caller asked for: `auto`, `native` or the backend of one of the kernels.
        kernels: The operator's optional kernels; `auto` takes the first that is installed and fits.
        x: The operator's main input; its device and dtype decide what `auto` picks.
        unfit: By backend, why that kernel cannot serve this call although device and dtype would do; None if it can.
        native: What users call the path that needs torch alone.

    Returns:
        `native`, or the backend of the kernel to run, which is installed.

    Raises:
        ValueError: `backend` is not one of the choices, or a kernel was asked for and cannot serve this call.
        MissingPackage: A kernel was asked for by name and is not installed.
    """
    unfit = unfit or {}
    choices = ("auto", native, *(kernel.backend for kernel in kernels))
    if backend not in choices:
        raise ValueError(f"{op}: backend={backend!r} is none of {', '.join(map(repr, choices))}")
    chosen = native
    for kernel in kernels:
        can_run = x.device.type == kernel.device and x.dtype in kernel.dtypes
        if backend == kernel.backend:
            package = kernel.package or kernel.module.partition(".")[0]
            if load_kernel(kernel) is None:
                raise MissingPackage(
                    f"{op}: backend={backend!r} needs the package {package}, which is not installed: "
                    f'pip install "lingen_kit[{kernel.extra}]", or use backend={native!r}'
                )
            if not can_run:
                dtypes = ", ".join(str(dtype).removeprefix("torch.") for dtype in kernel.dtypes)
                raise ValueError(
                    f"{op}: backend={backend!r} runs on {kernel.device.upper()} in {dtypes}, but x is {x.dtype} on "
                    f"{x.device}; use backend={native!r} or 'auto'"
                )
            if unfit.get(backend) is not None:
                raise ValueError(f"{op}: backend={backend!r} {unfit[backend]}; use backend={native!r} or 'auto'")
            chosen = backend
        elif backend == "auto" and chosen == native and can_run and unfit.get(kernel.backend) is None:
            chosen = kernel.backend if load_kernel(kernel) is not None else native
    _log_choice(op, chosen, x.device.type)
    return chosen


def lower_for_autocast(x: Tensor, *others: Tensor | None) -> tuple[Any, ...]:
    """Cast tensors to the dtype of the autocast region that is active on x's device, as torch's own products do.

    Args:
        x: The operator's main input; float64 inputs are left as they are.
        others: Inputs that must share its dtype; None is passed through.

    Returns:
        All of them, in order; unchanged outside autocast.
    """
    device = x.device.type
    # The meta device knows no autocast.
    if x.dtype == torch.float64 or not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
        return x, *others
    dtype = torch.get_autocast_dtype(device)
    return tuple(None if t is None else t.to(dtype) for t in (x, *others))


def no_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A region on x's device in which dtypes stay what the code makes them."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
