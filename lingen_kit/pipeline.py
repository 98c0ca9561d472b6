"""Text in, video out: everything that sampling needs, as one plain module without a trainer.

The training task wraps a pipeline; a checkpoint of the task holds its weights and its configuration.

Letters: B batch, C latent channels, T frames, H height, W width.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lingen_kit.diffusion import FlowMatching, Objective, Sampler, noise_stream
from lingen_kit.diffusion.guidance import guide, rescale
from lingen_kit.models import Autoencoder, Denoiser, PixelSpace, TextEncoder, WordEncoder
from lingen_kit.scans import Grid

DenoiserFactory = Callable[[int, int, Grid], Denoiser]
"""Builds a denoiser from `(latent channels, text channels, latent size)`."""


class TextToVideoPipeline(nn.Module):
    """Text encoder, denoiser, sampler and autoencoder.

    Args:
        denoiser: Builds the denoiser from `(latent channels, text channels, latent size)`.
        text_encoder: Encodes prompts; a small trainable one if null.
        autoencoder: Maps videos to latents and back; pixels if null.
        objective: Path from noise to data, and what the denoiser learns along it; flow matching if null.
        sampler: How samples are drawn.
        frames: Frames T of a video.
        height: Height H of a video in pixels.
        width: Width W of a video in pixels.
        fps: Frames per second of a video.
    """

    def __init__(
        self,
        denoiser: DenoiserFactory,
        text_encoder: TextEncoder | None = None,
        autoencoder: Autoencoder | None = None,
        objective: Objective | None = None,
        sampler: Sampler | None = None,
        *,
        frames: int,
        height: int,
        width: int,
        fps: float,
    ) -> None:
        """Build the denoiser for the latents and texts that it will see."""
        super().__init__()
        self.text_encoder = text_encoder or WordEncoder()
        self.autoencoder = autoencoder or PixelSpace()
        self.objective = objective or FlowMatching()
        self.sampler = sampler or Sampler()
        self.sampler.check(self.objective)
        self.frames, self.height, self.width, self.fps = frames, height, width, fps
        latent_size = self.autoencoder.latent_size((frames, height, width))
        self.denoiser = denoiser(self.autoencoder.channels, self.text_encoder.dim, latent_size)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.denoiser.parameters()).device

    @torch.no_grad()
    def forward(
        self,
        prompts: Sequence[str],
        *,
        negative_prompts: str | Sequence[str] = "",
        frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        sampler: Sampler | None = None,
        seed: int | Sequence[int] = 0,
    ) -> Tensor:
        """Sample one video a prompt.

        Args:
            prompts: B prompts.
            negative_prompts: What guidance moves away from; one for all videos, or one for each.
            frames: Frames T; as configured if None, likewise the next five.
            height: Height H in pixels.
            width: Width W in pixels.
            steps: Solver steps.
            guidance: Classifier-free guidance scale.
            sampler: How to sample; `pipeline.sampler.changed(...)` makes one. `steps` and `guidance` win over its own.
            seed: Seed of the first video, the next ones counting up, or one seed each. A video depends on its own
                prompt and seed, not on the others in the batch.

        Returns:
            Videos `(B, 3, T, H, W)` in [-1, 1].

        Raises:
            ValueError: If the numbers of prompts, negative prompts and seeds do not agree, a size does not fit, or
                there are negative prompts and no guidance.
        """
        size = (
            self.frames if frames is None else frames,
            self.height if height is None else height,
            self.width if width is None else width,
        )
        sampler = (sampler or self.sampler).changed(steps=steps, guidance=guidance)
        sampler.check(self.objective)
        guided = sampler.guidance != 1
        away = [negative_prompts] * len(prompts) if isinstance(negative_prompts, str) else list(negative_prompts)
        if len(away) != len(prompts):
            raise ValueError(
                f"{len(away)} negative prompts for {len(prompts)} prompts: give one, or one for each prompt"
            )
        if any(away) and not guided:
            raise ValueError("negative prompts have no effect with guidance 1: raise the guidance, such as to 5")
        seeds = [seed + i for i in range(len(prompts))] if isinstance(seed, int) else list(seed)
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(seeds)} seeds for {len(prompts)} prompts: give one seed, or one for each prompt")

        shape = (self.autoencoder.channels, *self.autoencoder.latent_size(size))
        noise = (draw.to(self.device) for draw in noise_stream(seeds, shape))
        text, mask = self.text_encoder([*prompts, *away] if guided else list(prompts))

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            if not sampler.guides(t):
                return self._velocity(x, t, text[: len(x)], mask[: len(x)])
            conditional, negative = self._velocity(torch.cat([x, x]), t, text, mask).chunk(2)
            moved = guide(conditional, negative, sampler.guidance)
            if sampler.guidance_rescale == 0:
                return moved
            return rescale(self.objective, moved, conditional, x, t.expand(len(x)), sampler.guidance_rescale)

        return self.autoencoder.decode(sampler(self.objective, velocity, noise), size[0])

    def _velocity(self, x: Tensor, t: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """The velocity that the denoiser predicts at `x` `(B, C, T, H, W)` and a time."""
        times = t.expand(len(x))
        output = self.denoiser(*self.objective.network_input(x, times), text, mask).float()
        return self.objective.velocity(output, x, times)
