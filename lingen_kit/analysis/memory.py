"""The memory of a training step, told without running it: a step on fake tensors, every storage counted.

PyTorch's fake tensors have sizes, dtypes and lifetimes, and no data. A step on them goes through the kit's own
operators, autograd and autocast, so what is saved for the backward pass, what is recomputed and what is short-lived is
that of the real step. Steps that are large are extrapolated: away from weights, memory is a straight line in the depth
and in the tokens, for all mixers of the kit.

Letters: B batch, C latent channels, F frames, Y X latent height and width.
"""

import copy
import math
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lingen_kit.analysis.bench import FixedText
from lingen_kit.diffusion import Objective
from lingen_kit.mixers import Mamba
from lingen_kit.models import Denoiser, TextEncoder
from lingen_kit.ops import rope, windows
from lingen_kit.pipeline import TextToVideoPipeline
from lingen_kit.scans import Grid, index

PRECISIONS: dict[str, tuple[torch.dtype, torch.dtype]] = {
    "64-true": (torch.float64, torch.float64),
    "32-true": (torch.float32, torch.float32),
    "bf16-mixed": (torch.float32, torch.bfloat16),
    "16-mixed": (torch.float32, torch.float16),
    "bf16-true": (torch.bfloat16, torch.bfloat16),
    "16-true": (torch.float16, torch.float16),
}
"""The trainer's precisions: dtype of the weights, dtype of the products."""

TRACED_TOKENS = 2048
"""Tokens of the largest step that is traced in a narrow model; beyond, three smaller ones are extrapolated."""

TRACED_WIDTHS = 8
"""The same for a wide one, in tokens per channel: with fewer tokens the peak may be one of weights alone."""


class Task(Protocol):
    """What a training task must offer to be planned; `lingen_kit.tasks.TextToVideo` does."""

    pipeline: TextToVideoPipeline
    optimizer: Callable[[Any], Optimizer]

    def losses(self, latents: Tensor, text: Tensor, mask: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The loss of each sample."""
        ...

    def configure_optimizers(self) -> Any:
        """A mapping with the `optimizer` over the groups of parameters that are trained."""
        ...


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operators make, while they live.

    Attributes:
        live: Bytes now.
        peak: Bytes at the highest.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        """Start at zero; the storages of the tensors in `known` are not counted."""
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}
        for tensor in known:
            self.disown(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count what it made."""
        if func is torch.ops.aten._local_scalar_dense.default:
            return True  # a check of values, of which there are none
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage(), None)
        return out

    def disown(self, tensor: Tensor) -> None:
        """Count a storage no longer: it is accounted for elsewhere."""
        storage = tensor.untyped_storage()
        self._see(storage, 0)
        self.live -= self._sizes[storage._cdata]
        self._sizes[storage._cdata] = 0

    def _see(self, storage: torch.UntypedStorage, size: int | None) -> None:
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes() if size is None else size
        self.live += self._sizes[key]
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key).atexit = False

    def _forget(self, key: int) -> None:
        self.live -= self._sizes.pop(key)


class Peaks(NamedTuple):
    """The most bytes that each half of a training step holds beyond weights, gradients and optimizer.

    The peak of a step may be in either half, and only each by itself is a straight line in depth and size.
    """

    forward: float
    backward: float

    def line(self, other: "Peaks", share: float) -> "Peaks":
        """The point that lies `share` of the way from here to `other`, or beyond it."""
        return Peaks(*(a + (b - a) * share for a, b in zip(self, other, strict=True)))


def trace_step(task: Task, size: Grid, batch: int, text_tokens: int, precision: str) -> Peaks:
    """Run a training step on fake tensors.

    Args:
        task: The task, built on the meta device; it is left as it is.
        size: Latent frames, height and width.
        batch: Videos B.
        text_tokens: Text tokens of a caption.
        precision: One of `PRECISIONS`.
    """
    weights, compute = PRECISIONS[precision]
    twin: Any = copy.deepcopy(task)
    for part in twin.modules():
        if isinstance(part, Mamba) and part.backend in ("auto", "numba"):
            part.backend = "torch"  # numba knows no fake tensors
    twin.pipeline.text_encoder = with_random_text(twin.pipeline.text_encoder, text_tokens)
    _make_tables(twin.pipeline.objective)
    with _without_traces(), FakeTensorMode(allow_non_fake_inputs=True):
        allocate(twin, weights)
        with LiveBytes((*twin.parameters(), *twin.buffers())) as bytes_:
            for parameter in twin.parameters():
                if parameter.requires_grad:
                    parameter.register_post_accumulate_grad_hook(lambda p: bytes_.disown(p.grad))
            value = loss(twin, size, batch, text_tokens, compute if compute != weights else None)
            forward, bytes_.peak = bytes_.peak, bytes_.live
            value.backward()
    return Peaks(forward, bytes_.peak)


def _make_tables(objective: Objective) -> None:
    """Have an objective make what it keeps, such as DDPM's schedule, whose numbers fake tensors could not tell."""
    x, t = torch.zeros(1, 1, 1, 1, 1), torch.full((1,), 0.5)
    noisy = objective.add_noise(x, x, t)
    objective.network_input(noisy, t)
    objective.loss(x, x, x, noisy, t)


@contextmanager
def _without_traces() -> Iterator[None]:
    """Leave nothing of this region behind: positions and orders that the kit keeps would be taken for real ones."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")  # a matter of speed
            yield
    finally:
        for kept in (rope._table, windows.cut_windows, index._make):
            kept.cache_clear()


def allocate(module: nn.Module, dtype: torch.dtype) -> None:
    """Replace parameters and buffers by uninitialized ones on the CPU, those of floating point in `dtype`."""
    made: dict[Tensor, Tensor] = {}

    def new(old: Tensor) -> Tensor:
        if old not in made:
            kind = dtype if old.is_floating_point() else old.dtype
            tensor = torch.empty(old.shape, dtype=kind, device="cpu")
            made[old] = nn.Parameter(tensor, old.requires_grad) if isinstance(old, nn.Parameter) else tensor
        return made[old]

    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            tensors.update({name: new(old) for name, old in tensors.items() if old is not None})  # type: ignore[misc]


def with_random_text(encoder: TextEncoder, text_tokens: int) -> TextEncoder:
    """A copy of a text encoder with random tokens in the place of what is not trained: its weights may be elsewhere."""
    if not any(p.requires_grad for p in encoder.parameters()):
        return FixedText(encoder.dim, min(text_tokens, getattr(encoder, "max_tokens", text_tokens)))
    encoder = copy.deepcopy(encoder)
    for name, part in list(encoder.named_modules()):
        if name and isinstance(part, TextEncoder):
            encoder.set_submodule(name, with_random_text(part, text_tokens))
    return encoder


def caption(text_tokens: int) -> str:
    """A caption that a word-level encoder makes as many tokens of, with that of the start."""
    return " ".join(["word"] * (text_tokens - 1))


def loss(task: Task, size: Grid, batch: int, text_tokens: int, autocast: torch.dtype | None) -> Tensor:
    """The loss of a training step on random data, where the weights are."""
    pipeline = task.pipeline
    shape, device = (batch, pipeline.denoiser.channels, *size), pipeline.device
    latents, noise = torch.randn(shape, device=device), torch.randn(shape, device=device)  # (B, C, F, Y, X)
    t = torch.full((batch,), 0.5, device=device)
    with torch.autocast(device.type, autocast, enabled=autocast is not None):
        text, mask = pipeline.text_encoder([caption(text_tokens)] * batch)
        return task.losses(latents, text, mask, noise, t).mean()


class _Steps(NamedTuple):
    """Three small steps: of two videos of `near` tokens, of three of them, of two of `far` tokens."""

    near: int
    far: int
    two: Peaks
    three: Peaks
    longer: Peaks

    def at(self, batch: int, tokens: int) -> Peaks:
        """A batch of videos of so many tokens."""
        nothing = self.two.line(self.three, -2)
        video = nothing.line(self.two, 1 / 2)
        if tokens != self.near:
            share = (tokens - self.near) / (self.far - self.near)
            video = video.line(nothing.line(self.longer, 1 / 2), share)
        return nothing.line(video, batch)


class Activations:
    """`trace_step` for steps of any size; large ones are extrapolated, and models that recur are traced once."""

    def __init__(self) -> None:
        """Nothing is traced yet."""
        self._traced: dict[tuple[object, ...], _Steps] = {}

    def __call__(self, task: Task, size: Grid, batch: int, text_tokens: int, precision: str) -> int:
        """Bytes that a step holds beyond weights, gradients and optimizer; arguments as for `trace_step`."""
        denoiser = task.pipeline.denoiser
        tokens = math.prod(denoiser.grid(size))
        limit = max(TRACED_TOKENS, TRACED_WIDTHS * denoiser.dim)
        if batch * tokens <= limit:
            return round(max(_at_depth(task, size, batch, text_tokens, precision)))
        small, large = (_shrink(denoiser, size, limit // share) for share in (4, 2))
        encoder = str(task.pipeline.text_encoder)
        model = (str(denoiser.blocks), denoiser.checkpoint_every, encoder, text_tokens, precision)
        key = (*model, size if small == large else None)
        if key not in self._traced:
            near, far = (math.prod(denoiser.grid(some)) for some in (small, large))
            two, three = (_at_depth(task, small, videos, text_tokens, precision) for videos in (2, 3))
            longer = _at_depth(task, large, 2, text_tokens, precision) if far > near else two
            self._traced[key] = _Steps(near, far, two, three, longer)
        return round(max(self._traced[key].at(batch, tokens)))


def _at_depth(task: Task, size: Grid, batch: int, text_tokens: int, precision: str) -> Peaks:
    """`trace_step`, in depth extrapolated."""
    denoiser = task.pipeline.denoiser
    counts, depth, peaks = _depths(denoiser), len(denoiser.blocks), []
    for count in counts:
        with _first_blocks(denoiser, count):
            peaks.append(trace_step(task, size, batch, text_tokens, precision))
    if len(counts) == 1:
        return peaks[0]
    return peaks[0].line(peaks[1], (depth - counts[0]) / (counts[1] - counts[0]))


@contextmanager
def checkpointing(denoiser: Denoiser, every: int) -> Iterator[None]:
    """Have the denoiser keep of every n-th block its input alone, in this region."""
    before, denoiser.checkpoint_every = denoiser.checkpoint_every, every
    try:
        yield
    finally:
        denoiser.checkpoint_every = before


def optimizer_bytes(task: Task, dtype: torch.dtype) -> int:
    """Bytes of the optimizer's state: what it keeps for stand-ins of 4096 elements, times the parameters' sizes.

    Raises:
        ValueError: If the optimizer fails on them.
    """
    groups = task.configure_optimizers()["optimizer"].param_groups
    stand_ins: list[dict[str, Any]] = []
    with torch.device("cpu"), torch.enable_grad():
        for group in groups:
            kinds = sorted({p.ndim for p in group["params"]})
            params = [nn.Parameter(torch.ones(_STAND_INS.get(n, (4096, *[1] * (n - 1))), dtype=dtype)) for n in kinds]
            hints = {name: group[name] for name in ("hidden", "weight_decay") if name in group}
            stand_ins.append({**hints, "params": params})
        try:
            optimizer = task.optimizer([dict(group) for group in stand_ins])
            for group in stand_ins:
                for parameter in group["params"]:
                    parameter.grad = torch.ones_like(parameter)
            optimizer.step()
        except Exception as error:
            raise ValueError(f"the optimizer cannot step on the CPU, so its memory is unknown: {error}") from error
    total = 0.0
    for group, stand_in in zip(groups, stand_ins, strict=True):
        each = {p.ndim: _held(optimizer.state[p]) / p.numel() for p in stand_in["params"]}
        total += sum(p.numel() * each[p.ndim] for p in group["params"])
    return round(total)


_STAND_INS = {1: (4096,), 2: (64, 64), 3: (16, 16, 16)}


def _held(state: Mapping[str, Any]) -> int:
    return sum(t.nbytes for t in state.values() if isinstance(t, Tensor) and t.numel() > 1)


@contextmanager
def _first_blocks(denoiser: Denoiser, count: int) -> Iterator[None]:
    """Only so many blocks, in this region."""
    blocks = denoiser.blocks
    denoiser.blocks = blocks[:count]
    try:
        yield
    finally:
        denoiser.blocks = blocks


def _depths(denoiser: Denoiser) -> list[int]:
    """Depths to trace: the whole if it is small, else two that are whole patterns of mixers apart."""
    kinds = [(type(block.mixer), sum(p.numel() for p in block.parameters())) for block in denoiser.blocks]
    depth = len(kinds)
    period = next(p for p in range(1, depth + 1) if kinds[p:] == kinds[: depth - p])
    period = math.lcm(period, max(1, denoiser.checkpoint_every))
    first = depth % period + period
    return [depth] if first + period >= depth else [first, first + period]


def _shrink(denoiser: Denoiser, size: Grid, tokens: int) -> Grid:
    """A smaller video, of at most so many tokens: the longest axis is halved, again and again."""
    grid = list(denoiser.grid(size))
    while math.prod(grid) > tokens:
        longest = grid.index(max(grid))
        grid[longest] = -(-grid[longest] // 2)
    t, h, w = (length * patch for length, patch in zip(grid, denoiser.patch, strict=True))
    return t, h, w
