"""Pretrained autoencoders of the package diffusers: Wan, LTX-Video, Cosmos, CogVideoX, HunyuanVideo, Stable Diffusion.

They are frozen and in no checkpoint: the weights come from the folder or the hub each time that the model is built.

Letters: B batch, C latent channels, T frames, H height, W width; primes mark latent sizes.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from lingen_kit.errors import MissingPackage, require_at_least
from lingen_kit.models.autoencoder import Autoencoder, wanted_frames
from lingen_kit.models.frozen import Frozen
from lingen_kit.scans import Grid


class DiffusersAutoencoder(Autoencoder):
    """A pretrained autoencoder of videos, or one of images that takes a video frame by frame.

    Latents are the posterior's mean, scaled as the model's own pipelines scale them: by `latents_mean` and
    `latents_std`, or `shift_factor`, and `scaling_factor`. Video models are causal: a first frame of its own, then
    `r` frames a latent, T = 1 + r k. Other lengths are filled up by repeating the last frame, and `decode` drops what
    is not asked for.

    Args:
        name: The class in diffusers, such as AutoencoderKLWan, AutoencoderKLLTXVideo, AutoencoderKLCosmos,
            AutoencoderKLCogVideoX, AutoencoderKLHunyuanVideo, or AutoencoderKL for images.
        path: Folder that `save_pretrained` wrote, or name on the Hugging Face hub.
        subfolder: Folder of the autoencoder within `path`; null where `path` is it.
        revision: Branch, tag or commit on the hub; the main branch if null.
        dtype: Of weights and computation; bfloat16 is for GPUs.
        tiling: Cut large frames into overlapping tiles that are blended, as diffusers does by its own sizes.
        frames_at_once: Frames that a model of images is given at once.

    Raises:
        MissingPackage: If diffusers is not installed.
        ValueError: If there is no such class or model, or it cannot be had.
    """

    def __init__(
        self,
        name: str = "AutoencoderKLWan",
        path: str = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        subfolder: str | None = "vae",
        *,
        revision: str | None = None,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        tiling: bool = False,
        frames_at_once: int = 8,
    ) -> None:
        """Load the network."""
        super().__init__()
        require_at_least("DiffusersAutoencoder", 1, frames_at_once=frames_at_once)
        network = _load(name, path, subfolder, revision, getattr(torch, dtype))
        if tiling:
            if not hasattr(network, "enable_tiling"):
                raise ValueError(f"autoencoder {name} has no tiles: leave tiling out")
            network.enable_tiling()
        self.of_images = name == "AutoencoderKL"
        self.tiling, self.frames_at_once = tiling, frames_at_once
        self.spatial_factor, self.temporal_factor = _factors(network, self.of_images)
        self.channels = int(_option(network, "latent_channels", "z_dim"))
        shift, scale = _scaling(network, self.channels)
        self.register_buffer("shift", shift, persistent=False)  # (C, 1 or T', 1, 1)
        self.register_buffer("scale", scale, persistent=False)
        self.timestep = bool(getattr(network.config, "timestep_conditioning", False))
        self.frozen = Frozen(network)

    shift: Tensor
    scale: Tensor

    def encode(self, video: Tensor) -> Tensor:
        """The posterior's mean, scaled; see `Autoencoder`."""
        frames, height, width = video.shape[2:]
        latent_frames = self.latent_size((frames, height, width))[0]
        missing = self._longest(latent_frames) - frames
        video = torch.cat([video, video[:, :, -1:].expand(-1, -1, missing, -1, -1)], dim=2)
        with self.frozen.running() as network:
            if self.of_images:
                parts = [network.encode(part).latent_dist.mode() for part in self._images(video.to(network.dtype))]
                latents = rearrange(torch.cat(parts), "(b t) c h w -> b c t h w", b=len(video))
            else:
                latents = network.encode(video.to(network.dtype)).latent_dist.mode()
            shift, scale = self._of_frames(latents)
            return ((latents.float() - shift) * scale).to(video.dtype)

    def decode(self, latents: Tensor, frames: int | None = None) -> Tensor:
        """Video of scaled latents; see `Autoencoder`."""
        longest = self._longest(latents.shape[2])
        shortest = max(1, longest - self.temporal_factor + 1) if latents.shape[2] > 1 else 1
        frames = wanted_frames(frames, latents.shape[2], longest, shortest)
        with self.frozen.running() as network:
            shift, scale = self._of_frames(latents)
            raw = (latents.float() / scale + shift).to(network.dtype)
            if self.of_images:
                parts = [network.decode(part).sample for part in self._images(raw)]
                video = rearrange(torch.cat(parts), "(b t) c h w -> b c t h w", b=len(latents))
            elif self.timestep:  # latents without noise, as LTX-Video's pipeline decodes them by default
                video = network.decode(raw, raw.new_zeros(len(raw))).sample
            else:
                video = network.decode(raw).sample
            return video[:, :, :frames].to(latents.dtype).clamp(-1, 1)

    def latent_size(self, size: Grid) -> Grid:
        """1 + (T - 1) / r frames, rounded up, and height and width by the spatial factor.

        Raises:
            ValueError: If the spatial factor does not divide the height or width.
        """
        factor = self.spatial_factor
        for name, length in zip(("height", "width"), size[1:], strict=True):
            if length < 1 or length % factor:
                raise ValueError(
                    f"{name} {length} is not divisible by {factor}, the autoencoder's spatial factor: choose a multiple"
                )
        return 1 - (1 - size[0]) // self.temporal_factor, size[1] // factor, size[2] // factor

    def extra_repr(self) -> str:
        """What it makes of a video."""
        return f"channels={self.channels}, spatial={self.spatial_factor}, temporal={self.temporal_factor}"

    def _longest(self, latent_frames: int) -> int:
        return 1 + (latent_frames - 1) * self.temporal_factor

    def _images(self, video: Tensor) -> tuple[Tensor, ...]:
        return rearrange(video, "b c t h w -> (b t) c h w").split(self.frames_at_once)

    def _of_frames(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and scale for each latent frame; beyond those that the model knows its last one's."""
        frames = torch.arange(latents.shape[2], device=self.shift.device).clamp(max=self.shift.shape[1] - 1)
        return self.shift[:, frames].float(), self.scale[:, frames].float()


def _load(name: str, path: str, subfolder: str | None, revision: str | None, dtype: torch.dtype) -> Any:
    """The network with its weights on the CPU; within the meta device, without them."""
    try:
        import diffusers
    except ImportError as error:
        raise MissingPackage(
            f'autoencoder {name} needs the package diffusers: pip install "lingen_kit[hub]"'
        ) from error
    kind: Any = getattr(diffusers, name, None)
    if not name.startswith("Autoencoder") or not hasattr(kind, "from_pretrained"):
        raise ValueError(f"diffusers {diffusers.__version__} has no autoencoder {name}; one is AutoencoderKLWan")
    where = {"subfolder": subfolder, "revision": revision}
    try:
        if torch.empty(0).is_meta:
            return kind.from_config(kind.load_config(path, **where))
        network = kind.from_pretrained(path, torch_dtype=dtype, low_cpu_mem_usage=False, **where)
    except Exception as error:  # diffusers and the hub raise a dozen types
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        local = Path(path).expanduser().is_dir()
        fix = (
            f"Check that it holds config.json and weights{f' in its folder {subfolder}' if subfolder else ''}"
            if local
            else "Check name, revision and connection; without one, copy the model over and name its folder, or set "
            "HF_HOME to a cache that holds it, with HF_HUB_OFFLINE=1"
        )
        raise ValueError(f"autoencoder {name} of {path} cannot be loaded: {reason.rstrip('.')}. {fix}") from error
    return network


def _option(network: Any, *names: str) -> Any:
    """The first of several names that the network's config, or else the network itself, has a value for."""
    for name in names:
        value = network.config.get(name)
        if value is None:
            value = vars(network).get(name, dict(network.named_buffers(recurse=False)).get(name))
        if value is not None:
            return value
    return None


def _factors(network: Any, of_images: bool) -> tuple[int, int]:
    """Pixels along a side of a latent, and frames of a latent after the first."""
    spatial = _option(network, "spatial_compression_ratio", "scale_factor_spatial")
    if spatial is None:
        spatial = 2 ** (len(network.config.block_out_channels) - 1)
    temporal = 1 if of_images else _option(network, "temporal_compression_ratio", "scale_factor_temporal")
    if temporal is None:
        raise ValueError(
            f"{type(network).__name__} does not say how many frames a latent stands for: it is no video model"
        )
    return int(spatial), int(temporal)


def _scaling(network: nn.Module, channels: int) -> tuple[Tensor, Tensor]:
    """What is taken from raw latents, and what they are multiplied by then, `(C, 1 or T', 1, 1)` each."""
    mean, std = (_option(network, name) for name in ("latents_mean", "latents_std"))
    shift = torch.zeros(channels) if mean is None else torch.as_tensor(mean, dtype=torch.float32).detach().cpu()
    scale = torch.ones(channels) if std is None else 1 / torch.as_tensor(std, dtype=torch.float32).detach().cpu()
    shift = shift + (_option(network, "shift_factor") or 0.0)
    scale = scale * (_option(network, "scaling_factor") or 1.0)
    return shift.view(channels, -1, 1, 1), scale.view(channels, -1, 1, 1)
