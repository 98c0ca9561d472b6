"""Sampling from a model in the middle of its training, leaving the training as it was.

Sampling draws no number from the random states that training uses, gives every module its train or eval mode
back, and runs in the trainer's precision. It runs on all ranks, since a sharded model can only run on all of
them; what is written is written by rank zero.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.seed import isolate_rng
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

from callbacks.ema import EMA
from lingen_kit.video import gif_bytes

__all__ = ["averaged_weights", "clip_fps", "eval_mode", "sample_videos", "show_video"]


def sample_videos(
    trainer: Trainer,
    pl_module: LightningModule,
    prompts: Sequence[str],
    *,
    frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    batch_size: int = 16,
) -> Tensor:
    """Sample one video a prompt through `pl_module.pipeline`.

    Args:
        trainer: The trainer, for its precision.
        pl_module: The module being trained, with the weights it has now.
        prompts: What to sample.
        frames: Frames of a video; None leaves this and the next four to the module.
        height: Pixels from top to bottom.
        width: Pixels from left to right.
        steps: Sampling steps.
        guidance: Guidance scale.
        seed: Of the first batch; the batch that starts at prompt i takes `seed + i`.
        batch_size: Videos sampled at once.

    Returns:
        `(N, C, T, H, W)` float32 on the CPU, in [-1, 1].

    Raises:
        ValueError: No prompts.
    """
    if not prompts:
        raise ValueError("there are no prompts to sample")
    parts = []
    cuda = pl_module.device.type == "cuda"
    with (
        isolate_rng(include_cuda=cuda),
        eval_mode(pl_module),
        # Not inference mode: a table that a module caches now may be needed by a backward pass later.
        torch.no_grad(),
        trainer.precision_plugin.forward_context(),
    ):
        for start in range(0, len(prompts), batch_size):
            videos = cast(Any, pl_module).pipeline(
                list(prompts[start : start + batch_size]),
                frames=frames,
                height=height,
                width=width,
                steps=steps,
                guidance=guidance,
                seed=seed + start,
            )
            parts.append(videos.float().cpu())
    return torch.cat(parts)


@contextmanager
def eval_mode(module: torch.nn.Module) -> Iterator[None]:
    """Put a module and all inside it into eval mode, and each back into its own mode afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def clip_fps(trainer: Trainer, fps: float | None) -> float:
    """Return the rate at which sampled videos play: the given one or the data module's.

    Raises:
        ValueError: Neither is there.
    """
    found = fps if fps is not None else getattr(getattr(trainer, "datamodule", None), "fps", None)
    if found is None:
        raise ValueError("the data module has no fps; give the callback fps, such as fps: 8")
    return float(found)


def show_video(logger: TensorBoardLogger, tag: str, video: Tensor, fps: float, step: int) -> None:
    """Show a video `(C, T, H, W)` on TensorBoard as a GIF; `SummaryWriter.add_video` also does, but needs moviepy."""
    image = Summary.Image(
        height=video.shape[2],
        width=video.shape[3],
        colorspace=3,
        encoded_image_string=gif_bytes(video, min(fps, 100.0), min_side=256),
    )
    logger.experiment.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


@contextmanager
def averaged_weights(trainer: Trainer, pl_module: LightningModule) -> Iterator[None]:
    """Put averaged weights in place outside validation, and the trained ones back afterwards.

    Validation has them in place already; the end of training may not, depending on the averaging callback
    and on the order of the callbacks. Where the model holds the average by then, exchanging the two changes
    nothing.
    """
    averaging = [callback for callback in _callbacks(trainer) if isinstance(callback, EMA)]
    for callback in averaging:
        callback.swap(pl_module)
    try:
        yield
    finally:
        for callback in averaging:
            callback.swap(pl_module)


def _callbacks(trainer: Trainer) -> list[Callback]:
    return cast(Any, trainer).callbacks
