"""The training task of a text-to-video model: loss, fixed validation, optimizer and learning-rate schedule.

Everything random about a training sample is a function of (seed, step, place in the global batch). So a resumed run
repeats an uninterrupted one exactly, without carrying generator states through checkpoints, and several ranks draw
what one rank with their batch would.

Letters: B batch, C latent channels, T frames, H height, W width.
"""

import math
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from lingen_kit.data.sample import Batch
from lingen_kit.data.seeds import derive_seed
from lingen_kit.diffusion import Objective, Sampler, seeded_noise
from lingen_kit.errors import require_at_least
from lingen_kit.models import Autoencoder, TextEncoder
from lingen_kit.models.fingerprint import fingerprint
from lingen_kit.parallel import context_group, context_parallel, split_time
from lingen_kit.pipeline import DenoiserFactory, TextToVideoPipeline
from lingen_kit.tasks.fsdp2 import FSDP2, shard
from lingen_kit.tasks.schedule import warmup_cosine


class TextToVideo(LightningModule):
    """Trains a text-to-video pipeline.

    Args:
        denoiser: Class path of the denoiser and its options; it is told latent and text channels and latent size.
        text_encoder: Encodes prompts; a small trainable word-level one if null.
        autoencoder: Maps videos to latents and back; plain pixels if null.
        objective: Path from noise to data, what the denoiser predicts along it and its loss; flow matching if null.
        sampler: How samples are drawn during and after training.
        frames: Frames of a video (taken from the data).
        height: Height of a video in pixels (taken from the data).
        width: Width of a video in pixels (taken from the data).
        fps: Frames per second of a video (taken from the data).
        optimizer: Class path of the optimizer and its options.
        trainable: Which parts are trained, as patterns of parameter names such as `denoiser.blocks.*.mixer.*` or
            `denoiser.position.*`; the others stay as they are. All that can be if null.
        warmup_steps: Steps over which the learning rate rises linearly from 0.
        schedule_steps: Length of the cosine schedule (taken from trainer.max_steps). Constant after warm-up if -1.
        final_lr_ratio: Learning rate at the end of the schedule over its peak.
        context_parallel: Ranks that share each video, split along time, where one does not fit a GPU; it divides the
            number of ranks, and a batch is that of such a group.
        caption_dropout: Share of training captions replaced by the empty prompt, for classifier-free guidance.
        compile: Compile each block of the denoiser with `torch.compile`.
        seed: Seed of times, noise and caption dropout.
    """

    def __init__(
        self,
        denoiser: DenoiserFactory,
        text_encoder: TextEncoder | None = None,
        autoencoder: Autoencoder | None = None,
        objective: Objective | None = None,
        sampler: Sampler | None = None,
        *,
        frames: int = 8,
        height: int = 32,
        width: int = 32,
        fps: float = 8.0,
        optimizer: Callable[[Iterable[Any]], Optimizer] = AdamW,
        trainable: list[str] | None = None,
        warmup_steps: int = 100,
        schedule_steps: int = -1,
        final_lr_ratio: float = 0.01,
        caption_dropout: float = 0.1,
        context_parallel: int = 1,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        """Build the pipeline."""
        super().__init__()
        if not 0 <= caption_dropout < 1:
            raise ValueError(f"caption_dropout {caption_dropout} must be at least 0 and below 1")
        require_at_least("TextToVideo", 0, warmup_steps=warmup_steps, final_lr_ratio=final_lr_ratio)
        require_at_least("TextToVideo", 1, frames=frames, height=height, width=width)
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
        self.pipeline.autoencoder.requires_grad_(False)  # it has a task of its own
        if trainable is not None:
            train_only(self.pipeline, trainable)
        # Exact for any number of ranks, where Lightning's mean rounds the mean number of samples down. NaN stays NaN.
        self.validation_loss = MeanMetric(nan_strategy=float("nan"))
        self.optimizer = optimizer
        self.warmup_steps, self.schedule_steps, self.final_lr_ratio = (
            warmup_steps,
            schedule_steps,
            final_lr_ratio,
        )
        self.caption_dropout = caption_dropout
        require_at_least("TextToVideo", 1, context_parallel=context_parallel)
        self.context_parallel = context_parallel
        self.seed = seed
        self._compile_blocks, self._configured = compile, False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean loss of a batch at random times."""
        latents = self.encode(batch)
        # This rank's samples among those of the global batch: how many ranks share it makes no difference.
        rank, world = self.global_rank // self.context_parallel, self.trainer.world_size // self.context_parallel
        indices = range(rank * len(latents), (rank + 1) * len(latents))
        total = len(latents) * world
        step = derive_seed("step", self.seed, self.global_step, batch_idx)
        noise = seeded_noise([derive_seed(step, index) for index in indices], latents.shape[1:]).to(latents.device)
        generator = torch.Generator().manual_seed(step)
        # One time in each of `total` equal slices of the distribution: an estimate of low variance. The slices are
        # shuffled, or each rank would see its own range of times only.
        slices = torch.randperm(total, generator=generator)[list(indices)]
        uniform = torch.rand(total, 2, generator=generator, dtype=torch.float32)[list(indices)]
        quantiles = (slices + uniform[:, 0]) / total
        dropped = uniform[:, 1] < self.caption_dropout
        text, mask = self.encode_text(batch, dropped.tolist())
        loss = self.losses(latents, text, mask, noise, self._times(quantiles, latents)).mean()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(latents), sync_dist=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Start counting the validation samples of this rank."""
        self._validated = 0

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss at fixed times and noise, the times spread evenly over the distribution.

        Random times would make one validation differ from the next more than the model does.
        """
        latents = self.encode(batch)
        places = batch.get("places") or self._count(len(latents))
        indices = [0 if place is None else place for place in places]
        seeds = [derive_seed("validation", self.seed, index) for index in indices]
        noise = seeded_noise(seeds, latents.shape[1:]).to(latents.device)
        # Multiples of the golden ratio spread any number of samples evenly over (0, 1).
        quantiles = (0.5 + 0.618033988749895 * torch.tensor(indices, dtype=torch.float64)) % 1
        text, mask = self.encode_text(batch, [False] * len(latents))
        losses = self.losses(latents, text, mask, noise, self._times(quantiles, latents)).float()
        self.validation_loss.update(losses, weight=losses.new_tensor([place is not None for place in places]))
        self.log("validation/loss", self.validation_loss, on_step=False, on_epoch=True, prog_bar=True)

    def _count(self, count: int) -> range:
        """Places of the next samples, with a loader of other kind that does not tell: ranks take turns through them."""
        rank, world = self.global_rank // self.context_parallel, self.trainer.world_size // self.context_parallel
        first = self._validated
        self._validated += count
        return range(first * world + rank, self._validated * world, world)

    def on_test_epoch_start(self) -> None:
        """As for validation."""
        self.on_validation_epoch_start()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The same measurement as validation."""
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sample one video for each caption of the batch, `(B, 3, T, H, W)` in [-1, 1]."""
        seeds = [derive_seed("predict", self.seed, caption) for caption in batch["caption"]]
        return self.pipeline(batch["caption"], seed=seeds)

    def losses(self, latents: Tensor, text: Tensor, mask: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The loss of each sample `(B,)` for latents and noise `(B, C, T, H, W)` at times `(B,)`.

        With context parallelism it is that of this rank's frames: its mean over the ranks is the loss of the video.
        """
        objective, denoiser = self.pipeline.objective, self.pipeline.denoiser
        x_t = objective.add_noise(latents, noise, t)
        video, times = objective.network_input(x_t, t)
        if self.context_parallel == 1:
            return objective.loss(denoiser(video, times, text, mask), latents, noise, x_t, t)
        frames = denoiser.grid((latents.shape[2], latents.shape[3], latents.shape[4]))[0]
        with context_parallel(frames, self._context_group) as context:
            video, latents, noise, x_t = (split_time(x, context) for x in (video, latents, noise, x_t))
            return context.share * objective.loss(denoiser(video, times, text, mask), latents, noise, x_t, t)

    @torch.no_grad()
    def encode(self, batch: Batch) -> Tensor:
        """Latents of a batch: those that it brings, or what the autoencoder, which is not trained here, makes of it."""
        return batch["latents"].float() if "latents" in batch else self.pipeline.autoencoder.encode(batch["video"])

    def encode_text(self, batch: Batch, dropped: list[bool]) -> tuple[Tensor, Tensor]:
        """Text tokens `(B, L, E)` and their mask `(B, L)` for the captions of a batch, the empty one where dropped."""
        if "text" not in batch:
            captions = ["" if drop else text for text, drop in zip(batch["caption"], dropped, strict=True)]
            return self.pipeline.text_encoder(captions)
        *texts, empty = batch["text"]
        chosen = [empty if drop else text for text, drop in zip(texts, dropped, strict=True)]
        mask = pad_sequence([text.new_ones(len(text), dtype=torch.bool) for text in chosen], batch_first=True)
        return pad_sequence(chosen, batch_first=True).float(), mask

    def setup(self, stage: str) -> None:
        """Refuse latents and texts that other encoders have made than those of this model (Lightning's hook).

        This early, as a true half precision changes the weights later.
        """
        if self.context_parallel > 1:
            self._context_group = context_group(self.context_parallel)
        made_by: dict[str, str] = getattr(self.trainer.datamodule, "encoders", {})  # type: ignore[attr-defined]
        for part, then in made_by.items():
            now = fingerprint(getattr(self.pipeline, part))
            if now != then:
                raise ValueError(
                    f"the cached data was made by the {part} {then}, and the model's is {now}: run data precompute"
                    " again with this config, into another folder"
                )

    def _times(self, quantiles: Tensor, latents: Tensor) -> Tensor:
        return self.pipeline.objective.times(quantiles.clamp(1e-5, 1 - 1e-5)).float().to(latents.device)

    def tokens_per_sample(self, batch: Batch) -> int:
        """Tokens that the denoiser reads for one video of the batch."""
        if "latents" in batch:
            frames, height, width = batch["latents"].shape[2:]
            return math.prod(self.pipeline.denoiser.grid((frames, height, width)))
        frames, height, width = batch["video"].shape[2:]
        size = self.pipeline.autoencoder.latent_size((frames, height, width))
        return math.prod(self.pipeline.denoiser.grid(size))

    def configure_model(self) -> None:
        """Compile and shard the denoiser as told (Lightning's hook, before each fit, validation, test and prediction).

        A text encoder that is trained is sharded too.
        """
        strategy = self.trainer.strategy
        if isinstance(strategy, ModelParallelStrategy) and not isinstance(strategy, FSDP2):
            raise ValueError(
                "trainer.strategy ModelParallelStrategy numbers the optimizer's state by another order than the "
                "optimizer, so that its checkpoints cannot be resumed elsewhere; use trainer.strategy fsdp2"
            )
        if self._configured:
            return
        self._configured = True
        denoiser, text_encoder = self.pipeline.denoiser, self.pipeline.text_encoder
        if self._compile_blocks:
            compile_each(denoiser.blocks)
        if isinstance(strategy, FSDP2):
            mesh = strategy.device_mesh["data_parallel"]
            shard(denoiser, denoiser.blocks, mesh)
            if any(parameter.requires_grad for parameter in text_encoder.parameters()):
                shard(text_encoder, [], mesh)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, with no weight decay on vectors, and warm-up followed by a cosine."""
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

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip, also for fused optimizers in bf16-mixed (Lightning's hook).

        Lightning refuses those, as they unscale gradients after clipping. In bf16 nothing is scaled.
        """
        plugin = self.trainer.precision_plugin
        if isinstance(plugin, MixedPrecision) and plugin.scaler is None:
            algorithm = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
            Precision.clip_gradients(plugin, optimizer, gradient_clip_val or 0.0, algorithm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def learning_rate_ratio(self, step: int) -> float:
        """Learning rate at `step` over its peak."""
        return warmup_cosine(step, self.warmup_steps, self.schedule_steps, self.final_lr_ratio)


def compile_each(modules: Iterable[torch.nn.Module]) -> None:
    """Compile the forward pass of modules in place: names of parameters stay, and hooks run outside of it."""
    modules = list(modules)
    # Blocks share their code, and those of another scan order or window shift are compiled anew: more kinds of them
    # than the limit, 8 by default, would run uncompiled.
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, 2 * len(modules))
    for module in modules:
        module.forward = torch.compile(module.forward)


def train_only(module: torch.nn.Module, patterns: list[str]) -> None:
    """Freeze all parameters of a module but those whose names match a pattern.

    Args:
        module: The module; what is frozen in it already stays so.
        patterns: Such as `denoiser.blocks.*.mixer.*`; `*` stands for any text, dots too.

    Raises:
        ValueError: If a pattern matches nothing that could be trained.
    """
    candidates = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in candidates):
            names = list(candidates)
            examples = ", ".join(names[:: max(1, len(names) // 4)][:5])
            raise ValueError(f"trainable {pattern!r} matches no parameter that can be trained, such as {examples}")
    if not patterns:
        raise ValueError("trainable is an empty list; name what is trained, or null for all")
    for name, parameter in candidates.items():
        parameter.requires_grad_(any(fnmatchcase(name, pattern) for pattern in patterns))
