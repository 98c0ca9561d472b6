"""Frechet video distance: the Frechet distance of I3D's features, one a video (Unterthiner et al., arXiv 1812.01717).

The network is the TorchScript file `i3d_torchscript.pt` that StyleGAN-V (Skorokhodov et al., arXiv 2112.14683)
published and much of the field reports with: I3D trained on Kinetics-400, which resizes and rescales its input itself.
Each video gives the feature of its first frames, 16 as is customary, so memory does not grow with the length.

The distance depends on how many videos there are, on their frame rate and number of frames, and on how the reference
was cut and resized: two figures compare only if all of these are equal.

Letters: N frames of a chunk, T frames of a clip, H height, W width, D features.
"""

import functools
import hashlib
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eval.metric import Frames
from eval.metrics.frechet import Moments, SetDistance, distance_of

__all__ = ["FrechetVideoDistance"]

_LEAST = 10  # frames: fewer do not outlast the network's strides


class FrechetVideoDistance:
    """FVD.

    Args:
        i3d: The file `i3d_torchscript.pt`.
        frames: T, how many frames of the beginning of each video are seen, at least 10.
        device: Where the network runs.
    """

    def __init__(self, i3d: Path, frames: int = 16, device: str = "cpu") -> None:
        if frames < _LEAST:
            raise ValueError(f"frames {frames}: I3D needs at least {_LEAST}")
        if not i3d.is_file():
            raise ValueError(f"{i3d} is no file; FVD needs the i3d_torchscript.pt that StyleGAN-V published")
        self.name = f"fvd_{frames}f"
        self.i3d, self.frames, self.device = i3d, frames, device

    def made_by(self) -> dict[str, Any]:
        """The file, its hash and the number of frames."""
        return {"weights": self.i3d.name, "sha256": _sha256(self.i3d), "frames": self.frames}

    def feature(self, video: Iterable[Frames]) -> Tensor:
        """The feature `(D,)` of a video in chunks `(N, H, W, 3)`; no chunk is read after the frames that count.

        Raises:
            ValueError: If it is too short.
        """
        kept: list[Frames] = []
        for frames in video:
            kept.append(frames[: self.frames - sum(map(len, kept))])
            if sum(map(len, kept)) == self.frames:
                break
        count = sum(map(len, kept))
        if count < self.frames:
            raise ValueError(f"a video of {count} frames is too short for FVD over {self.frames}; leave it out")
        clip = (
            torch.from_numpy(np.concatenate(kept)).to(self.device).permute(3, 0, 1, 2)[None].float()
        )  # (1, 3, T, H, W)
        with torch.inference_mode():
            return _network(self.i3d, self.device)(clip, rescale=True, resize=True, return_features=True)[0]

    def moments(self, videos: Iterable[Iterable[Frames]]) -> Moments:
        """Of a set of videos."""
        found = Moments()
        for video in videos:
            found.update(self.feature(video)[None])
        return found

    def __call__(self, reference: Iterable[Iterable[Frames]], videos: Iterable[Iterable[Frames]]) -> SetDistance:
        """The distance of two sets of videos, each as chunks of frames.

        Raises:
            ValueError: If a set has fewer than two videos, or a video is too short.
        """
        return distance_of(self.moments(reference), self.moments(videos), self.made_by())


@functools.cache
def _network(i3d: Path, device: str) -> Any:
    with warnings.catch_warnings():
        # The published file is TorchScript, which torch no longer recommends: nothing that a user could change.
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        return torch.jit.load(i3d, map_location=device).eval()


@functools.cache
def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
