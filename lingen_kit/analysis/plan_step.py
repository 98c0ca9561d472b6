"""A real training step beside its plan: peak memory, time, and the FLOPs that PyTorch counts in it."""

import copy
import ctypes
from typing import Any, NamedTuple, cast

import torch
from torch.utils.flop_counter import FlopCounterMode

from lingen_kit.analysis.measure import peak_memory, take_turns
from lingen_kit.analysis.memory import Task, allocate, loss, with_random_text
from lingen_kit.analysis.plan import Training
from lingen_kit.scans import Grid

_MMAP_THRESHOLD = -3  # glibc's M_MMAP_THRESHOLD


class Measured(NamedTuple):
    """What a step on the CPU took.

    Attributes:
        parameters: Parameters that were there.
        peak_bytes: Peak of memory from before the model was built to the end of its second step.
        flops: What PyTorch's counter found in a forward pass over the batch.
        seconds: Of the third step.
    """

    parameters: int
    peak_bytes: int
    flops: int
    seconds: float


def measure_step(task: Task, training: Training, text_tokens: int) -> Measured:
    """Train for three steps in fp32 on random weights; call it in a fresh process, where memory can be told.

    Args:
        task: The task, on the meta device.
        training: What else the config says.
        text_tokens: As for `plan_stage`.
    """
    _give_back_freed_memory()
    pipeline = task.pipeline
    size = pipeline.autoencoder.latent_size((pipeline.frames, pipeline.height, pipeline.width))
    blocks, pipeline.denoiser.blocks = pipeline.denoiser.blocks, pipeline.denoiser.blocks[:1]
    _Trainer(task, training, text_tokens).step(pipeline.denoiser.patch, 1)  # libraries start up
    pipeline.denoiser.blocks = blocks

    trainers: list[_Trainer] = []

    def train() -> None:
        trainers.append(_Trainer(task, training, text_tokens))
        for _ in range(2):  # gradients and states of the first are there in the second
            trainers[0].step(size, training.batch_size)

    peak = peak_memory(train)
    (trainer,) = trainers
    with FlopCounterMode(display=False) as counter:
        loss(trainer.task, size, training.batch_size, text_tokens, None)
    seconds = take_turns({"step": lambda: trainer.step(size, training.batch_size)}, 1, warmup=0)["step"][0]
    return Measured(
        sum(p.numel() for p in trainer.task.pipeline.parameters()), peak, counter.get_total_flops(), seconds
    )


def _give_back_freed_memory() -> None:
    """Have glibc return every tensor to the system: the holes that it would keep between them are not the step's."""
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:
        tune(_MMAP_THRESHOLD, 1 << 16)


class _Trainer:
    """The loop of a trainer over one batch, with the parts that hold memory."""

    def __init__(self, task: Task, training: Training, text_tokens: int) -> None:
        self.task = cast(Any, copy.deepcopy(task))  # a LightningModule, whose import this module does without
        self.text_tokens = text_tokens
        self.task.pipeline.text_encoder = with_random_text(self.task.pipeline.text_encoder, text_tokens)
        allocate(self.task, torch.float32)
        with torch.no_grad():
            for parameter in self.task.parameters():
                parameter.normal_(std=0.02)
            for buffer in self.task.buffers():
                buffer.zero_()
        self.average = copy.deepcopy(self.task) if training.average else None
        self.optimizer = self.task.configure_optimizers()["optimizer"]

    def step(self, size: Grid, batch: int) -> None:
        value = loss(self.task, size, batch, self.text_tokens, None)
        self.optimizer.zero_grad()  # in the trainer's order: after the forward pass
        value.backward()
        self.optimizer.step()
