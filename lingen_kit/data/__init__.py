"""Samples, data sets and the Lightning data modules that YAML names, such as `lingen_kit.data.VideoFolder`.

The data modules are imported when they are first named, because importing Lightning takes seconds; the rest
of the package does without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lingen_kit.data.base import VideoDataModule
    from lingen_kit.data.moving_shapes import MovingShapes
    from lingen_kit.data.video_folder import VideoFolder

__all__ = ["MovingShapes", "VideoDataModule", "VideoFolder"]

_HOMES = {
    "MovingShapes": "lingen_kit.data.moving_shapes",
    "VideoDataModule": "lingen_kit.data.base",
    "VideoFolder": "lingen_kit.data.video_folder",
}


def __getattr__(name: str) -> object:
    """Import a data module when it is first named."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
