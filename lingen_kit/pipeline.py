"""Text in, video out: everything that sampling needs, as one plain module without a trainer.

The training task wraps a pipeline; a checkpoint of the task holds its weights and its configuration.

Letters: B batch, C latent channels, T frames, H height, W width.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lingen_kit.diffusion import FlowMatching, Sampler, seeded_noise
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
        objective: What the denoiser predicts and learns.
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
        objective: FlowMatching | None = None,
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
        frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int | Sequence[int] = 0,
    ) -> Tensor:
        """Sample one video a prompt.

        Args:
            prompts: B prompts.
            frames: Frames T; as configured if None, likewise the next four.
            height: Height H in pixels.
            width: Width W in pixels.
            steps: Solver steps.
            guidance: Classifier-free guidance scale.
            seed: Seed of the first video, the next ones counting up, or one seed each. A video depends on its own
                prompt and seed, not on the others in the batch.

        Returns:
            Videos `(B, 3, T, H, W)` in [-1, 1].
        """
        size = (
            self.frames if frames is None else frames,
            self.height if height is None else height,
            self.width if width is None else width,
        )
        guidance = self.sampler.guidance if guidance is None else guidance
        seeds = [seed + i for i in range(len(prompts))] if isinstance(seed, int) else list(seed)
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(seeds)} seeds for {len(prompts)} prompts: give one seed, or one for each prompt")

        shape = (self.autoencoder.channels, *self.autoencoder.latent_size(size))
        noise = seeded_noise(seeds, shape).to(self.device)
        guided = guidance != 1
        text, mask = self.text_encoder([*prompts, *[""] * len(prompts)] if guided else list(prompts))

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            doubled = torch.cat([x, x]) if guided else x
            times = t.expand(len(doubled))
            output = self.denoiser(doubled, times, text, mask).float()
            predicted = self.objective.velocity(output, doubled, times)
            if not guided:
                return predicted
            conditional, unconditional = predicted.chunk(2)
            return unconditional + guidance * (conditional - unconditional)

        latents = self.sampler(velocity, noise, steps, first_time=self.objective.first_time)
        return self.autoencoder.decode(latents)
