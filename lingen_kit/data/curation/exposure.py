"""Black frames, and clips that are too dark or too bright."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from lingen_kit.data.curation.filter import Candidate, Filter, Limit, Meter

if TYPE_CHECKING:
    from lingen_kit.data.curation.filter import Measured
    from lingen_kit.data.curation.frame import Frame

_BLACK_PIXELS = 0.98  # of a frame, as in FFmpeg's blackdetect, so that a logo or noise does not save it
_BURNT = 250


class Exposure(Filter):
    """Drops clips with black frames (fades, leaders, gaps), and dark or burnt-out ones.

    A frame is black when 98% of its pixels are. Footage of a day has a brightness of 0.3 to 0.6, a night scene of 0.05
    to 0.2; a burnt share above 0.2 is a white background or a sky that is lost.

    Args:
        max_black: Greatest share of black frames; 0 drops a clip for one.
        min_brightness: Least median of the frames' mean luma, 0 black to 1 white.
        max_brightness: Greatest such median.
        max_burnt: Greatest share of burnt-out pixels, median over frames; None for any.
        black_level: Luma up to which a pixel is black, of 255; above 16, as encoders leave noise.
        fps: Frames per second looked at.
    """

    explains: ClassVar[Mapping[str, str]] = {
        "black": "share of black frames",
        "brightness": "median over frames of the mean luma, 0 black to 1 white",
        "burnt": "share of pixels at white, median over frames",
    }
    measured_by = ("black_level", "fps")
    packages = ("cv2",)

    def __init__(
        self,
        max_black: float = 0.0,
        min_brightness: float = 0.05,
        max_brightness: float = 0.95,
        max_burnt: float | None = None,
        black_level: int = 28,
        fps: float = 4.0,
    ) -> None:
        self.max_black, self.min_brightness, self.max_brightness = max_black, min_brightness, max_brightness
        self.max_burnt, self.black_level, self.fps = max_burnt, black_level, fps

    def meter(self) -> Meter:
        """Measures the sampled frames."""
        return _ExposureMeter(self.black_level, self.fps)

    def scores(self, clip: Candidate, measured: Measured) -> dict[str, float]:
        """Shares and medians of the frames in the clip."""
        import numpy as np

        inside = clip.inside(measured["times"])
        if not len(inside):
            return dict.fromkeys(self.explains, np.nan)
        return {
            "black": float((measured["dark"][inside] >= _BLACK_PIXELS).mean()),
            "brightness": float(np.median(measured["luma"][inside])),
            "burnt": float(np.median(measured["burnt"][inside])),
        }

    def limits(self) -> Mapping[str, Limit]:
        """Its bounds."""
        return {
            "black": (None, self.max_black),
            "brightness": (self.min_brightness, self.max_brightness),
            "burnt": (None, self.max_burnt),
        }


class _ExposureMeter(Meter):
    def __init__(self, black_level: int, fps: float) -> None:
        super().__init__(fps)
        self.black_level = black_level
        self.times: list[float] = []
        self.rows: list[tuple[float, float, float]] = []

    def add(self, frame: Frame) -> None:
        gray = frame.gray
        self.times.append(frame.time)
        self.rows.append((gray.mean() / 255, (gray <= self.black_level).mean(), (gray >= _BURNT).mean()))

    def result(self) -> Measured:
        import numpy as np

        rows = np.array(self.rows, np.float32).reshape(-1, 3)
        return {"times": np.array(self.times), "luma": rows[:, 0], "dark": rows[:, 1], "burnt": rows[:, 2]}
