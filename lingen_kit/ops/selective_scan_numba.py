"""The selective scan compiled for the CPU by numba: an engine of `ops/selective_scan.py`.

One task is a block of channels of one sequence. Its states stay in the nearest cache while it walks the positions one
after the other, and every inner loop runs over the channels of the block, so that the compiler vectorizes it.

- Forward keeps the states at the start of every chunk of 32 positions. Backward takes the chunks from the last to the
  first: for each entry of the state it recomputes the chunk's states and decays, then walks back with the adjoint
  `p[t] = C[t] dy[t] + exp(delta[t+1] A) p[t+1]`, from which all gradients follow.
- The exponential is range reduction and a polynomial: a call of the C library's would not vectorize.
- Tasks run on Python threads, as many as torch uses; kernels release the interpreter's lock. numba's own parallel
  loops are not used: of the thread pools that its wheels bring, one aborts the process when two threads enter it at
  the same time, and the other in a forked child.

Letters: B batch, L length, D channels, G groups, N state size, K chunks, W channels of a block, Q positions a chunk.
"""

import logging
import math
import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from numba import njit
from numba.extending import overload
from torch import Tensor

from lingen_kit.ops.threads import run_tasks

logger = logging.getLogger(__name__)

_WIDTH = 32  # channels of a block: two vectors of 512 bits in float32
_CHUNK = 32  # positions between kept states: with _WIDTH, a chunk's temporaries fit the nearest cache
_LOG2_E = 1 / math.log(2)
# Products may fuse with sums and sums may change their order; NaN and infinity keep their meaning.
_FAST = {"contract", "reassoc", "nsz"}


def _exp2(x: Any) -> Any:
    """2 to the power of x; only its overload below, chosen by dtype, ever runs."""
    raise NotImplementedError


@overload(_exp2, jit_options={"fastmath": _FAST})
def _overload_exp2(x: Any) -> Callable[[Any], Any]:
    """Float32: split x = n + f with f in [-1/2, 1/2], 2^f by a polynomial, 2^n by its bits; float64: the C library.

    The polynomial interpolates at the Chebyshev nodes; its relative error is that of float32, 1.1e-7.
    """

    def wide(x: Any) -> Any:
        return math.exp(x * 0.6931471805599453)

    def single(x: Any) -> Any:
        x = np.float32(-127) if x < np.float32(-127) else x  # 2^-127 and below are zero
        x = np.float32(128) if x > np.float32(128) else x  # 2^128 and above are infinite
        n = np.rint(x)
        f = x - n
        power = np.float32(1.5461444725e-4)
        power = power * f + np.float32(1.3400428178e-3)
        power = power * f + np.float32(9.6180566784e-3)
        power = power * f + np.float32(5.5503272267e-2)
        power = power * f + np.float32(2.4022650922e-1)
        power = power * f + np.float32(6.9314720670e-1)
        power = power * f + np.float32(1)
        exponent = np.int32((np.int32(n) + np.int32(127)) << np.int32(23))
        return power * exponent.view(np.float32)

    return single if x == numba.types.float32 else wide


def _forward_block(
    u: Any,  # B L D
    delta: Any,  # B L D
    A: Any,  # D N, times log2(e)
    B: Any,  # B L G N
    C: Any,  # B L G N
    D: Any,  # D
    state: Any,  # B D N
    y: Any,  # B L D, written
    last: Any,  # B D N, written
    edges: Any,  # B K N D, written where K > 0
    reverse: bool,
    batch: int,
    group: int,
    start: int,
    stop: int,
) -> None:
    """Run channels `start:stop` of one sequence."""
    length, sizes, width = u.shape[1], A.shape[1], stop - start
    step = np.empty(width, u.dtype)
    value = np.empty(width, u.dtype)
    out = np.empty(width, u.dtype)
    decay = np.empty((sizes, width), u.dtype)
    states = np.empty((sizes, width), u.dtype)
    for i in range(width):
        for n in range(sizes):
            decay[n, i] = A[start + i, n]
            states[n, i] = state[batch, start + i, n]
    for position in range(length):
        t = length - 1 - position if reverse else position
        if edges.shape[1] > 0 and position % _CHUNK == 0:
            edges[batch, position // _CHUNK, :, start:stop] = states
        for i in range(width):
            x = u[batch, t, start + i]
            step[i] = delta[batch, t, start + i]
            value[i] = step[i] * x
            out[i] = D[start + i] * x
        for n in range(sizes):
            written, read = B[batch, t, group, n], C[batch, t, group, n]
            for i in range(width):
                s = _exp2(step[i] * decay[n, i]) * states[n, i] + value[i] * written
                states[n, i] = s
                out[i] += s * read
        for i in range(width):
            y[batch, t, start + i] = out[i]
    for i in range(width):
        for n in range(sizes):
            last[batch, start + i, n] = states[n, i]


def _backward_block(
    u: Any,  # B L D
    delta: Any,  # B L D
    A: Any,  # D N, times log2(e)
    B: Any,  # B L G N
    C: Any,  # B L G N
    D: Any,  # D
    edges: Any,  # B K N D
    dy: Any,  # B L D
    dlast: Any,  # B D N
    du: Any,  # B L D, written
    ddelta: Any,  # B L D, written
    dA: Any,  # B D N, written
    dB: Any,  # block-of-its-group B L G N, written
    dC: Any,  # block-of-its-group B L G N, written
    dD: Any,  # B D, written
    dstate: Any,  # B D N, written
    reverse: bool,
    batch: int,
    group: int,
    start: int,
    stop: int,
) -> None:
    """Write the gradients of channels `start:stop` of one sequence."""
    length, sizes, width = u.shape[1], A.shape[1], stop - start
    block = (start - group * (u.shape[2] // B.shape[2])) // _WIDTH
    ln_2 = u.dtype.type(0.6931471805599453)
    step = np.empty((_CHUNK, width), u.dtype)
    x = np.empty((_CHUNK, width), u.dtype)
    dout = np.empty((_CHUNK, width), u.dtype)
    dvalue = np.empty((_CHUNK, width), u.dtype)  # of delta u
    dlog = np.empty((_CHUNK, width), u.dtype)  # of the log decay, times A, summed over the state
    kept = np.empty((_CHUNK, width), u.dtype)  # decays of one entry of the state
    states = np.empty((_CHUNK + 1, width), u.dtype)  # of one entry, before each position
    decay = np.empty((sizes, width), u.dtype)
    adjoint = np.empty((sizes, width), u.dtype)
    ddecay = np.zeros((sizes, width), u.dtype)
    dskip = np.zeros(width, u.dtype)
    for i in range(width):
        for n in range(sizes):
            decay[n, i] = A[start + i, n]
            adjoint[n, i] = dlast[batch, start + i, n]
    for chunk in range((length - 1) // _CHUNK, -1, -1):
        first = chunk * _CHUNK
        count = min(_CHUNK, length - first)
        for q in range(count):
            t = length - 1 - first - q if reverse else first + q
            for i in range(width):
                step[q, i] = delta[batch, t, start + i]
                x[q, i] = u[batch, t, start + i]
                dout[q, i] = dy[batch, t, start + i]
                dskip[i] += x[q, i] * dout[q, i]
        dvalue[:] = 0
        dlog[:] = 0
        for n in range(sizes):
            states[0] = edges[batch, chunk, n, start:stop]
            for q in range(count):
                t = length - 1 - first - q if reverse else first + q
                written = B[batch, t, group, n]
                for i in range(width):
                    kept[q, i] = _exp2(step[q, i] * decay[n, i])
                    states[q + 1, i] = kept[q, i] * states[q, i] + step[q, i] * x[q, i] * written
            for q in range(count - 1, -1, -1):
                t = length - 1 - first - q if reverse else first + q
                written, read = B[batch, t, group, n], C[batch, t, group, n]
                dwritten, dread = dskip[0] * 0, dskip[0] * 0
                for i in range(width):
                    p = adjoint[n, i] + read * dout[q, i]
                    dread += states[q + 1, i] * dout[q, i]
                    dwritten += p * step[q, i] * x[q, i]
                    dvalue[q, i] += p * written
                    p *= kept[q, i]
                    adjoint[n, i] = p
                    p *= states[q, i]
                    dlog[q, i] += p * decay[n, i]
                    ddecay[n, i] += p * step[q, i]
                dB[block, batch, t, group, n] = dwritten
                dC[block, batch, t, group, n] = dread
        for q in range(count):
            t = length - 1 - first - q if reverse else first + q
            for i in range(width):
                du[batch, t, start + i] = dvalue[q, i] * step[q, i] + D[start + i] * dout[q, i]
                ddelta[batch, t, start + i] = dvalue[q, i] * x[q, i] + dlog[q, i] * ln_2
    for i in range(width):
        dD[batch, start + i] = dskip[i]
        for n in range(sizes):
            dA[batch, start + i, n] = ddecay[n, i]
            dstate[batch, start + i, n] = adjoint[n, i]


_FORWARD_DIMENSIONS = (3, 3, 2, 4, 4, 1, 3, 3, 3, 4)
_BACKWARD_DIMENSIONS = (3, 3, 2, 4, 4, 1, 4, 3, 3, 3, 3, 3, 5, 5, 2, 3)
_compiling = threading.Lock()
if hasattr(os, "register_at_fork"):  # a child forked while another thread compiles would wait for ever
    os.register_at_fork(after_in_child=lambda: globals().update(_compiling=threading.Lock()))


@cache
def _compiled(function: Callable[..., None], dimensions: tuple[int, ...], dtype: torch.dtype) -> Any:
    """Compile for arrays of one dtype and any strides: one signature serves every layout."""
    real = numba.types.float32 if dtype == torch.float32 else numba.types.float64
    arrays = [numba.types.Array(real, dimension, "A") for dimension in dimensions]
    signature = numba.void(*arrays, numba.boolean, *[numba.int64] * 4)
    name = f"{function.__name__.strip('_')} of selective_scan_fn for {dtype}"
    logger.info("preparing %s: some seconds of compiling, once on a machine", name)
    options: dict[str, Any] = {"nogil": True, "fastmath": _FAST, "error_model": "numpy"}
    try:
        return njit(signature, cache=True, **options)(function)
    except RuntimeError as error:
        if "cannot cache function" not in str(error):
            raise
        logger.info("%s is compiled for this process only: set NUMBA_CACHE_DIR to a folder that can be written", name)
        return njit(signature, **options)(function)


def forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor,
    *,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the recurrence.

    Args:
        u: `(B, L, D)`, of any strides, as all others.
        delta: `(B, L, D)`, step sizes as used.
        A: `(D, N)`.
        B: `(B, L, G, N)`.
        C: `(B, L, G, N)`.
        D: `(D,)`.
        state: `(B, D, N)` before the first position visited.
        reverse: Visit the positions from the last to the first.
        save: Whether `backward` will follow.

    Returns:
        `y` `(B, L, D)`, the last state `(B, D, N)`, and the states at the start of every chunk `(B, K, N, D)`, K = 0
        unless saved.
    """
    y, last = u.new_empty(u.shape), u.new_empty(state.shape)
    chunks = -(-u.shape[1] // _CHUNK) if save else 0
    edges = u.new_empty(len(u), chunks, A.shape[1], u.shape[2])
    arrays = (u, delta, A * _LOG2_E, B, C, D, state, y, last, edges)
    _run(_forward_block, _FORWARD_DIMENSIONS, arrays, reverse, B.shape[2])
    return y, last, edges


def backward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    edges: Tensor,
    dy: Tensor,
    dlast: Tensor,
    *,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """The gradients of `forward`'s first seven arguments from those of its output and last state."""
    du, ddelta = u.new_empty(u.shape), u.new_empty(u.shape)
    dA, dD = u.new_empty(dlast.shape), u.new_empty(len(u), u.shape[2])
    blocks = -(-(u.shape[2] // B.shape[2]) // _WIDTH)
    dB, dC = u.new_empty(blocks, *B.shape), u.new_empty(blocks, *B.shape)
    dstate = torch.empty_like(dA)
    arrays = (u, delta, A * _LOG2_E, B, C, D, edges, dy, dlast, du, ddelta, dA, dB, dC, dD, dstate)
    _run(_backward_block, _BACKWARD_DIMENSIONS, arrays, reverse, B.shape[2])
    return du, ddelta, dA.sum(0), dB.sum(0), dC.sum(0), dD.sum(0), dstate


def _run(
    function: Callable[..., None], dimensions: tuple[int, ...], tensors: tuple[Tensor, ...], reverse: bool, groups: int
) -> None:
    """Run a kernel on every block of channels of every sequence."""
    batch, _, channels = tensors[0].shape
    with _compiling:
        kernel = _compiled(function, dimensions, tensors[0].dtype)
    arrays = [t.detach().numpy() for t in tensors]
    tasks: list[tuple[int, int, int, int]] = []  # batch, group, channels from, to
    for group in range(groups):
        end = (group + 1) * (channels // groups)
        for start in range(end - channels // groups, end, _WIDTH):
            tasks.extend((b, group, start, min(start + _WIDTH, end)) for b in range(batch))
    run_tasks(lambda task: kernel(*arrays, reverse, *task), tasks)
