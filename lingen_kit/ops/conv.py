"""Short depthwise causal convolution over channels-last sequences, as in Mamba and Mamba-2 (width 4).

Argument names and meaning follow `causal_conv1d_fn` of the causal-conv1d package, but x is `(B, L, D)`: channels
stay last, as mixers keep them. `(B, L, D)` is a `(B, D, 1, L)` image in channels-last memory, for which the
library's depthwise kernel is fast; its weight gradient is not, so that is a few products and sums here.

Letters: B batch, L length, D channels, K filter width.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lingen_kit.ops.backend import Kernel, choose_kernel, lower_for_autocast, no_autocast

_OP = "causal_conv1d"
_KERNEL = Kernel("causal_conv1d", "causal_conv1d", "causal_conv1d_fn", "mamba")


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, reverse: bool) -> Tensor:
    """Convolve without activation: `(B, L, D)` to `(B, L, D)`."""
    length, width = x.shape[1], weight.shape[1]
    taps = weight.flip(1) if reverse else weight
    image = x.transpose(1, 2).unsqueeze(2)  # B D 1 L
    y = F.conv2d(image, taps[:, None, None, :], bias, padding=(0, width - 1), groups=x.shape[2])
    start = width - 1 if reverse else 0
    return y.squeeze(2).transpose(1, 2)[:, start : start + length]


class _CausalConv(torch.autograd.Function):
    """Convolution and activation; saves the inputs only and convolves again in backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.silu, ctx.reverse = silu, reverse
        with no_autocast(x):
            y = _convolve(x, weight, bias, reverse)
        if not silu:
            return y.contiguous()
        return F.silu(y, inplace=y.is_contiguous())  # fresh memory costs more than the function

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        with no_autocast(x):
            if ctx.silu:
                dy = torch.ops.aten.silu_backward(dy, _convolve(x, weight, bias, ctx.reverse))
            dx = _convolve(dy, weight, None, not ctx.reverse) if ctx.needs_input_grad[0] else None
            dweight = _weight_gradient(x, dy, weight.shape[1], ctx.reverse) if ctx.needs_input_grad[1] else None
        dbias = None if bias is None else dy.sum((0, 1))
        return dx, dweight, dbias, None, None


def _weight_gradient(x: Tensor, dy: Tensor, width: int, reverse: bool) -> Tensor:
    """Correlate the output's gradient with the shifted input, tap by tap: `(D, K)`."""
    length = x.shape[1]
    gradient = x.new_zeros(width, x.shape[2])
    for shift in range(min(width, length)):
        early, late = slice(0, length - shift), slice(shift, length)
        source, target = (late, early) if reverse else (early, late)
        gradient[width - 1 - shift] = (x[:, source] * dy[:, target]).sum((0, 1))
    return gradient.t()


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Literal["silu"] | None = None,
    *,
    reverse: bool = False,
    backend: Literal["auto", "torch", "causal_conv1d"] = "auto",
) -> Tensor:
    """Convolve each channel with its own causal filter.

    Args:
        x: `(B, L, D)`.
        weight: `(D, K)`; the last tap meets the current position.
        bias: `(D,)` or None.
        activation: `"silu"` or None.
        reverse: Anticausal: position t sees t .. t+K-1 rather than t-K+1 .. t, as if the sequence were flipped
            before and after.
        backend: `torch`, `causal_conv1d` (CUDA), or `auto`: causal_conv1d on CUDA where it is installed, else
            torch.

    Returns:
        `(B, L, D)`.

    Raises:
        ValueError: A shape, dtype, activation or backend does not fit.
        MissingPackage: `backend="causal_conv1d"` and it is not installed.
    """
    x, weight, bias = lower_for_autocast(x, weight, bias)
    _check(x, weight, bias, activation)
    channels, width = weight.shape
    unfit = None
    if channels % 8 or not 2 <= width <= 4:
        unfit = f"needs a multiple of 8 channels and a filter width of 2 to 4, not {channels} and {width}"
    kernel = choose_kernel(_OP, backend, _KERNEL, x, unfit)
    if kernel is None:
        y: Tensor = _CausalConv.apply(x, weight, bias, activation == "silu", reverse)
        return y
    x = x.flip(1) if reverse else x.contiguous()  # a slice of a projection has strides that the kernel refuses
    y = kernel(x.transpose(1, 2), weight, bias, activation=activation).transpose(1, 2)
    return y.flip(1) if reverse else y


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None) -> None:
    """Raise a ValueError that names the argument, what it is and what it should be."""
    if x.dim() != 3 or x.shape[1] == 0:
        raise ValueError(f"{_OP}: x is {tuple(x.shape)}, expected (batch, length, channels) with length >= 1")
    channels = x.shape[2]
    if weight.dim() != 2 or weight.shape[0] != channels or weight.shape[1] == 0:
        raise ValueError(
            f"{_OP}: weight is {tuple(weight.shape)}, expected ({channels}, filter width) for x {tuple(x.shape)}"
        )
    if bias is not None and tuple(bias.shape) != (channels,):
        raise ValueError(f"{_OP}: bias is {tuple(bias.shape)}, expected ({channels},) for x {tuple(x.shape)}")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.dtype != x.dtype:
            raise ValueError(f"{_OP}: {name} is {tensor.dtype}, expected {x.dtype}, the dtype of x")
    if activation not in (None, "silu"):
        raise ValueError(f"{_OP}: activation={activation!r} is none of None, 'silu'")
