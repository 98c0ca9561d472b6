"""Shots: files are cut where the scene changes, with the detectors of PySceneDetect fed with the frames of the pass."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lingen_kit.data.curation.filter import Candidate, Filter, Limit, Meter

if TYPE_CHECKING:
    from lingen_kit.data.curation.filter import Measured
    from lingen_kit.data.curation.frame import Frame

# What the detectors take their threshold as, and a value that their authors recommend.
_DETECTORS: Mapping[str, tuple[str, str, float]] = {
    "adaptive": ("AdaptiveDetector", "adaptive_threshold", 3.0),
    "content": ("ContentDetector", "threshold", 27.0),
    "histogram": ("HistogramDetector", "threshold", 0.05),
    "hash": ("HashDetector", "threshold", 0.395),
}


class SceneCuts(Filter):
    """Cuts each file at its scene cuts, long shots into equal parts, and drops what is too short.

    Each shot, or part of one, is a clip of its own from then on. A clip keeps `margin` away from the cuts beside it:
    the frames around a cut may show both sides. A slow dissolve is no cut for any of the detectors: look for those on
    the review page.

    Args:
        min_length: Shortest clip to keep, seconds.
        max_length: Longest clip, seconds; None leaves shots whole.
        margin: Seconds left out on the side of a cut.
        detector: `adaptive` compares the change of a frame with that of its neighbors, and so tells a cut from a
            camera that moves fast; `content` has a fixed limit; `histogram` and `hash` look at the layout of the
            luma and at perceptual hashes.
        threshold: The detector's own; None for what its authors recommend (3, 27, 0.05, 0.395).
    """

    explains: ClassVar[Mapping[str, str]] = {"seconds": "length of the clip, s"}
    measured_by = ("detector", "threshold")
    packages = ("scenedetect", "cv2")

    def __init__(
        self,
        min_length: float = 2.0,
        max_length: float | None = 20.0,
        margin: float = 0.1,
        detector: Literal["adaptive", "content", "histogram", "hash"] = "adaptive",
        threshold: float | None = None,
    ) -> None:
        if not 0 <= margin < math.inf:
            raise ValueError(f"SceneCuts: margin {margin} must be at least 0 seconds")
        if max_length is not None and max_length < 2 * min_length:
            raise ValueError(
                f"SceneCuts: max_length {max_length} must be at least twice min_length {min_length}, or the parts of a"
                " shot a little longer than max_length would be too short"
            )
        self.min_length, self.max_length, self.margin = min_length, max_length, margin
        self.detector: Literal["adaptive", "content", "histogram", "hash"] = detector
        self.threshold = _DETECTORS[detector][2] if threshold is None else threshold

    def meter(self) -> Meter:
        """Runs the detector."""
        return _CutMeter(self.detector, self.threshold)

    def propose(self, clip: Candidate, measured: Measured) -> Sequence[tuple[float, float]]:
        """The shots in a clip, each without its margins and in parts no longer than `max_length`."""
        cuts = [float(cut) for cut in measured["cuts"] if clip.start < cut < clip.end]
        edges = [clip.start, *cuts, clip.end]
        pieces = []
        for number, (start, end) in enumerate(pairwise(edges)):
            first = start + self.margin * (number > 0)
            last = end - self.margin * (number < len(cuts))
            if last <= first:  # shorter than its margins: listed as it is, and then too short
                first, last = start, end
            count = math.ceil((last - first) / self.max_length) if self.max_length else 1
            step = (last - first) / max(1, count)
            pieces += [(first + step * i, first + step * (i + 1)) for i in range(max(1, count))]
        return pieces

    def scores(self, clip: Candidate, measured: Measured) -> dict[str, float]:
        """The clip's length."""
        return {"seconds": round(clip.seconds, 3)}

    def limits(self) -> Mapping[str, Limit]:
        """The shortest clip."""
        return {"seconds": (self.min_length, None)}


class _CutMeter(Meter):
    """All frames, small and BGR, as the detectors want them; cuts as seconds of the first frame after them."""

    def __init__(self, detector: str, threshold: float) -> None:
        import scenedetect.detectors

        super().__init__(fps=None)
        kind, argument, _ = _DETECTORS[detector]
        # Every cut is wanted, however near to another: clips too short are dropped later, clips with a cut inside not.
        options: dict[str, Any] = {argument: threshold, "min_scene_len": 0}
        self.detector = getattr(scenedetect.detectors, kind)(**options)
        self.times: list[float] = []
        self.cuts: set[int] = set()

    def add(self, frame: Frame) -> None:
        import cv2

        # Frames are numbered at a made-up rate, and the numbers turned into times here: rates may vary.
        bgr = cv2.cvtColor(frame.small, cv2.COLOR_RGB2BGR)
        found = self.detector.process_frame(_timecode(len(self.times)), bgr)
        self.times.append(frame.time)
        self.cuts.update(cut.frame_num for cut in found)

    def result(self) -> Measured:
        import numpy as np

        if self.times:
            self.cuts.update(cut.frame_num for cut in self.detector.post_process(_timecode(len(self.times) - 1)))
        return {"cuts": np.array([self.times[cut] for cut in sorted(self.cuts) if 0 < cut < len(self.times)])}


def _timecode(number: int) -> Any:
    from scenedetect.common import FrameTimecode

    return FrameTimecode(number, 25.0)
