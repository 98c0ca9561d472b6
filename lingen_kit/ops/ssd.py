"""State space dual (SSD), the sequence operator of Mamba-2, in either or both directions.

Source: Dao and Gu 2024, "Transformers are SSMs". Argument names, shapes and meaning are those of the function of
the same name in mamba_ssm, so that either can stand in for the other; `direction` is ours. The maths in torch is
in `ssd_chunks.py`, a token-by-token twin in `naive/ssd.py`.

Letters: B batch, L length, H heads, P head dim, G groups, N state size.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lingen_kit.ops.backend import Kernel, choose_kernel, lower_for_autocast
from lingen_kit.ops.checks import require_finite, require_shapes
from lingen_kit.ops.ssd_chunks import chunked_scan
from lingen_kit.ops.ssd_segments import Part, choose_chunk_size

Direction = Literal["forward", "reverse", "both"]

_OP = "mamba_chunk_scan_combined"
SSD_KERNEL = Kernel("mamba_ssm", "mamba_ssm.ops.triton.ssd_combined", _OP, "mamba")
_KERNEL_CHUNK = 256


def mamba_chunk_scan_combined(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int | None = None,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    return_final_states: bool = False,
    *,
    direction: Direction = "forward",
    backend: Literal["auto", "torch", "mamba_ssm"] = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Run `S[t] = exp(dt[t] A) S[t-1] + dt[t] B[t] x[t]^T`, `y[t] = (C[t] S[t] + D x[t]) silu(z[t])`.

    Head h uses the rows of group `h // (H / G)`. Decays and sums are in float32 for 16-bit inputs; under autocast
    x, B, C and z are cast to its dtype. Memory is linear in L; double backward is not supported.

    Args:
        x: `(B, L, H, P)` inputs, L >= 1.
        dt: `(B, L, H)` step sizes, before `dt_bias`, softplus and limits.
        A: `(H,)` log decay per unit of step; negative.
        B: `(B, L, G, N)`, what is written; G divides H.
        C: `(B, L, G, N)`, what is read.
        chunk_size: Positions a chunk, a matter of speed only; None chooses.
        D: `(H,)` or `(H, P)` skip, or None.
        z: `(B, L, H, P)` gate, or None.
        dt_bias: `(H,)`, or None.
        initial_states: `(B, H, P, N)` states before the first position a head visits; None is zero.
        dt_softplus: Pass `dt + dt_bias` through softplus.
        dt_limit: Smallest and largest step size; applied last.
        return_final_states: Also return the states after the last position visited.
        direction: `forward`: from the first position to the last. `reverse`: from the last to the first. `both`:
            the first half of the heads and groups forward, the second half in reverse. The output is in the order
            of the input always.
        backend: `torch`, `mamba_ssm` (CUDA), or `auto`: mamba_ssm on CUDA where it is installed, else torch.

    Returns:
        `(B, L, H, P)` in the dtype of x; with `return_final_states` also the states `(B, H, P, N)`, in float32 at
        least.

    Raises:
        ValueError: A shape, dtype, direction or backend does not fit; on the CPU, an entry of dt is not finite.
        MissingPackage: `backend="mamba_ssm"` and it is not installed.
    """
    x, B, C, z = lower_for_autocast(x, B, C, z)
    batch, length, heads, width = check_sequence(_OP, x, B, C, chunk_size, dt_limit)
    state = B.shape[3]
    parts = _parts(direction, heads, B.shape[2])
    expected: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "dt": (dt, (batch, length, heads)),
        "A": (A, (heads,)),
        "D": (D, (heads,) if D is None or D.dim() == 1 else (heads, width)),
        "z": (z, (batch, length, heads, width)),
        "dt_bias": (dt_bias, (heads,)),
        "initial_states": (initial_states, (batch, heads, width, state)),
    }
    require_shapes(_OP, x, expected, wide=("dt", "A", "D", "dt_bias", "initial_states"))
    unfit = None
    if chunk_size is not None and chunk_size < 16:
        unfit = f"multiplies chunks of at least 16 positions, not chunk_size={chunk_size}"
    kernel = choose_kernel(_OP, backend, SSD_KERNEL, x, unfit)
    if kernel is not None:
        y, final_states = _run_kernel(
            kernel, parts, x, dt, A, B, C, chunk_size, D, z, dt_bias, initial_states, dt_softplus, dt_limit
        )
        return (y, final_states) if return_final_states else y

    compute = torch.promote_types(x.dtype, torch.float32)
    dt, A = step_sizes(_OP, dt, dt_bias, dt_softplus, dt_limit, compute), A.to(compute)
    if D is not None:
        D = (D if D.dim() == 2 else D[:, None].expand(-1, width)).to(compute)
    if initial_states is None:
        initial_states = torch.zeros(batch, heads, width, state, dtype=compute, device=x.device)
    size = choose_chunk_size(length, state) if chunk_size is None else chunk_size
    y, final_states = chunked_scan(x, dt, A, B, C, D, initial_states.to(compute), parts, size)
    y = y.to(x.dtype)
    if z is not None:
        y = y * F.silu(z)
    return (y, final_states) if return_final_states else y


def _parts(direction: Direction, heads: int, groups: int) -> tuple[Part, ...]:
    """Which heads and groups run which way.

    Raises:
        ValueError: If the direction is none, or heads and groups cannot be shared out.
    """
    if direction not in ("forward", "reverse", "both"):
        raise ValueError(f"{_OP}: direction={direction!r} is none of 'forward', 'reverse', 'both'")
    if direction == "both":
        if heads % 2 or groups % 2:
            raise ValueError(
                f"{_OP}: direction='both' splits heads and groups in two, so both must be even; got {heads} heads, "
                f"{groups} groups"
            )
        return (
            Part(slice(0, heads // 2), slice(0, groups // 2), False),
            Part(slice(heads // 2, heads), slice(groups // 2, groups), True),
        )
    return (Part(slice(0, heads), slice(0, groups), direction == "reverse"),)


def _run_kernel(
    kernel: Callable[..., Any],
    parts: tuple[Part, ...],
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int | None,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_states: Tensor | None,
    dt_softplus: bool,
    dt_limit: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """Call mamba_ssm's function part by part; it only knows forward, so reverse parts are flipped."""

    def ordered(t: Tensor, part: Part, rows: slice) -> Tensor:
        t = t[:, :, rows]
        return t.flip(1) if part.reverse else t

    outputs, states = [], []
    for part in parts:
        heads = part.heads
        y, state = kernel(
            ordered(x, part, heads),
            ordered(dt, part, heads),
            A[heads],
            ordered(B, part, part.groups),
            ordered(C, part, part.groups),
            _KERNEL_CHUNK if chunk_size is None else chunk_size,
            D=None if D is None else D[heads],
            z=None if z is None else ordered(z, part, heads),
            dt_bias=None if dt_bias is None else dt_bias[heads],
            initial_states=None if initial_states is None else initial_states[:, heads],
            dt_softplus=dt_softplus,
            dt_limit=dt_limit,
            return_final_states=True,
        )
        outputs.append(y.flip(1) if part.reverse else y)
        states.append(state)
    if len(parts) == 1:
        return outputs[0], states[0]
    return torch.cat(outputs, dim=2), torch.cat(states, dim=1)


def check_sequence(
    op: str, x: Tensor, B: Tensor, C: Tensor, chunk_size: int | None, dt_limit: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Check what every state space operator takes; return batch, length, heads and head dim.

    Raises:
        ValueError: Naming the argument, what it is and what it should be.
    """
    if x.dim() != 4 or B.dim() != 4:
        raise ValueError(
            f"{op}: x must be (batch, length, heads, head dim) and B (batch, length, groups, state size); got "
            f"x {tuple(x.shape)}, B {tuple(B.shape)}"
        )
    batch, length, heads, width = x.shape
    groups, state = B.shape[2:]
    if length == 0:
        raise ValueError(f"{op}: x {tuple(x.shape)} has length 0; at least one position is needed")
    if groups == 0 or heads % groups:
        raise ValueError(f"{op}: {heads} heads do not divide into {groups} groups; make groups divide heads")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"{op}: chunk_size={chunk_size}; give a positive number, or None to let it be chosen")
    if not dt_limit[0] <= dt_limit[1]:
        raise ValueError(f"{op}: dt_limit={dt_limit} is (smallest, largest), but the first exceeds the second")
    require_shapes(op, x, {"B": (B, (batch, length, groups, state)), "C": (C, (batch, length, groups, state))})
    return batch, length, heads, width


def step_sizes(
    op: str,
    dt: Tensor,
    dt_bias: Tensor | None,
    dt_softplus: bool,
    dt_limit: tuple[float, float],
    dtype: torch.dtype,
) -> Tensor:
    """Apply bias, softplus and limits to `dt` `(B, L, H)` in the dtype of the computation.

    Raises:
        ValueError: On the CPU, if an entry of `dt` is NaN or infinite.
    """
    require_finite(op, "dt", dt)
    dt = dt.to(dtype)
    if dt_bias is not None:
        dt = dt + dt_bias
    if dt_softplus:
        dt = F.softplus(dt)
    return dt.clamp(*dt_limit)
