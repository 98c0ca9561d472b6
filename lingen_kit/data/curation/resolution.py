"""Files too small, of an odd shape, or of too few frames a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from lingen_kit.data.curation.filter import Candidate, Filter, Limit

if TYPE_CHECKING:
    from lingen_kit.data.curation.filter import Measured


class Resolution(Filter):
    """Drops clips by the size, shape and frame rate of their file, as displayed: upright, with square pixels.

    What a file claims may be an enlarged smaller one: `Sharpness` shows that.

    Args:
        min_side: Least length of the shorter side, pixels; that of the training, or frames must be enlarged.
        min_aspect: Least width over height; 0.5625 is an upright phone.
        max_aspect: Greatest width over height; 1.78 is a usual wide screen, 2.39 a cinema's.
        min_fps: Fewest frames per second.
    """

    explains: ClassVar[Mapping[str, str]] = {
        "shorter_side": "shorter side of the file, pixels",
        "aspect": "width over height",
        "fps": "frames per second of the file",
    }

    def __init__(
        self,
        min_side: int = 0,
        min_aspect: float | None = None,
        max_aspect: float | None = None,
        min_fps: float | None = None,
    ) -> None:
        self.min_side, self.min_aspect, self.max_aspect, self.min_fps = min_side, min_aspect, max_aspect, min_fps

    def scores(self, clip: Candidate, measured: Measured) -> dict[str, float]:
        """The file's size, shape and rate."""
        return {
            "shorter_side": float(min(clip.width, clip.height)),
            "aspect": round(clip.width / clip.height, 4),
            "fps": round(clip.fps, 3),
        }

    def limits(self) -> Mapping[str, Limit]:
        """Its bounds."""
        return {
            "shorter_side": (float(self.min_side), None),
            "aspect": (self.min_aspect, self.max_aspect),
            "fps": (self.min_fps, None),
        }
