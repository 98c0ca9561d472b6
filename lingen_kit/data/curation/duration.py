"""Clips too short or too long to train on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from lingen_kit.data.curation.filter import Candidate, Filter, Limit

if TYPE_CHECKING:
    from lingen_kit.data.curation.filter import Measured


class Duration(Filter):
    """Drops clips by their length. LinGen tunes on clips of 17 s and of 68 s.

    Args:
        min_seconds: Shortest clip; that of the training, or it would have to repeat frames.
        max_seconds: Longest clip; None for any. With `SceneCuts` long ones are cut instead.
    """

    explains: ClassVar[Mapping[str, str]] = {"seconds": "length of the clip, s"}

    def __init__(self, min_seconds: float = 0.0, max_seconds: float | None = None) -> None:
        if max_seconds is not None and max_seconds < min_seconds:
            raise ValueError(f"Duration: max_seconds {max_seconds} is below min_seconds {min_seconds}")
        self.min_seconds, self.max_seconds = min_seconds, max_seconds

    def scores(self, clip: Candidate, measured: Measured) -> dict[str, float]:
        """The clip's length."""
        return {"seconds": round(clip.seconds, 3)}

    def limits(self) -> Mapping[str, Limit]:
        """Its bounds."""
        return {"seconds": (self.min_seconds, self.max_seconds)}
