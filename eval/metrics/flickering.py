"""Temporal flickering: how much consecutive frames of still scenes differ (VBench, arXiv 2311.17982, 4.1).

    value = (255 - mean over pairs of the mean absolute difference of the pixels) / 255

Motion lowers it as flicker does, so VBench keeps only static videos, by optical flow, and of those the first five of
each prompt. Without that choice the figure is another one and bears another name.

Letters: N frames of a chunk, n frames of the video.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.metric import Frame, Frames, Metric, Observer, Score, VideoFacts, weighted_mean
from eval.metrics.flow import Flow, fastest

__all__ = ["TemporalFlickering", "is_static"]

_SHARE = 0.02
_MOST_OF_A_PROMPT = 5


class TemporalFlickering(Metric):
    """Flicker of static videos.

    A video that moves has its value and `static: false` in its details, and does not count in the figure of a set.

    Args:
        flow: What tells static videos from others; without one all count, and the name says `_unfiltered`.
    """

    def __init__(self, flow: Flow | None = None) -> None:
        self.names = ("temporal_flickering_unfiltered" if flow is None else f"temporal_flickering{flow.name}",)
        self.flow = flow

    def observe(self, video: VideoFacts) -> Observer:
        """Begin a video."""
        return _Watching(self.names[0], self.flow, video)

    def corpus(self, name: str, scores: Sequence[Score]) -> float | None:
        """Mean over static videos, of each prompt the first five; all videos without a flow."""
        if self.flow is None:
            return weighted_mean(scores)
        kept: Counter[str] = Counter()
        counted = []
        for score in scores:
            prompt = score.details.get("prompt", "")
            if score.value is not None and score.details["static"] and kept[prompt] < _MOST_OF_A_PROMPT:
                kept[prompt] += 1
                counted.append(score)
        return weighted_mean(counted)

    def made_by(self) -> dict[str, Any]:
        """The flow of the choice of static videos."""
        return {"static_filter": self.flow.made_by() if self.flow else None}


def is_static(pairs: Sequence[float], ends: Sequence[float], frames: int, short_side: int) -> bool:
    """Whether a video is static.

    Args:
        pairs: Mean length of the fastest 2% of the flow from each frame to the next, in pixels.
        ends: The same from the first to the last frame and back.
        frames: n.
        short_side: Of the frames, in pixels.
    """
    threshold, allowed = 3.0 * short_side / 256, round(2 * frames / 16)
    moving = sum(score > threshold for score in pairs)
    return moving <= allowed and all(score <= threshold * allowed * 2 for score in ends)


class _Watching(Observer):
    def __init__(self, name: str, flow: Flow | None, video: VideoFacts) -> None:
        self.name, self.flow, self.video = name, flow, video
        self.refused = flow.refuses(video.height, video.width) if flow else ""
        self.first: Frame | None = None
        self.before: Frame | None = None
        self.total, self.count = 0.0, 0
        self.moved: list[float] = []
        self.moves = False
        self.short = min(video.height, video.width)

    def update(self, frames: Frames) -> None:
        for frame in frames:
            if self.first is None or self.before is None:
                self.first = frame
            else:
                self.total += float(np.abs(frame.astype(np.int16) - self.before).mean(dtype=np.float64))
                self.count += 1
                if self.flow and not self.refused and not self.moves:
                    self.moved.append(fastest(self.flow(self.before, frame), _SHARE))
                    # Once more pairs move than may, the rest of a long video cannot make it static again.
                    self.moves = not is_static(self.moved, (), self.video.frames, self.short)
            self.before = frame

    def scores(self) -> Mapping[str, Score]:
        if not self.count or self.first is None or self.before is None:
            return {self.name: Score.none("a single frame cannot flicker")}
        if self.refused:
            return {self.name: Score.none(self.refused)}
        value = (255 - self.total / self.count) / 255
        if self.flow is None:
            return {self.name: Score(value)}
        static = False
        if not self.moves:
            both = ((self.first, self.before), (self.before, self.first))
            ends = [fastest(self.flow(one, other), _SHARE) for one, other in both]
            static = is_static(self.moved, ends, self.video.frames, self.short)
        return {self.name: Score(value, details={"static": static, "prompt": self.video.prompt})}
