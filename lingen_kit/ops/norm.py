"""RMSNorm with an optional gate, as Mamba2 ends in it, in one pass over fresh memory.

Source: Zhang and Sennrich 2019 (arXiv 1910.07467). Arguments are those of mamba_ssm's function of the same name, less
the bias that no RMSNorm has. On a CPU, torch composes the norm from five operators, each of which writes a tensor as
large as its input; and fresh memory is what costs there. Here one is written, and backward recomputes from the inputs.
Elsewhere torch's own fused kernel runs.

Letters: D channels, G groups of D/G channels, each normalized by itself.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def rmsnorm_fn(
    x: Tensor,
    weight: Tensor,
    z: Tensor | None = None,
    eps: float = 1e-6,
    group_size: int | None = None,
    norm_before_gate: bool = True,
) -> Tensor:
    """Compute `norm(x) silu(z)`, or `norm(x silu(z))`.

    Args:
        x: `(..., D)`.
        weight: `(D,)`; cast to the dtype of x.
        z: Gate `(..., D)`, or None.
        eps: Added to the mean square.
        group_size: Channels normalized together; D if None.
        norm_before_gate: Whether the norm comes first.

    Returns:
        `(..., D)` in the dtype of x.

    Raises:
        ValueError: A shape does not fit, or `group_size` does not divide D.
    """
    width = x.shape[-1]
    size = width if group_size is None else group_size
    if size < 1 or width % size:
        raise ValueError(f"rmsnorm_fn: group_size {size} does not divide the {width} channels of x")
    if tuple(weight.shape) != (width,):
        raise ValueError(f"rmsnorm_fn: weight is {tuple(weight.shape)}, expected ({width},) for x {tuple(x.shape)}")
    if z is not None and z.shape != x.shape:
        raise ValueError(f"rmsnorm_fn: z is {tuple(z.shape)}, expected {tuple(x.shape)}, the shape of x")
    weight = weight.to(x.dtype)
    if x.device.type == "cpu":
        y: Tensor = _GatedNorm.apply(x, weight, z, eps, size, norm_before_gate)
        return y
    if z is not None and not norm_before_gate:
        x = x * F.silu(z)
    y = F.rms_norm(x.unflatten(-1, (-1, size)), (size,), eps=eps).flatten(-2) * weight
    return y * F.silu(z) if z is not None and norm_before_gate else y


def _inverse_rms(x: Tensor, size: int, eps: float) -> Tensor:
    """One over the root mean square of each group, `(..., D)` -> `(..., G, 1)`, in fp32 at least."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x.unflatten(-1, (-1, size)), dim=-1, keepdim=True, dtype=dtype)
    return norm.square_().div_(size).add_(eps).rsqrt_()


class _GatedNorm(torch.autograd.Function):
    """Saves its inputs and the inverse root mean squares."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, z: Tensor | None, eps: float, size: int, norm_before_gate: bool
    ) -> Tensor:
        gate_first = z is not None and not norm_before_gate
        y = F.silu(z).mul_(x) if gate_first and z is not None else x
        inverse = _inverse_rms(y, size, eps)
        if y is x:
            y = torch.empty_like(x, memory_format=torch.contiguous_format)
            torch.mul(x.unflatten(-1, (-1, size)), inverse.to(x.dtype), out=y.unflatten(-1, (-1, size)))
        else:
            y.unflatten(-1, (-1, size)).mul_(inverse.to(x.dtype))
        y.mul_(weight)
        if z is not None and not gate_first:
            y.mul_(F.silu(z))
        ctx.save_for_backward(x, weight, z, inverse)
        ctx.size, ctx.gate_first = size, gate_first
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, z, inverse = ctx.saved_tensors
        inverse, size, dz = inverse.to(x.dtype), ctx.size, None
        gate = None if z is None else F.silu(z)
        unit = x * gate if ctx.gate_first else torch.clone(x, memory_format=torch.contiguous_format)
        unit.unflatten(-1, (-1, size)).mul_(inverse)
        if gate is not None and not ctx.gate_first:
            dz = torch.ops.aten.silu_backward((dy * unit).mul_(weight), z)
            dy = dy * gate
        product = dy * unit
        dweight = product.flatten(0, -2).sum(0)
        # The norm is blind to the length of what it normalizes: the gradient has no component along it.
        along = product.mul_(weight).unflatten(-1, (-1, size)).mean(-1, keepdim=True)
        dx = torch.mul(dy, weight, out=product)
        groups = dx.unflatten(-1, (-1, size))
        groups.addcmul_(unit.unflatten(-1, (-1, size)), along, value=-1).mul_(inverse)
        if gate is not None and ctx.gate_first:
            dz = torch.ops.aten.silu_backward(torch.mul(dx, x, out=unit), z)
            dx.mul_(gate)
        return dx, dweight, dz, None, None, None
