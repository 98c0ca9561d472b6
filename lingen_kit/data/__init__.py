"""Samples, data sets and the Lightning data modules that YAML names, such as `lingen_kit.data.VideoFolder`.

The data modules are imported when they are first named, because importing Lightning takes seconds; the rest
of the package does without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lingen_kit.data.auto_data import AutoData
    from lingen_kit.data.base import VideoDataModule
    from lingen_kit.data.buckets import Buckets
    from lingen_kit.data.cached_latents import CachedLatents
    from lingen_kit.data.folders import ImageFolder, VideoFolder, WebDataset
    from lingen_kit.data.hybrid import Hybrid
    from lingen_kit.data.moving_shapes import MovingShapes
    from lingen_kit.data.torchvision_images import TorchvisionImages

__all__ = [
    "AutoData",
    "Buckets",
    "CachedLatents",
    "Hybrid",
    "ImageFolder",
    "MovingShapes",
    "TorchvisionImages",
    "VideoDataModule",
    "VideoFolder",
    "WebDataset",
]

_HOMES = {
    "AutoData": "auto_data",
    "Buckets": "buckets",
    "CachedLatents": "cached_latents",
    "Hybrid": "hybrid",
    "ImageFolder": "folders",
    "MovingShapes": "moving_shapes",
    "TorchvisionImages": "torchvision_images",
    "VideoDataModule": "base",
    "VideoFolder": "folders",
    "WebDataset": "folders",
}


def __getattr__(name: str) -> object:
    """Import a data module when it is first named."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"lingen_kit.data.{_HOMES[name]}"), name)
