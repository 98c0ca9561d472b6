"""The training task of the temporal autoencoder: losses, a delayed discriminator, measures of reconstruction.

The losses are those of Movie Gen's TAE (arXiv 2410.13720, 3.1.1): L1, LPIPS, KL, an outlier penalty and a
discriminator, here each a mean over values. As in `TextToVideo`, everything random in a step is a function of (seed,
step, place in the global batch), so that a resumed run repeats an uninterrupted one exactly.

The discriminator learns within the step of the autoencoder, by an optimizer that Lightning does not know: so a step is
a batch for the trainer, its schedules and checkpoints, whether or not there is a discriminator.

Letters: B batch, C latent channels, T frames, H height, W width.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

import torch
from einops import rearrange
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric
from torchmetrics.functional.image import structural_similarity_index_measure

from lingen_kit.data.sample import Batch
from lingen_kit.data.seeds import derive_seed
from lingen_kit.diffusion import seeded_noise
from lingen_kit.errors import require_at_least
from lingen_kit.models.latent_scale import channel_moments
from lingen_kit.models.tae import TAE
from lingen_kit.tasks.discriminator import PatchDiscriminator, hinge_loss
from lingen_kit.tasks.frechet import FrechetDistance, VideoFeatures
from lingen_kit.tasks.latent_losses import kl_divergence, outlier_penalty
from lingen_kit.tasks.lpips import LPIPS
from lingen_kit.tasks.schedule import warmup_cosine

_DISCRIMINATOR_STATE = "discriminator_optimizer"


class Autoencoding(LightningModule):
    """Trains a temporal autoencoder.

    Args:
        autoencoder: Class path of the autoencoder and its options; the default one if null.
        perceptual: LPIPS, which needs the weights of a network; no such loss if null.
        discriminator: Tells reconstructed patches from real ones; no such loss if null.
        video_features: Network for a Frechet distance of reconstructions in validation; not reported if null.
        frames: Frames of a video (taken from the data).
        height: Height of a video in pixels (taken from the data).
        width: Width of a video in pixels (taken from the data).
        fps: Frames per second of a video (taken from the data).
        optimizer: Class path of the optimizer and its options.
        discriminator_optimizer: The same for the discriminator; Adam with lr 1e-4 and betas (0.5, 0.9) if null.
        reconstruction: Difference of pixels that is made small: absolute, which keeps edges sharp, or squared,
            which learns faster where most of a clip is one plain color.
        warmup_steps: Steps over which the learning rate rises linearly from 0.
        schedule_steps: Length of the cosine schedule (taken from trainer.max_steps). Constant after warm-up if -1.
        final_lr_ratio: Learning rate at the end of the schedule over its peak.
        perceptual_weight: Weight of LPIPS; that of `reconstruction` is 1.
        kl_weight: Weight of the KL divergence from a standard normal distribution.
        outlier_weight: Weight of the penalty of latents beyond `outlier_deviations`.
        outlier_deviations: Standard deviations from which a latent is an outlier.
        adversarial_weight: Weight of the discriminator's opinion.
        adversarial_start: Step from which there is a discriminator.
        adversarial_adaptive: Weigh its opinion so that its gradient in the last layer is `adversarial_weight` times as
            large as that of the other losses on pixels.
        seed: Seed of the noise in the latents.
    """

    def __init__(
        self,
        autoencoder: TAE | None = None,
        perceptual: LPIPS | None = None,
        discriminator: PatchDiscriminator | None = None,
        video_features: VideoFeatures | None = None,
        *,
        frames: int = 8,
        height: int = 32,
        width: int = 32,
        fps: float = 8.0,
        optimizer: Callable[[Iterable[Any]], Optimizer] = AdamW,
        discriminator_optimizer: Callable[[Iterable[Any]], Optimizer] | None = None,
        reconstruction: Literal["l1", "mse"] = "l1",
        warmup_steps: int = 100,
        schedule_steps: int = -1,
        final_lr_ratio: float = 0.01,
        perceptual_weight: float = 1.0,
        kl_weight: float = 1e-6,
        outlier_weight: float = 0.1,
        outlier_deviations: float = 3.0,
        adversarial_weight: float = 0.1,
        adversarial_start: int = 10_000,
        adversarial_adaptive: bool = True,
        seed: int = 0,
    ) -> None:
        """Check the options and the size of the videos."""
        super().__init__()
        least = {"perceptual_weight": perceptual_weight, "kl_weight": kl_weight, "outlier_weight": outlier_weight,
                 "adversarial_weight": adversarial_weight, "adversarial_start": adversarial_start,
                 "warmup_steps": warmup_steps, "final_lr_ratio": final_lr_ratio}  # fmt: skip
        require_at_least("Autoencoding", 0, **least)
        self.autoencoder = autoencoder or TAE()
        self.autoencoder.latent_size((frames, height, width))
        self.fps = fps
        self.perceptual, self.discriminator, self.video_features = perceptual, discriminator, video_features
        if discriminator is not None:
            discriminator.requires_grad_(False)  # but while it learns
        self.optimizer = optimizer
        self.discriminator_optimizer = discriminator_optimizer or partial(Adam, lr=1e-4, betas=(0.5, 0.9))
        self.warmup_steps, self.schedule_steps, self.final_lr_ratio = warmup_steps, schedule_steps, final_lr_ratio
        self.reconstruction = reconstruction
        self.weights = {
            reconstruction: 1.0,
            "perceptual": perceptual_weight,
            "kl": kl_weight,
            "outliers": outlier_weight,
        }
        self.outlier_deviations = outlier_deviations
        self.adversarial_weight, self.adversarial_start = adversarial_weight, adversarial_start
        self.adversarial_adaptive = adversarial_adaptive
        self.seed = seed
        names = ["loss", "psnr", "ssim", *(name for name in self.weights if self._has(name))]
        # Exact for any number of ranks, where Lightning's mean rounds the mean number of samples down.
        self.validated = nn.ModuleDict({name: MeanMetric(nan_strategy=float("nan")) for name in names})
        if video_features is not None:
            self.frechet = FrechetDistance()
        self._critic: Optimizer | None = None
        self._critic_state: dict[str, Any] | None = None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The weighted sum of the losses of a batch."""
        video = _video_of(batch)
        mean, log_variance = self.autoencoder.posterior(video)
        # This rank's samples among those of the global batch: how many ranks share it makes no difference.
        indices = range(self.global_rank * len(video), (self.global_rank + 1) * len(video))
        step = derive_seed("autoencoder", self.seed, self.global_step, batch_idx)
        noise = seeded_noise([derive_seed(step, index) for index in indices], mean.shape[1:]).to(mean.device)
        rebuilt = self.autoencoder.reconstruct(mean + (0.5 * log_variance).exp() * noise, video.shape[2])
        moments = channel_moments(mean)
        self.autoencoder.latents.update(self.trainer.strategy.reduce(moments, reduce_op="mean"))

        parts = self.losses(video, rebuilt, mean, log_variance)
        loss = self._weighted(parts)
        if self.discriminator is not None and self.global_step >= self.adversarial_start:
            parts["discriminator"] = self._train_discriminator(self.discriminator, video, rebuilt.detach())
            parts["adversarial"] = -self.discriminator(rebuilt).mean()
            loss = loss + self._adversarial_weight(parts) * parts["adversarial"]
        parts["loss"] = loss
        for name, value in parts.items():
            self.log(f"train/{name}", value.detach(), prog_bar=name == "loss", batch_size=len(video), sync_dist=True)
        return loss

    def losses(self, video: Tensor, rebuilt: Tensor, mean: Tensor, log_variance: Tensor) -> dict[str, Tensor]:
        """The parts of the loss by name, without the discriminator, each a mean over values."""
        mean, log_variance = mean.float(), log_variance.float()
        difference = rebuilt.float() - video
        pixels = difference.abs() if self.reconstruction == "l1" else difference.square()
        parts = {self.reconstruction: pixels.mean(), "kl": kl_divergence(mean, log_variance)}
        if self._has("outliers"):
            parts["outliers"] = outlier_penalty(mean, self.outlier_deviations)
        if self.perceptual is not None:
            parts["perceptual"] = self.perceptual(_frames(rebuilt.float()), _frames(video))
        return parts

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the losses, PSNR and SSIM of reconstructions from the posterior's mean, averaged over the videos."""
        videos = _video_of(batch)
        counts = [place is not None for place in batch.get("places") or [0] * len(videos)]
        for video, counted in zip(videos.split(1), counts, strict=True):
            mean, log_variance = self.autoencoder.posterior(video)
            rebuilt = self.autoencoder.reconstruct(mean, video.shape[2])
            parts = self.losses(video, rebuilt, mean, log_variance)
            figures = {"loss": self._weighted(parts), **parts, **_fidelity(video, rebuilt.float().clamp(-1, 1))}
            for name, value in figures.items():
                self._log_mean(name, value, counted)
            if self.video_features is not None and counted:
                self.frechet.update(self.video_features(video), self.video_features(rebuilt.clamp(-1, 1)))
        if self.video_features is not None:
            self.log("validation/frechet_r3d18", self.frechet, on_step=False, on_epoch=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The same measurement as validation."""
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Reconstruct the videos of a batch, `(B, 3, T, H, W)` in [-1, 1]."""
        return self.rebuild(_video_of(batch))

    def rebuild(self, video: Tensor) -> Tensor:
        """Encode and decode as diffusion will, tile by tile: `(B, 3, T, H, W)` -> the same, in [-1, 1]."""
        return self.autoencoder.decode(self.autoencoder.encode(video), video.shape[2])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, with no weight decay on vectors, and warm-up followed by a cosine."""
        trained = [p for p in self.autoencoder.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim >= 2]},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = self.optimizer(groups)
        if self.discriminator is not None:
            self._critic = self.discriminator_optimizer(list(self.discriminator.parameters()))
            if self._critic_state is not None:
                self._critic.load_state_dict(self._critic_state)
        schedule = LambdaLR(optimizer, self.learning_rate_ratio)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def learning_rate_ratio(self, step: int) -> float:
        """Learning rate at `step` over its peak."""
        return warmup_cosine(step, self.warmup_steps, self.schedule_steps, self.final_lr_ratio)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the discriminator's optimizer (Lightning's hook)."""
        if self._critic is not None:
            checkpoint[_DISCRIMINATOR_STATE] = self._critic.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again (Lightning's hook, before the optimizers are made)."""
        self._critic_state = checkpoint.get(_DISCRIMINATOR_STATE)

    def _train_discriminator(self, critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """One step of the discriminator, in full precision; its loss."""
        assert self._critic is not None
        parameters = list(critic.parameters())
        critic.requires_grad_(True)
        with torch.autocast(real.device.type, enabled=False):
            loss = hinge_loss(critic(real.float()), critic(fake.float()))
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = self.trainer.strategy.reduce(gradient, reduce_op="mean")
        self._critic.step()
        self._critic.zero_grad()
        critic.requires_grad_(False)
        return loss.detach()

    def _adversarial_weight(self, parts: dict[str, Tensor]) -> Tensor | float:
        """The adaptive weight of VQGAN (arXiv 2012.09841, eq. 7), which evens out the gradients in the last layer."""
        if not self.adversarial_adaptive:
            return self.adversarial_weight
        pixels = self._weighted({name: parts[name] for name in (self.reconstruction, "perceptual") if name in parts})
        layer = self.autoencoder.last_layer
        ours, theirs = (
            torch.autograd.grad(loss, layer, retain_graph=True)[0].norm() for loss in (pixels, parts["adversarial"])
        )
        return self.adversarial_weight * (ours / (theirs + 1e-6)).clamp(max=1e4).detach()

    def _has(self, loss: str) -> bool:
        return {"outliers": self.weights["outliers"] > 0, "perceptual": self.perceptual is not None}.get(loss, True)

    def _weighted(self, parts: dict[str, Tensor]) -> Tensor:
        return torch.stack([self.weights[name] * value for name, value in parts.items()]).sum()

    def _log_mean(self, name: str, value: Tensor, counted: bool) -> None:
        metric: MeanMetric = self.validated[name]  # type: ignore[assignment]
        metric.update(value, weight=float(counted))
        shown = name in ("loss", "psnr")
        self.log(f"validation/{name}", metric, on_step=False, on_epoch=True, prog_bar=shown)


def _video_of(batch: Batch) -> Tensor:
    if "video" not in batch:
        raise ValueError("the autoencoder learns from videos, and this data holds cached latents: give it the clips")
    return batch["video"]


def _frames(video: Tensor) -> Tensor:
    """`(B, 3, T, H, W)` -> `(B * T, 3, H, W)`."""
    return rearrange(video, "b c t h w -> (b t) c h w")


def _fidelity(video: Tensor, rebuilt: Tensor) -> dict[str, Tensor]:
    """PSNR in dB and SSIM of a reconstruction, both of values in [-1, 1]."""
    error = (rebuilt - video).square().mean().clamp(min=1e-10)
    ssim = structural_similarity_index_measure(_frames(rebuilt), _frames(video), data_range=2.0)
    assert isinstance(ssim, Tensor)
    return {"psnr": 10 * torch.log10(4 / error), "ssim": ssim}
