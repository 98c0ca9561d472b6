"""The selective scan, the sequence operator of Mamba, from either end.

Source: Gu and Dao 2023, "Mamba" (arXiv 2312.00752). Argument names, shapes and meaning are those of the function of
the same name in mamba_ssm, so that either can stand in for the other; `initial_states` and `direction` are ours.
Every channel d keeps a state of N numbers, each with its own decay:

    S[t] = exp(delta[t] A) S[t-1] + delta[t] B[t] u[t],    y[t] = C[t] S[t] + D u[t]

The work is done by an engine, a module with `forward` and `backward` as plain functions on channels-last tensors:
`selective_scan_chunks.py` in torch, `selective_scan_numba.py` compiled for the CPU. Both keep the states at the edges
of chunks for backward and recompute the others. A token-by-token twin is in `naive/selective_scan.py`.

Letters: B batch, D channels, L length, G groups, N state size.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lingen_kit.ops import selective_scan_chunks
from lingen_kit.ops.backend import Kernel, choose_backend, load_kernel, lower_for_autocast, no_autocast
from lingen_kit.ops.checks import require_finite, require_shapes

_OP = "selective_scan_fn"
_MAMBA_SSM = Kernel("mamba_ssm", "mamba_ssm.ops.selective_scan_interface", _OP, "mamba")
_NUMBA = Kernel(
    "numba",
    "lingen_kit.ops.selective_scan_numba",
    "forward",
    "numba",
    package="numba",
    device="cpu",
    dtypes=(torch.float16, torch.bfloat16, torch.float32, torch.float64),
)
_LARGEST_STATE = 256  # of the CUDA kernel


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    *,
    initial_states: Tensor | None = None,
    direction: Literal["forward", "reverse"] = "forward",
    backend: Literal["auto", "torch", "numba", "mamba_ssm"] = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Run the recurrence above; the result is gated by `silu(z)`.

    Channel d uses the rows of group `d // (D / G)`. Everything but the gate is computed in float32 for 16-bit inputs;
    under autocast u, B, C and z are cast to its dtype. Channels-last tensors are served as they are if handed over as
    transposed views, and y is such a view. Memory is linear in L; double backward is not supported.

    Args:
        u: `(B, D, L)` inputs, L >= 1.
        delta: `(B, D, L)` step sizes, before `delta_bias` and softplus.
        A: `(D, N)` log decay per unit of step; negative.
        B: `(B, N, L)` or `(B, G, N, L)`, what is written; G divides D.
        C: `(B, N, L)` or `(B, G, N, L)`, what is read.
        D: `(D,)` skip, or None.
        z: `(B, D, L)` gate, or None.
        delta_bias: `(D,)`, or None.
        delta_softplus: Pass `delta + delta_bias` through softplus.
        return_last_state: Also return the state after the last position visited.
        initial_states: `(B, D, N)` states before the first position visited; None is zero.
        direction: `forward`: from the first position to the last. `reverse`: from the last to the first. The output
            is in the order of the input always.
        backend: `torch`, `numba` (CPU), `mamba_ssm` (CUDA), or `auto`: numba on the CPU and mamba_ssm on CUDA where
            they are installed, else torch.

    Returns:
        `(B, D, L)` in the dtype of u; with `return_last_state` also the state `(B, D, N)`, in float32 at least.

    Raises:
        ValueError: A shape, dtype, direction or backend does not fit; on the CPU, an entry of delta is not finite (on
            CUDA that check would make the host wait for the device).
        MissingPackage: The backend asked for by name is not installed.
    """
    u, B, C, z = lower_for_autocast(u, B, C, z)
    _check(u, delta, A, B, C, D, z, delta_bias, initial_states, direction)
    require_finite(_OP, "delta", delta)
    learns = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (u, delta, A, B, C, delta_bias))
    unfit = {"mamba_ssm": _why_unfit(A, initial_states, return_last_state and learns)}
    chosen = choose_backend(_OP, backend, (_MAMBA_SSM, _NUMBA), u, unfit)
    reverse = direction == "reverse"
    if chosen == "mamba_ssm":
        y, state = _run_mamba_ssm(u, delta, A, B, C, D, z, delta_bias, delta_softplus, reverse)
        return (y, state) if return_last_state else y

    engine: Any = selective_scan_chunks
    if chosen == "numba":
        from lingen_kit.ops import selective_scan_numba as engine
    compute = torch.promote_types(u.dtype, torch.float32)
    delta = delta.to(compute)
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if delta_softplus:
        delta = F.softplus(delta)
    skip = A.new_zeros(u.shape[1]) if D is None else D
    if initial_states is None:
        initial_states = A.new_zeros(*u.shape[:2], A.shape[1])
    B, C = (t if t.dim() == 4 else t.unsqueeze(1) for t in (B, C))  # B G N L
    inputs = [u.mT, delta.mT, A, B.permute(0, 3, 1, 2), C.permute(0, 3, 1, 2), skip, initial_states]
    inputs = [t.to(compute) for t in inputs]
    save = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    y, state = _SelectiveScan.apply(*inputs, engine, reverse, save)
    y = y.mT.to(u.dtype)  # B D L
    if z is not None:
        y = y * F.silu(z)
    return (y, state) if return_last_state else y


class _SelectiveScan(torch.autograd.Function):
    """One engine's forward and backward; saves the inputs and the states at the edges of the chunks."""

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        state: Tensor,
        engine: Any,
        reverse: bool,
        save: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.engine, ctx.reverse = engine, reverse
        with no_autocast(u):
            y, last, edges = engine.forward(u, delta, A, B, C, D, state, reverse=reverse, save=save)
        if save:
            ctx.save_for_backward(u, delta, A, B, C, D, edges)
        return y, last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor, dlast: Tensor) -> tuple[Tensor | None, ...]:
        with no_autocast(dy):
            gradients = ctx.engine.backward(*ctx.saved_tensors, dy, dlast, reverse=ctx.reverse)
        return *gradients, None, None, None


def _run_mamba_ssm(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Call mamba_ssm's function; it only knows forward, float32 parameters and a delta in the dtype of u."""
    kernel = load_kernel(_MAMBA_SSM)
    assert kernel is not None  # `choose_backend` loaded it
    sequences = [None if t is None else t.flip(-1) if reverse else t for t in (u, delta.to(u.dtype), B, C, z)]
    u, delta, B, C, z = sequences  # type: ignore[assignment]
    D, delta_bias = (None if t is None else t.float() for t in (D, delta_bias))
    y, state = kernel(u, delta, A.float(), B, C, D, z, delta_bias, delta_softplus, True)
    return y.flip(-1) if reverse else y, state


def _why_unfit(A: Tensor, initial_states: Tensor | None, learns_from_state: bool) -> str | None:
    """Why the CUDA kernel cannot serve the call."""
    if initial_states is not None:
        return "starts from zero and takes no initial_states"
    if learns_from_state:
        return "has no gradient of the last state"
    if A.shape[1] > _LARGEST_STATE:
        return f"takes a state size of at most {_LARGEST_STATE}, not {A.shape[1]}"
    return None


def _check(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_states: Tensor | None,
    direction: str,
) -> None:
    """Raise a ValueError that names the argument, what it is and what it should be."""
    if direction not in ("forward", "reverse"):
        raise ValueError(f"{_OP}: direction={direction!r} is none of 'forward', 'reverse'")
    if u.dim() != 3 or A.dim() != 2:
        raise ValueError(
            f"{_OP}: u must be (batch, channels, length) and A (channels, state size); got u {tuple(u.shape)}, "
            f"A {tuple(A.shape)}"
        )
    batch, channels, length = u.shape
    state = A.shape[1]
    if length == 0:
        raise ValueError(f"{_OP}: u {tuple(u.shape)} has length 0; at least one position is needed")
    grouped = {}
    for name, t in (("B", B), ("C", C)):
        groups = (t.shape[1],) if t.dim() == 4 else ()
        if groups and (groups[0] == 0 or channels % groups[0]):
            raise ValueError(
                f"{_OP}: {name} {tuple(t.shape)} has {groups[0]} groups, which do not divide the {channels} channels "
                "of u; make groups divide channels"
            )
        grouped[name] = (t, (batch, *groups, state, length))
    groups_of_b, groups_of_c = (1 if t.dim() == 3 else t.shape[1] for t in (B, C))
    expected: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "delta": (delta, (batch, channels, length)),
        "A": (A, (channels, state)),
        **grouped,
        "D": (D, (channels,)),
        "z": (z, (batch, channels, length)),
        "delta_bias": (delta_bias, (channels,)),
        "initial_states": (initial_states, (batch, channels, state)),
    }
    require_shapes(_OP, u, expected, wide=("delta", "A", "D", "delta_bias", "initial_states"))
    if groups_of_b != groups_of_c:
        raise ValueError(f"{_OP}: B has {groups_of_b} groups and C has {groups_of_c}; give both the same number")
