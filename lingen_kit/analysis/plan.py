"""What a training costs before it starts: parameters, FLOPs, memory by part, time and GPU-days of a stage.

The task is built on the meta device, so models of any size are planned anywhere. FLOPs follow the denoiser's formulas:
a training step takes three forward passes, as the backward pass multiplies by the weights and by the inputs, and one
more of each block that is computed again. Time is a roofline: what the products take at an assumed utilization (MFU,
PaLM, arXiv 2204.02311, appendix B), or what moving weights, states and activations takes, whichever is longer.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lingen_kit.analysis.devices import DEVICES, Device
from lingen_kit.analysis.memory import (
    PRECISIONS,
    Activations,
    Task,
    caption,
    checkpointing,
    optimizer_bytes,
    with_random_text,
)
from lingen_kit.models import PixelSpace
from lingen_kit.models.frozen import frozen_networks
from lingen_kit.pipeline import TextToVideoPipeline
from lingen_kit.scans import Grid

DAY = 86400
_COUNTED_FRAMES = 64  # the autoencoder's FLOPs are proportional to the frames


@dataclass(frozen=True)
class Training:
    """What a config says of a stage, besides the task.

    Attributes:
        name: Name of the stage.
        batch_size: Videos on a device at once.
        devices: Devices that train together.
        accumulate: Batches of one step of the optimizer.
        steps: Steps of the optimizer; None if the config does not say.
        precision: One of `PRECISIONS`.
        average: Whether an average of the weights is kept.
        cached: Whether the data brings latents and text tokens, so that nothing is encoded.
        paper_h100_days: What the stage took in the paper; None if unknown.
    """

    name: str
    batch_size: int
    devices: int = 1
    accumulate: int = 1
    steps: int | None = None
    precision: str = "32-true"
    average: bool = False
    cached: bool = False
    paper_h100_days: float | None = None


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the peak of a step, by part.

    Attributes:
        weights: Parameters of the task, frozen ones too.
        gradients: Of what is trained.
        optimizer: Its state.
        average: The average of the weights.
        encoders: Pretrained networks that encode captions and videos.
        sharing: Copies of gradients on their way to other devices, or blocks put together from their shards.
        batch: The videos in pixels.
        activations: What forward and backward pass hold besides.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    encoders: int
    sharing: int
    batch: int
    activations: int

    @property
    def total(self) -> int:
        """The sum."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Plan:
    """What a stage costs.

    Attributes:
        training: What the config says.
        parameters: Numbers of parameters, by part; exact.
        trainable: How many of them are trained.
        video: Frames, height and width in pixels.
        grid: Tokens along time, height and width.
        text_tokens: Text tokens that the denoiser looks at.
        forward_flops: FLOPs of one forward pass of the denoiser over one video.
        encoder_flops: FLOPs of encoding one video and its caption.
        step_flops: FLOPs of a step on all devices, without what is computed twice.
        seconds: Of a step.
        memory: On one device, as configured.
        memory_checkpointed: The same with a checkpoint at each block.
        unknown: Networks whose size is not known here, and so not counted.
        gpu_days: Devices times days of the stage; None without its steps.
        paper_mfu: Utilization of H100s at which this would take what it took in the paper.
    """

    training: Training
    parameters: dict[str, int]
    trainable: int
    video: Grid
    grid: Grid
    text_tokens: int
    forward_flops: int
    encoder_flops: int
    step_flops: int
    seconds: float
    memory: Memory
    memory_checkpointed: Memory
    unknown: list[str]
    gpu_days: float | None
    paper_mfu: float | None

    def columns(self) -> dict[str, Any]:
        """All of it as plain data."""
        totals = {"total": self.memory.total}, {"total": self.memory_checkpointed.total}
        columns = asdict(self)
        columns["memory"] |= totals[0]
        columns["memory_checkpointed"] |= totals[1]
        return columns | {"tokens": math.prod(self.grid), "global_batch": global_batch(self.training)}


def global_batch(training: Training) -> int:
    """Videos of one step of the optimizer."""
    return training.batch_size * training.devices * training.accumulate


def plan_stage(
    task: Task,
    training: Training,
    device: Device,
    *,
    mfu: float = 0.4,
    shards: int = 1,
    text_tokens: int = 256,
    activations: Activations | None = None,
) -> Plan:
    """Say what a stage costs.

    Args:
        task: The task, on the meta device.
        training: What else the config says.
        device: What each of the devices can do.
        mfu: Share of the device's rate of products that training reaches.
        shards: Devices that share weights, gradients, optimizer and average (FSDP, ZeRO-3).
        text_tokens: Text tokens of a caption, as far as the text encoder takes them.
        activations: What the stages before were traced with, if they share a model.

    Raises:
        ValueError: If the precision is none of `PRECISIONS`, the shards do not divide the devices, or the optimizer
            cannot be tried.
    """
    if training.precision not in PRECISIONS:
        raise ValueError(f"precision {training.precision!r} cannot be planned; choose out of {', '.join(PRECISIONS)}")
    if training.devices % shards:
        raise ValueError(f"{shards} shards do not divide the {training.devices} devices; choose a divisor")
    pipeline = task.pipeline
    video = (pipeline.frames, pipeline.height, pipeline.width)
    latents, denoiser = pipeline.autoencoder.latent_size(video), pipeline.denoiser
    length = _text_length(pipeline, text_tokens)
    forward = denoiser.flops(latents, length)
    unknown = [] if training.cached else _unknown(pipeline)
    encoding = 0 if training.cached else _encoder_flops(pipeline, video, text_tokens, unknown)

    activations = Activations() if activations is None else activations
    held = _held(task, training, shards)
    works = {}
    for every in {denoiser.checkpoint_every, 1}:
        with checkpointing(denoiser, every):
            works[every] = activations(task, latents, training.batch_size, text_tokens, training.precision)
    memory = replace(held, activations=works[denoiser.checkpoint_every])

    again = _recomputed(pipeline, latents, length)
    useful, videos = 3 * forward + encoding, global_batch(training)
    moved = 3 * training.accumulate * (memory.weights * shards) + 2 * training.accumulate * memory.activations
    moved += 2 * (memory.weights + memory.optimizer + memory.gradients)
    products = (useful + again) * training.batch_size * training.accumulate / (device.flops_per_second * mfu)
    seconds = max(products, moved / device.bytes_per_second)
    paper = None
    if training.paper_h100_days and training.steps:
        rate = training.paper_h100_days * DAY * DEVICES["H100"].flops_per_second
        paper = useful * videos * training.steps / rate
    return Plan(
        training=training,
        parameters=count_parameters(pipeline),
        trainable=sum(p.numel() for p in pipeline.parameters() if p.requires_grad),
        video=video,
        grid=denoiser.grid(latents),
        text_tokens=length,
        forward_flops=forward,
        encoder_flops=encoding,
        step_flops=useful * videos,
        seconds=seconds,
        memory=memory,
        memory_checkpointed=replace(held, activations=works[1]),
        unknown=unknown,
        gpu_days=None if training.steps is None else seconds * training.steps * training.devices / DAY,
        paper_mfu=paper,
    )


def count_parameters(pipeline: TextToVideoPipeline) -> dict[str, int]:
    """Numbers of parameters by part; pretrained networks that are used as they are stand apart."""
    parts = {"denoiser": pipeline.denoiser, "text encoder": pipeline.text_encoder, "autoencoder": pipeline.autoencoder}
    frozen = (network for _, network in frozen_networks(pipeline))
    return {name: _count(part.parameters()) for name, part in parts.items()} | {
        "pretrained": sum(_count(network.parameters()) for network in frozen)
    }


def _held(task: Task, training: Training, shards: int) -> Memory:
    """What is there for the whole training, on one device."""
    pipeline = task.pipeline
    dtype, compute = PRECISIONS[training.precision]
    trained = dtype.itemsize * _count(p for p in pipeline.parameters() if p.requires_grad)
    weights = dtype.itemsize * _count(pipeline.parameters())
    sharing = 0
    if shards > 1:  # the block that is computed and the one that comes next
        sharing = 2 * compute.itemsize * max(_count(block.parameters()) for block in pipeline.denoiser.blocks)
    elif training.devices > 1:  # the buckets of DDP
        sharing = trained
    networks = [] if training.cached else [network for _, network in frozen_networks(pipeline)]
    pixels = pipeline.frames * pipeline.height * pipeline.width
    encodes = not (training.cached or isinstance(pipeline.autoencoder, PixelSpace))
    return Memory(
        weights=weights // shards,
        gradients=trained // shards,
        optimizer=optimizer_bytes(task, dtype) // shards,
        average=weights // shards * training.average,
        encoders=sum(p.nbytes for network in networks for p in network.parameters()),
        sharing=sharing,
        batch=training.batch_size * 3 * pixels * 4 * encodes,
        activations=0,
    )


def _recomputed(pipeline: TextToVideoPipeline, latents: Grid, text_tokens: int) -> int:
    """FLOPs of the blocks that the backward pass computes again, for one video."""
    denoiser, blocks = pipeline.denoiser, list(pipeline.denoiser.blocks)
    again = blocks[:: denoiser.checkpoint_every] if denoiser.checkpoint_every else []
    return sum(block.flops(denoiser.grid(latents), text_tokens) for block in again)  # type: ignore[operator]


def _text_length(pipeline: TextToVideoPipeline, text_tokens: int) -> int:
    """Text tokens of a long caption."""
    encoder = with_random_text(pipeline.text_encoder, text_tokens).to("meta")
    with torch.device("meta"), torch.no_grad():
        return encoder([caption(text_tokens)])[0].shape[1]


def _encoder_flops(pipeline: TextToVideoPipeline, video: Grid, text_tokens: int, unknown: list[str]) -> int:
    """FLOPs of encoding a video and its caption; what cannot be told is added to `unknown`."""
    texts = [network for _, network in frozen_networks(pipeline.text_encoder)] + [pipeline.text_encoder]
    matrices = _count(m.weight for text in texts for m in text.modules() if isinstance(m, nn.Linear))
    flops = 2 * matrices * text_tokens
    if isinstance(pipeline.autoencoder, PixelSpace):
        return flops
    frames, height, width = video
    some = min(frames, _COUNTED_FRAMES)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            pipeline.autoencoder.encode(torch.zeros(1, 3, some, height, width, device="meta"))
    except ValueError:  # a pretrained network, which has no weights on the meta device
        unknown.append("the autoencoder's FLOPs")
        return flops
    return flops + counter.get_total_flops() * frames // some


def _unknown(pipeline: TextToVideoPipeline) -> list[str]:
    """Pretrained networks of which not even the config is here."""
    return [name for name, network in frozen_networks(pipeline) if not any(True for _ in network.parameters())]


def _count(parameters: Iterable[torch.Tensor]) -> int:
    return sum(p.numel() for p in parameters)
