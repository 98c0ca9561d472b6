"""The training task of a text-to-video model: loss, fixed validation, optimizer and learning-rate schedule.

Everything random in a training step is a function of (seed, step, rank), so that a resumed run repeats an
uninterrupted one exactly, without carrying generator states through checkpoints.

Letters: B batch, C latent channels, T frames, H height, W width.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lingen_kit.data.sample import Batch
from lingen_kit.data.sampler import derive_seed
from lingen_kit.diffusion import FlowMatching, Sampler
from lingen_kit.models import Autoencoder, TextEncoder
from lingen_kit.pipeline import DenoiserFactory, TextToVideoPipeline


class TextToVideo(LightningModule):
    """Trains a text-to-video pipeline.

    Args:
        denoiser: Class path of the denoiser and its options; it is told latent and text channels and latent size.
        text_encoder: Encodes prompts; a small trainable word-level one if null.
        autoencoder: Maps videos to latents and back; plain pixels if null.
        objective: What the denoiser predicts and where the loss is taken.
        sampler: How samples are drawn during and after training.
        frames: Frames of a video (taken from the data).
        height: Height of a video in pixels (taken from the data).
        width: Width of a video in pixels (taken from the data).
        fps: Frames per second of a video (taken from the data).
        optimizer: Class path of the optimizer and its options.
        warmup_steps: Steps over which the learning rate rises linearly from 0.
        schedule_steps: Length of the cosine schedule (taken from trainer.max_steps). Constant after warm-up if -1.
        final_lr_ratio: Learning rate at the end of the schedule over its peak.
        caption_dropout: Share of training captions replaced by the empty prompt, for classifier-free guidance.
        seed: Seed of times, noise and caption dropout.
    """

    def __init__(
        self,
        denoiser: DenoiserFactory,
        text_encoder: TextEncoder | None = None,
        autoencoder: Autoencoder | None = None,
        objective: FlowMatching | None = None,
        sampler: Sampler | None = None,
        *,
        frames: int = 8,
        height: int = 32,
        width: int = 32,
        fps: float = 8.0,
        optimizer: Callable[[Iterable[Any]], Optimizer] = AdamW,
        warmup_steps: int = 100,
        schedule_steps: int = -1,
        final_lr_ratio: float = 0.01,
        caption_dropout: float = 0.1,
        seed: int = 0,
    ) -> None:
        """Build the pipeline."""
        super().__init__()
        if not 0 <= caption_dropout < 1:
            raise ValueError(f"caption_dropout {caption_dropout} must be at least 0 and below 1")
        self.pipeline = TextToVideoPipeline(
            denoiser,
            text_encoder,
            autoencoder,
            objective,
            sampler,
            frames=frames,
            height=height,
            width=width,
            fps=fps,
        )
        self.optimizer = optimizer
        self.warmup_steps, self.schedule_steps, self.final_lr_ratio = (
            warmup_steps,
            schedule_steps,
            final_lr_ratio,
        )
        self.caption_dropout = caption_dropout
        self.seed = seed

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean loss of a batch at random times."""
        # One generator on the CPU: the same draws on every device.
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.global_step, batch_idx, self.global_rank))
        latents = self.encode(batch["video"])
        t = self.pipeline.objective.sample_times(len(latents), generator, torch.device("cpu")).to(latents)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        dropped = torch.rand(len(latents), generator=generator) < self.caption_dropout
        captions = ["" if drop else text for text, drop in zip(batch["caption"], dropped.tolist(), strict=True)]
        loss = self.losses(latents, captions, noise, t).mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss at fixed times and noise, the times spread evenly over the distribution.

        Random times would make one validation differ from the next more than the model does.
        """
        latents = self.encode(batch["video"])
        first = batch_idx * len(latents)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, batch_idx, 0, self.global_rank))
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        # The golden ratio spreads any number of consecutive samples evenly over (0, 1).
        quantiles = (0.5 + 0.618033988749895 * torch.arange(first, first + len(latents), dtype=torch.float64)) % 1
        t = self.pipeline.objective.times(quantiles.clamp(1e-4, 1 - 1e-4)).to(latents)
        losses = self.losses(latents, batch["caption"], noise, t)
        self.log("validation/loss", losses.mean(), prog_bar=True, batch_size=len(latents), sync_dist=True)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sample one video for each caption of the batch."""
        return self.pipeline(batch["caption"], seed=derive_seed(self.seed, batch_idx, 1, self.global_rank))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The same measurement as validation."""
        self.validation_step(batch, batch_idx)

    def losses(self, latents: Tensor, captions: list[str], noise: Tensor, t: Tensor) -> Tensor:
        """The loss of each sample `(B,)` for latents and noise `(B, C, T, H, W)` at times `(B,)`."""
        x_t = self.pipeline.objective.add_noise(latents, noise, t)
        text, mask = self.pipeline.text_encoder(captions)
        output = self.pipeline.denoiser(x_t, t, text, mask)
        return self.pipeline.objective.loss(output, latents, noise, x_t, t)

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """Latents of a video; the autoencoder is not trained here."""
        return self.pipeline.autoencoder.encode(video)

    def tokens_per_sample(self, batch: Batch) -> int:
        """Tokens that the denoiser reads for one video of the batch."""
        frames, height, width = batch["video"].shape[2:]
        size = self.pipeline.autoencoder.latent_size((frames, height, width))
        return math.prod(self.pipeline.denoiser.grid(size))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer with weight decay on matrices alone, and warm-up followed by a cosine."""
        layers = [m for m in self.pipeline.denoiser.blocks.modules() if isinstance(m, torch.nn.Linear)]
        hidden = {id(layer.weight) for layer in layers}
        trained = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if id(p) in hidden], "hidden": True},  # a hint for optimizers like Muon
            {"params": [p for p in trained if p.ndim >= 2 and id(p) not in hidden]},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = self.optimizer(groups)
        schedule = LambdaLR(optimizer, self.learning_rate_ratio)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def learning_rate_ratio(self, step: int) -> float:
        """Learning rate at `step` over its peak."""
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if self.schedule_steps <= 0:
            return warmup
        progress = min(1.0, max(0, step - self.warmup_steps) / max(1, self.schedule_steps - self.warmup_steps))
        cosine = (1 + math.cos(math.pi * progress)) / 2
        return warmup * (self.final_lr_ratio + (1 - self.final_lr_ratio) * cosine)
