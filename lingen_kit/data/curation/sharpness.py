"""Blurred, out-of-focus and enlarged footage: variance of the Laplacian (Pech-Pacheco et al., ICPR 2000)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from lingen_kit.data.curation.filter import Candidate, Filter, Limit, Meter

if TYPE_CHECKING:
    from lingen_kit.data.curation.filter import Measured
    from lingen_kit.data.curation.frame import Frame


class Sharpness(Filter):
    """Drops clips whose frames hold little fine detail.

    The score is the median over sampled frames of the variance of the Laplacian of the luma (0 to 255), with each
    frame at the same shorter side, so that it does not depend on the resolution of the file: a smaller one is enlarged
    and shows its lack of detail. It grows with contrast as well as with focus, hence the rather low limit.

    Values at a shorter side of 256: below 10 out of focus, fog or nothing at all; 20 to 60 plain surfaces, or a face
    before a background out of focus; 100 to 1000 a usual sharp scene; above 2000 foliage, grain or text. The rendered
    meadow of Big Buck Bunny has 780 at 720p, 540 after strong compression at 480p, and 3 under a heavy blur.

    Args:
        min_sharpness: Least score.
        size: Shorter side at which it is measured, pixels.
        fps: Frames per second looked at.
    """

    explains: ClassVar[Mapping[str, str]] = {
        "sharpness": "variance of the Laplacian, median over frames; above 100 is sharp"
    }
    measured_by = ("size", "fps")
    packages = ("cv2",)

    def __init__(self, min_sharpness: float = 20.0, size: int = 256, fps: float = 2.0) -> None:
        self.min_sharpness, self.size, self.fps = min_sharpness, size, fps

    def check(self, scores: Sequence[str]) -> None:
        """The size must be one that a picture can have."""
        super().check(scores)
        if self.size < 1:
            raise ValueError(f"Sharpness: size {self.size} must be at least 1 pixel; 256 is usual")

    def meter(self) -> Meter:
        """Measures the sampled frames."""
        return _SharpnessMeter(self.size, self.fps)

    def scores(self, clip: Candidate, measured: Measured) -> dict[str, float]:
        """The median of the frames in the clip."""
        import numpy as np

        values = measured["laplacian"][clip.inside(measured["times"])]
        return {"sharpness": float(np.median(values)) if len(values) else np.nan}

    def limits(self) -> Mapping[str, Limit]:
        """Its bound."""
        return {"sharpness": (self.min_sharpness, None)}


class _SharpnessMeter(Meter):
    def __init__(self, size: int, fps: float) -> None:
        super().__init__(fps)
        self.size = size
        self.times: list[float] = []
        self.values: list[float] = []

    def add(self, frame: Frame) -> None:
        import cv2

        gray = frame.gray
        scale = self.size / min(gray.shape)
        if scale != 1:
            kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            gray = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=kind)
        self.times.append(frame.time)
        self.values.append(float(cv2.Laplacian(gray, cv2.CV_32F).var()))

    def result(self) -> Measured:
        import numpy as np

        return {"times": np.array(self.times), "laplacian": np.array(self.values, np.float32)}
