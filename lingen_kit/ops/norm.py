"""RMSNorm with an optional gate, as Mamba2 ends in it, in one pass over fresh memory.

Source: Zhang and Sennrich 2019 (arXiv 1910.07467). Arguments are those of mamba_ssm's function of the same name, less
the bias that no RMSNorm has. Torch composes the gated norm, and on a CPU the plain one too, from operators that each
write a tensor as large as the input; and fresh memory is what costs there. Here one is written, and backward
recomputes from the inputs. All maths is in fp32 for 16-bit inputs: the product with the gate may overflow in fp16.

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
        weight: `(D,)`, of any dtype.
        z: Gate `(..., D)` in the dtype of x, or None.
        eps: Added to the mean square.
        group_size: Channels normalized together; D if None.
        norm_before_gate: Whether the norm comes first.

    Returns:
        `(..., D)` in the dtype of x.

    Raises:
        ValueError: A shape or dtype does not fit, or `group_size` does not divide D.
    """
    width = x.shape[-1]
    size = width if group_size is None else group_size
    if size < 1 or width % size:
        raise ValueError(f"rmsnorm_fn: group_size {size} does not divide the {width} channels of x")
    if tuple(weight.shape) != (width,):
        raise ValueError(f"rmsnorm_fn: weight is {tuple(weight.shape)}, expected ({width},) for x {tuple(x.shape)}")
    if z is not None and (z.shape != x.shape or z.dtype != x.dtype):
        raise ValueError(f"rmsnorm_fn: z is {z.dtype} {tuple(z.shape)}, expected {x.dtype} {tuple(x.shape)} as x is")
    if z is None and x.device.type != "cpu":  # torch has one kernel for it
        y = F.rms_norm(x.unflatten(-1, (-1, size)), (size,), eps=eps).flatten(-2)
        return y * weight.to(x.dtype)
    y = _GatedNorm.apply(x, weight, z, eps, size, norm_before_gate)
    return y


def _inverse_rms(x: Tensor, size: int, eps: float) -> Tensor:
    """One over the root mean square of each group, `(..., D)` -> `(..., G, 1)`."""
    norm = torch.linalg.vector_norm(x.unflatten(-1, (-1, size)), dim=-1, keepdim=True)
    return norm.square_().div_(size).add_(eps).rsqrt_()


class _GatedNorm(torch.autograd.Function):
    """Saves its inputs, as they came, and the inverse root mean squares."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, z: Tensor | None, eps: float, size: int, norm_before_gate: bool
    ) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        gate_first = z is not None and not norm_before_gate
        u = F.silu(z.to(wide)).mul_(x) if gate_first and z is not None else x.to(wide)  # what is normalized
        inverse = _inverse_rms(u, size, eps)
        y = torch.empty_like(u, memory_format=torch.contiguous_format) if u is x else u
        torch.mul(u.unflatten(-1, (-1, size)), inverse, out=y.unflatten(-1, (-1, size)))
        y.mul_(weight)
        if z is not None and not gate_first:
            y.mul_(F.silu(z.to(wide)))
        ctx.save_for_backward(x, weight, z, inverse)
        ctx.size, ctx.gate_first = size, gate_first
        return y.to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, z, inverse = ctx.saved_tensors
        size, wide, dz = ctx.size, inverse.dtype, None
        dy = dy.to(wide)
        gate = None if z is None else F.silu(z.to(wide))
        unit = x * gate if ctx.gate_first else x.to(wide, copy=True, memory_format=torch.contiguous_format)
        unit.unflatten(-1, (-1, size)).mul_(inverse)
        if gate is not None and not ctx.gate_first:
            dz = torch.ops.aten.silu_backward((dy * unit).mul_(weight), z.to(wide))
            dy = dy * gate
        product = dy * unit
        dweight = product.reshape(-1, product.shape[-1]).sum(0)
        # The norm is blind to the length of what it normalizes: the gradient has no component along it.
        along = product.mul_(weight).unflatten(-1, (-1, size)).mean(-1, keepdim=True)
        dx = torch.mul(dy, weight, out=product)
        groups = dx.unflatten(-1, (-1, size))
        groups.addcmul_(unit.unflatten(-1, (-1, size)), along, value=-1).mul_(inverse)
        if gate is not None and ctx.gate_first:
            dz = torch.ops.aten.silu_backward(torch.mul(dx, x, out=unit), z.to(wide))
            dx.mul_(gate)
        return dx.to(x.dtype), dweight.to(weight.dtype), None if dz is None else dz.to(x.dtype), None, None, None
