"""What a model of a config costs at a size: latency, peak memory, FLOPs, and the share of the machine's own rate.

A point is one model at one video size. It is planned on the meta device, where billions of parameters take no memory,
and measured in a fresh process: the peak of resident memory can be told nowhere else, and a process that runs out of
memory takes no other point with it. The machine's matrix product takes turns with the model, so that both see the same
slow spells.

Letters: B batch, C latent channels, F frames, Y X latent height and width, L text tokens, E text channels.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lingen_kit import __version__
from lingen_kit.analysis.ledger import Ledger, Row
from lingen_kit.analysis.measure import (
    Call,
    ChildFailed,
    gemm_call,
    in_child,
    medians,
    offer_to_the_killer,
    peak_memory,
    ratio,
    take_turns,
)
from lingen_kit.config import SIZES, build_pipeline
from lingen_kit.diffusion import Sampler
from lingen_kit.models import TextEncoder
from lingen_kit.pipeline import TextToVideoPipeline
from lingen_kit.scans import Grid

Mode = Literal["forward", "train", "sample"]
DTypeName = Literal["fp32", "bf16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

OK = "ok"
OUT_OF_MEMORY = "out of memory"
SKIPPED = "skipped: smaller one ran out of memory"

# Whatever changes the numbers is in the key; what the numbers are is in the values.
KEY = (
    "config", "size", "overrides", "config_hash", "video", "latents", "grid", "mode", "steps", "guidance",
    "text_tokens", "batch_size", "dtype", "device", "device_name", "threads", "repeats", "torch", "lingen_kit",
)  # fmt: skip
VALUES = (
    "status", "tokens", "parameters", "weight_bytes", "flops", "seconds", "seconds_min", "seconds_max", "peak_bytes",
    "tokens_per_second", "gemm_flops_per_second", "utilization",
)  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """How all points of a run are measured.

    Args:
        mode: A `forward` pass of the denoiser; `train`: that, the loss and the backward pass; `sample`: the whole
            sampler and the decoder.
        dtype: `bf16` is autocast over weights in fp32, as `fit` and `sample` have it.
        device: `cpu`, `cuda` or `cuda:N`.
        threads: Threads of torch on the CPU.
        batch_size: Videos B at once.
        repeats: Timed calls.
        text_tokens: Text tokens L that the denoiser looks at.
        steps: Solver steps in mode `sample`; those of the config if None.
        guidance: Guidance scale in mode `sample`; that of the config if None.
    """

    mode: Mode = "forward"
    dtype: DTypeName = "fp32"
    device: str = "cpu"
    threads: int = 1
    batch_size: int = 1
    repeats: int = 5
    text_tokens: int = 256
    steps: int | None = None
    guidance: float | None = None

    def provenance(self) -> dict[str, object]:
        """What it is measured with and on, as columns."""
        columns = ("mode", "text_tokens", "batch_size", "dtype", "device", "threads", "repeats")
        versions = {"torch": torch.__version__, "lingen_kit": __version__}
        return {name: getattr(self, name) for name in columns} | {"device_name": device_name(self.device)} | versions


@dataclass(frozen=True)
class Point:
    """One model at one video size, planned.

    Args:
        config: Name of the config.
        size: What sets this model apart from the others of its config; empty if there is one.
        overrides: Words of the command line that changed the config, for the table.
        options: Arguments of the pipeline, video size included.
        latents: Latent frames, height and width.
        grid: Tokens along time, height and width.
        parameters: Parameters of the denoiser.
        flops: FLOPs of one call of the mode, whole batch; matrix products alone.
        steps: Solver steps, in mode `sample`.
        guidance: Guidance scale, in mode `sample`.
    """

    config: str
    size: str
    overrides: str
    options: dict[str, Any]
    latents: Grid
    grid: Grid
    parameters: int
    flops: int
    steps: int | None
    guidance: float | None

    @property
    def tokens(self) -> int:
        """Tokens of one video."""
        return math.prod(self.grid)

    def columns(self) -> dict[str, object]:
        """What is measured."""
        model = {name: value for name, value in self.options.items() if name not in SIZES}
        return {
            "config": self.config,
            "size": self.size,
            "overrides": self.overrides,
            "config_hash": hashlib.sha256(json.dumps(model, sort_keys=True).encode()).hexdigest()[:12],
            "video": times(self.options["frames"], self.options["height"], self.options["width"]),
            "latents": times(*self.latents),
            "grid": times(*self.grid),
            "steps": "" if self.steps is None else self.steps,
            "guidance": "" if self.guidance is None else self.guidance,
            "tokens": self.tokens,
            "parameters": self.parameters,
            "flops": self.flops,
        }


def times(*sizes: int) -> str:
    """`8x4x4`, as the command line takes a grid."""
    return "x".join(map(str, sizes))


def plan(config: str, size: str, options: Mapping[str, Any], video: Grid, setup: Setup, overrides: str = "") -> Point:
    """Say what a point is, without running it.

    FLOPs of training are three times those of the forward pass: the backward pass multiplies by the weights and by
    the inputs. Those of sampling are the denoiser's in every evaluation of the solver; the decoder is left out.

    Raises:
        ValueError: If the config cannot be built, or its patch does not divide the video.
    """
    options = {**options, "frames": video[0], "height": video[1], "width": video[2]}
    pipeline = on_meta(options)
    latents = pipeline.autoencoder.latent_size(video)
    steps = guidance = None
    passes = {"forward": 1, "train": 3, "sample": 0}[setup.mode]
    if setup.mode == "sample":
        steps = pipeline.sampler.steps if setup.steps is None else setup.steps
        guidance = pipeline.sampler.guidance if setup.guidance is None else setup.guidance
        passes = _passes(pipeline, pipeline.sampler.changed(steps=steps, guidance=guidance))
    return Point(
        config=config,
        size=size,
        overrides=overrides,
        options=options,
        latents=latents,
        grid=pipeline.denoiser.grid(latents),
        parameters=sum(p.numel() for p in pipeline.denoiser.parameters()),
        flops=passes * setup.batch_size * pipeline.denoiser.flops(latents, setup.text_tokens),
        steps=steps,
        guidance=guidance,
    )


def on_meta(options: Mapping[str, Any]) -> TextToVideoPipeline:
    """Build a pipeline of any size without memory for its weights."""
    with torch.device("meta"):
        return build_pipeline(options)


def video_of_grid(options: Mapping[str, Any], grid: Grid) -> Grid:
    """The video size whose latents make a grid of tokens, in frames and pixels.

    Raises:
        ValueError: If the autoencoder does not compress by the same whole factor at every size.
    """
    pipeline = on_meta(options)
    base: Grid = (pipeline.frames, pipeline.height, pipeline.width)
    sizes = zip(grid, pipeline.denoiser.patch, base, pipeline.autoencoder.latent_size(base), strict=True)
    t, h, w = (tokens * patch * pixels // latents for tokens, patch, pixels, latents in sizes)
    latents = pipeline.autoencoder.latent_size((t, h, w))
    wanted = tuple(tokens * patch for tokens, patch in zip(grid, pipeline.denoiser.patch, strict=True))
    if latents != wanted:
        raise ValueError(
            f"no video makes a grid of {times(*grid)} tokens: {times(t, h, w)} frames and pixels give "
            f"{times(*latents)} latents, not {times(*wanted)}. Name sizes of the video instead, with --video"
        )
    return t, h, w


def grid_of_tokens(options: Mapping[str, Any], tokens: int) -> Grid:
    """The grid of as many tokens whose frames are those of the config: the video is longer, not larger.

    Raises:
        ValueError: If the tokens of a frame do not divide them.
    """
    pipeline = on_meta(options)
    _, h, w = pipeline.denoiser.grid(pipeline.denoiser.size)
    if tokens % (h * w):
        raise ValueError(
            f"tokens {tokens} is no multiple of the {h * w} tokens ({h}x{w}) of a frame of the config, and videos "
            "grow in time here: choose a multiple, or name grids with --grid TxHxW"
        )
    return tokens // (h * w), h, w


def measure_all(
    points: Sequence[Point],
    setup: Setup,
    ledger: Ledger,
    *,
    measure: Callable[[Point, Setup], dict[str, object]] | None = None,
    on_start: Callable[[int, Point], None] | None = None,
) -> Iterator[tuple[Point, Row, bool]]:
    """Measure the points, except those that the ledger has already; yield each with its row, and whether it was kept.

    Args:
        points: In an order in which those of one config need more and more memory.
        setup: How to measure.
        ledger: Where the rows are kept.
        measure: What measures a point; `measure_point` if None.
        on_start: Told the place of a point and the point before it is measured.
    """
    provenance = setup.provenance()
    exhausted: set[str] = set()
    for i, point in enumerate(points):
        identity = {**provenance, **point.columns()}
        row = ledger.find(identity)
        kept = row is not None
        if row is None:
            outcome: dict[str, object] = {"status": SKIPPED}
            if point.config not in exhausted:
                if on_start:
                    on_start(i, point)
                outcome = (measure or measure_point)(point, setup)
            row = ledger.append({**dict.fromkeys(VALUES, ""), **identity, **outcome})
        if row["status"] != OK:
            exhausted.add(point.config)
        yield point, row, kept


def measure_point(point: Point, setup: Setup) -> dict[str, object]:
    """Measure one point in a fresh process.

    Returns:
        The columns that measuring tells; the status alone where memory ran out.

    Raises:
        ValueError: If the model fails for another reason, or its output is not finite.
    """
    try:
        return in_child(measure_here, point, setup, threads=setup.threads)
    except ChildFailed as error:
        if "killed" in str(error):
            return {"status": OUT_OF_MEMORY}
        where = f"{point.config} {point.size}".strip()
        raise ValueError(f"{where} at {times(*point.grid)} tokens cannot be measured: {error}") from error


def measure_here(point: Point, setup: Setup) -> dict[str, object]:
    """Measure one point in this process, which should be a fresh one."""
    offer_to_the_killer()
    try:
        return _measure(point, setup)
    except (torch.OutOfMemoryError, MemoryError):
        return {"status": OUT_OF_MEMORY}
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # how torch's allocator on the CPU says it
            raise
        return {"status": OUT_OF_MEMORY}


def _measure(point: Point, setup: Setup) -> dict[str, object]:
    device = torch.device(setup.device)
    torch.manual_seed(0)
    with device:
        pipeline = build_pipeline(point.options)
    pipeline.text_encoder = FixedText(pipeline.text_encoder.dim, setup.text_tokens)
    pipeline.to(device)
    denoiser = pipeline.denoiser
    _leave_zero(denoiser)
    weights = sum(p.numel() * p.element_size() for p in denoiser.parameters())

    # One token first: libraries that start up take memory and time of their own.
    make_call(pipeline, point, setup, denoiser.patch, "forward" if setup.mode == "sample" else setup.mode)()
    call = make_call(pipeline, point, setup, point.latents, setup.mode)
    results: list[Tensor] = []
    peak = peak_memory(lambda: results.append(call()), device)
    if not results.pop().isfinite().all():
        raise ValueError("the output is not finite, so the time says nothing")

    product, product_flops = gemm_call(device, DTYPES[setup.dtype])
    seconds = take_turns({"model": call, "product": product}, setup.repeats, warmup=1, device=device)
    median = medians(seconds)
    return {
        "status": OK,
        "weight_bytes": weights,
        "seconds": median["model"],
        "seconds_min": min(seconds["model"]),
        "seconds_max": max(seconds["model"]),
        "peak_bytes": peak,
        "tokens_per_second": setup.batch_size * point.tokens / median["model"],
        "gemm_flops_per_second": product_flops / median["product"],
        "utilization": point.flops / product_flops * ratio(seconds, "product", "model"),
    }


class FixedText(TextEncoder):
    """Random text tokens of one length, whatever the prompt.

    Encoding a prompt happens once a video and does not grow with it, so it has no part in what is measured here.

    Args:
        dim: Channels E.
        length: Tokens L.
    """

    def __init__(self, dim: int, length: int) -> None:
        """Draw the tokens."""
        super().__init__()
        self.dim = dim
        self.register_buffer("tokens", torch.randn(length, dim))

    def forward(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Tokens `(B, L, E)` and a mask `(B, L)` that leaves none out."""
        tokens = self.get_buffer("tokens").expand(len(prompts), -1, -1)
        return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)


def make_call(
    pipeline: TextToVideoPipeline, point: Point, setup: Setup, latents: Grid, mode: Mode
) -> Callable[[], Tensor]:
    """Bind one call of a mode, whose result tells whether all went well."""
    device, batch = torch.device(setup.device), setup.batch_size
    denoiser, objective = pipeline.denoiser, pipeline.objective
    prompts = ["a prompt"] * batch
    text, mask = pipeline.text_encoder(prompts)
    clean, noise = torch.randn(2, batch, denoiser.channels, *latents, device=device)  # (B, C, F, Y, X) each
    t = torch.full((batch,), 0.5, device=device)
    noisy = objective.add_noise(clean, noise, t)

    def forward() -> Tensor:
        with torch.no_grad():
            return denoiser(noisy, t, text, mask)

    def train() -> Tensor:
        loss = objective.loss(denoiser(noisy, t, text, mask).float(), clean, noise, noisy, t).mean()
        loss.backward()
        gradients = torch.stack([p.grad.sum() for p in denoiser.parameters() if p.grad is not None])
        denoiser.zero_grad(set_to_none=True)
        return torch.cat([loss.detach()[None], gradients])

    def sample() -> Tensor:
        return pipeline(prompts, steps=point.steps, guidance=point.guidance)

    call = {"forward": forward, "train": train, "sample": sample}[mode]

    def in_dtype() -> Tensor:
        with torch.autocast(device.type, DTYPES[setup.dtype], enabled=setup.dtype != "fp32"):
            return call()

    return in_dtype


def _leave_zero(module: nn.Module) -> None:
    """Draw what starts at zero: behind a zero head, the whole backward pass would multiply zeros."""
    with torch.no_grad():
        for p in module.parameters():
            if not p.any():
                p.normal_(std=0.02)


def _passes(pipeline: TextToVideoPipeline, sampler: Sampler) -> int:
    """Forward passes of the denoiser over one video while it is sampled; two where guidance acts."""
    passes = 0

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        nonlocal passes
        passes += 2 if sampler.guides(t) else 1
        return x

    sampler(pipeline.objective, velocity, repeat(torch.zeros(())))
    return passes


def check_dtype(device: str, dtype: DTypeName) -> None:
    """Refuse bf16 on a CPU that has no instructions for it: its products would crawl.

    Raises:
        ValueError: If products in `dtype` take over four times as long as in fp32 there.
    """
    if torch.device(device).type != "cpu" or dtype == "fp32":
        return

    def product(kind: torch.dtype) -> Call:
        a = torch.randn(256, 256).to(kind)
        return lambda: torch.mm(a, a)

    seconds = take_turns({name: product(DTYPES[name]) for name in ("fp32", dtype)}, repeats=5)
    slower = ratio(seconds, dtype, "fp32")
    if slower > 4:
        raise ValueError(
            f"dtype {dtype}: this CPU takes {slower:.0f} times as long for a product in {dtype} as for one in fp32; "
            "use --dtype fp32"
        )


def device_name(device: str) -> str:
    """Name of the processor or GPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU")
