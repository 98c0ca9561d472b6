"""Which implementation of an operator runs: plain torch, or an optional CUDA kernel that is installed.

`auto` picks the kernel on a CUDA tensor when its package imports, else torch, and logs each choice once.
A backend asked for by name that cannot run is an error with the install line, never a silent fall back.
"""

import importlib
import logging
from collections.abc import Callable
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
    """

    backend: str
    module: str
    function: str
    extra: str


@cache
def load_kernel(kernel: Kernel) -> Callable[..., Any] | None:
    """Import a kernel's callable; None where its package is not installed."""
    try:
        module = importlib.import_module(kernel.module)
    except ModuleNotFoundError:
        return None
    function: Callable[..., Any] = getattr(module, kernel.function)
    return function


@cache
def _log_choice(op: str, backend: str, device_type: str) -> None:
    logger.info("%s on %s: backend %s", op, device_type, backend)


def choose_kernel(
    op: str, backend: str, kernel: Kernel, x: Tensor, unfit: str | None = None
) -> Callable[..., Any] | None:
    """Decide between torch and a kernel for one call.

    Args:
        op: Name of the operator, for messages.
        backend: What the caller asked for: `auto`, `torch` or `kernel.backend`.
        kernel: The operator's optional kernel.
        x: The operator's main input; its device and dtype decide what `auto` picks.
        unfit: Why the kernel cannot serve this call although device and dtype would do; None if it can.

    Returns:
        The kernel's callable, or None for the torch path.

    Raises:
        ValueError: `backend` is not one of the choices, or the kernel was asked for and cannot
            serve this call.
        MissingPackage: The kernel was asked for by name and is not installed.
    """
    if backend not in ("auto", "torch", kernel.backend):
        raise ValueError(f"{op}: backend={backend!r} is none of 'auto', 'torch', {kernel.backend!r}")
    can_run = x.device.type == "cuda" and x.dtype != torch.float64
    function = None
    if backend == kernel.backend:
        function = load_kernel(kernel)
        if function is None:
            raise MissingPackage(
                f"{op}: backend={backend!r} needs the package {kernel.module.partition('.')[0]}, which is not "
                f"installed: pip install \"lingen_kit[{kernel.extra}]\", or use backend='torch'"
            )
        if not can_run:
            raise ValueError(
                f"{op}: backend={backend!r} runs on CUDA in 32 bits or fewer, but x is {x.dtype} on {x.device}; "
                "use backend='torch' or 'auto'"
            )
        if unfit is not None:
            raise ValueError(f"{op}: backend={backend!r} {unfit}; use backend='torch' or 'auto'")
    elif backend == "auto" and can_run and unfit is None:
        function = load_kernel(kernel)
    _log_choice(op, "torch" if function is None else kernel.backend, x.device.type)
    return function


def lower_for_autocast(x: Tensor, *others: Tensor | None) -> tuple[Any, ...]:
    """Cast tensors to the dtype of the autocast region that is active on x's device, as torch's own products do.

    Args:
        x: The operator's main input; float64 inputs are left as they are.
        others: Inputs that must share its dtype; None is passed through.

    Returns:
        All of them, in order; unchanged outside autocast.
    """
    device = x.device.type
    if x.dtype == torch.float64 or not torch.is_autocast_enabled(device):
        return x, *others
    dtype = torch.get_autocast_dtype(device)
    return tuple(None if t is None else t.to(dtype) for t in (x, *others))
