"""Dynamic degree: whether anything moves (VBench, arXiv 2311.17982, 4.1).

About eight frames a second are compared. A pair moves if the mean of its fastest 5% of pixels exceeds 6 pixels at a
short side of 256, and a video is dynamic if enough of its pairs move. A set of videos is the share of dynamic ones.

Letters: N frames of a chunk, n frames compared.
"""

from collections.abc import Mapping
from typing import Any, Literal

from eval.metric import Frame, Frames, Metric, Observer, Score, VideoFacts
from eval.metrics.flow import Flow, fastest

__all__ = ["DynamicDegree", "is_dynamic"]

Quirks = Literal["vbench", "fixed"]

_SHARE = 0.05


class DynamicDegree(Metric):
    """Whether a video moves: 1 or 0.

    Args:
        flow: What finds the flow.
        quirks: `vbench` counts as its code does, where 2 frames compared are always dynamic, since round(4 * 2 / 16)
            = 0 pairs are asked for; `fixed` asks for one pair at least.
    """

    def __init__(self, flow: Flow, quirks: Quirks = "vbench") -> None:
        self.names = (f"dynamic_degree{flow.name}",)
        self.flow, self.quirks = flow, quirks

    def observe(self, video: VideoFacts) -> Observer:
        """Begin a video."""
        return _Watching(self.names[0], self.flow, self.quirks, video)

    def made_by(self) -> dict[str, Any]:
        """The flow, and which way it is counted."""
        return {"flow": self.flow.made_by(), "quirks": self.quirks}


def is_dynamic(scores: list[float], short_side: int, quirks: Quirks = "vbench") -> bool:
    """Whether enough pairs move.

    Args:
        scores: Mean length of the fastest flows of each pair, in pixels.
        short_side: Of the frames, in pixels.
        quirks: See `DynamicDegree`.
    """
    threshold = 6.0 * short_side / 256
    asked = round(4 * (len(scores) + 1) / 16)
    if quirks == "fixed":
        asked = max(1, asked)
    return bool(scores) and sum(score > threshold for score in scores) >= asked


class _Watching(Observer):
    def __init__(self, name: str, flow: Flow, quirks: Quirks, video: VideoFacts) -> None:
        self.name, self.flow, self.quirks, self.video = name, flow, quirks, video
        self.refused = flow.refuses(video.height, video.width)
        self.stride = max(1, round(video.fps / 8))
        self.seen = 0
        self.before: Frame | None = None
        self.moved: list[float] = []

    def update(self, frames: Frames) -> None:
        if self.refused:
            return
        for index in range(-self.seen % self.stride, len(frames), self.stride):
            if self.before is not None:
                self.moved.append(fastest(self.flow(self.before, frames[index]), _SHARE))
            self.before = frames[index]
        self.seen += len(frames)

    def scores(self) -> Mapping[str, Score]:
        if self.refused:
            return {self.name: Score.none(self.refused)}
        if not self.moved:
            return {self.name: Score.none("one frame to look at has no motion")}
        dynamic = is_dynamic(self.moved, min(self.video.height, self.video.width), self.quirks)
        mean = sum(self.moved) / len(self.moved)
        return {self.name: Score(float(dynamic), details={"mean_flow": mean, "pairs": len(self.moved)})}
