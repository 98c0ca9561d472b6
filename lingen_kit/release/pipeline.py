"""A text-to-video model in three lines of Python, from a folder or the Hugging Face hub.

    from lingen_kit import Pipeline
    pipe = Pipeline.from_pretrained("my-model")
    pipe("a red circle moves left").save("video.mp4")

Letters: B videos, T frames, H height, W width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from huggingface_hub import ModelHubMixin
from numpy.typing import NDArray
from torch import Tensor

from lingen_kit.diffusion import Sampler
from lingen_kit.errors import require_at_least
from lingen_kit.pipeline import TextToVideoPipeline
from lingen_kit.release.folder import DTYPES, Release, check_target, read_release, write_release
from lingen_kit.release.hub import find
from lingen_kit.release.loading import load_model
from lingen_kit.video import to_uint8, write_gif, write_mp4


@dataclass(frozen=True)
class Videos:
    """What a pipeline sampled.

    Attributes:
        samples: `(B, 3, T, H, W)` in [-1, 1], on the CPU.
        prompts: B prompts.
        seeds: B seeds.
        fps: Frames per second.
    """

    samples: Tensor
    prompts: list[str]
    seeds: list[int]
    fps: float

    @cached_property
    def videos(self) -> NDArray[np.uint8]:
        """The frames as 8-bit RGB, `(B, T, H, W, 3)`."""
        return np.stack([to_uint8(video) for video in self.samples])

    def save(self, path: str | Path, fps: float | None = None) -> list[Path]:
        """Write the videos: one as `path`, several as `path` with `_0000` and so on behind its stem.

        Args:
            path: A file that ends in .mp4 or .gif; its folder is made.
            fps: Frames per second; the model's if None.

        Returns:
            The files.

        Raises:
            ValueError: If it ends in something else.
        """
        path = Path(path)
        if path.suffix not in (".mp4", ".gif"):
            raise ValueError(f"video {path} must end in .mp4 or .gif")
        write = write_mp4 if path.suffix == ".mp4" else write_gif
        one = len(self.samples) == 1
        paths = [path if one else path.with_stem(f"{path.stem}_{i:04d}") for i in range(len(self.samples))]
        return [write(file, video, fps or self.fps) for file, video in zip(paths, self.samples, strict=True)]


class Pipeline(ModelHubMixin):
    """A text-to-video model with all that sampling needs; `from_pretrained` makes one.

    Args:
        model: The model.
        release: Its configuration and model card, which are saved along with its weights.
        dtype: See `from_pretrained`.
    """

    def __init__(self, model: TextToVideoPipeline, release: Release, dtype: torch.dtype | None = None) -> None:
        self.model = model
        self.release = release
        self.dtype = dtype

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
    ) -> Self:
        """Load an exported model. The classes that it names are imported: take models from whom you trust.

        Args:
            pretrained_model_name_or_path: A folder that `export` or `save_pretrained` wrote, or `ORG/NAME` on the hub.
            revision: Branch, tag or commit on the hub; the main branch if None.
            device: Where it runs; `auto` is a GPU if there is one.
            dtype: `fp32`, `bf16` or `fp16`, or torch's own: what matrices are kept and multiplied in. If None the
                weights are kept in fp32, and products are in bf16 on a GPU and in fp32 elsewhere, as for `sample`.
            cache_dir: Where what is fetched is kept; where `HF_HOME` says if None.
            token: For private models; the one that `hf auth login` stored if None.
            local_files_only: Take it from the hub's cache alone.
            force_download: Fetch again what is in the cache.

        Raises:
            FileNotFoundError: If there is no such folder, or a file is missing in it.
            ValueError: If it cannot be read, is no text-to-video model, needs classes that are not here, or the hub
                cannot give it.
        """
        kept = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
        if dtype is not None and kept not in DTYPES.values():
            raise ValueError(f"dtype {dtype} is none of {', '.join(DTYPES)}")
        folder = find(
            pretrained_model_name_or_path,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            force_download=force_download,
        )
        model = load_model(folder)
        if kept is not None:
            for parameter in model.parameters():
                if parameter.ndim > 1:  # as in a file: see `cast`
                    parameter.data = parameter.data.to(kept)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(model, read_release(folder), kept).to(device)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def to(self, device: str | torch.device) -> Self:
        """Move the model."""
        self.model.to(device)
        return self

    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        negative_prompt: str | Sequence[str] = "",
        num: int = 1,
        seed: int = 0,
        frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        sampler: Sampler | None = None,
        batch_size: int = 8,
    ) -> Videos:
        """Sample videos, as `python -m lingen_kit sample` does.

        Args:
            prompts: What to show; one prompt or several.
            negative_prompt: What guidance moves away from; one for all prompts, or one for each.
            num: Videos for each prompt.
            seed: Of the first video of each prompt, the next ones counting up.
            frames: Frames T; as configured if None, likewise the next five.
            height: Height H in pixels.
            width: Width W in pixels.
            steps: Solver steps.
            guidance: Classifier-free guidance scale; 1 is none.
            sampler: How to sample; `pipe.model.sampler.changed(method="heun")` makes one.
            batch_size: Videos sampled at a time.

        Raises:
            ValueError: If an option is wrong.
        """
        require_at_least("Pipeline", 1, num=num, batch_size=batch_size)
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        away = [negative_prompt] * len(prompts) if isinstance(negative_prompt, str) else list(negative_prompt)
        if not prompts:
            raise ValueError("there are no prompts: give one, or a list of them")
        if len(away) != len(prompts):
            raise ValueError(f"{len(away)} negative prompts for {len(prompts)} prompts: give one, or one for each")
        shown, negative = ([text for text in texts for _ in range(num)] for texts in (prompts, away))
        seeds = [seed + i % num for i in range(len(shown))]
        parts = []
        for start in range(0, len(shown), batch_size):
            batch = slice(start, start + batch_size)
            with self._autocast():
                sampled = self.model(
                    shown[batch],
                    negative_prompts=negative[batch],
                    frames=frames,
                    height=height,
                    width=width,
                    steps=steps,
                    guidance=guidance,
                    sampler=sampler,
                    seed=seeds[batch],
                )
            parts.append(sampled.float().cpu())
        return Videos(torch.cat(parts), shown, seeds, self.model.fps)

    def save_pretrained(self, save_directory: str | Path, *, overwrite: bool = False, **options: Any) -> str | None:
        """Write the folder that `from_pretrained` reads.

        Args:
            save_directory: The folder; it must be empty, but for `overwrite`.
            overwrite: Write over a model that is there.
            options: As `huggingface_hub.ModelHubMixin.save_pretrained` takes them, such as `push_to_hub`.

        Returns:
            The commit on the hub if it was pushed there.

        Raises:
            ValueError: If the folder is not to be written to.
        """
        check_target(save_directory, overwrite)
        return super().save_pretrained(save_directory, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        write_release(save_directory, self.release, self.model.state_dict())

    def _autocast(self) -> torch.autocast:
        kind = self.device.type
        low = self.dtype or (torch.bfloat16 if kind == "cuda" else torch.float32)
        enabled = low != torch.float32
        return torch.autocast(kind, low if enabled else torch.bfloat16, enabled=enabled)
