"""Long videos, clip by clip, as VBench-Long scores them: a metric that watches each clip with an observer of its own.

A clip has int(fps) * seconds frames. The last one is filled with frames from before, so that all are of one length; a
video shorter than a clip is one clip.

Letters: N frames of a chunk, F frames of a clip.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from eval.metric import Frames, Metric, Observer, Score, VideoFacts

__all__ = ["Clips", "clip_length", "clip_starts"]


class Clips(Metric):
    """A metric's mean over the clips of a video; a set of videos is the mean over videos.

    Args:
        metric: What is asked of each clip.
        seconds: Length of a clip.
    """

    def __init__(self, metric: Metric, seconds: float) -> None:
        self.metric, self.seconds = metric, seconds
        self.names = metric.names

    def observe(self, video: VideoFacts) -> Observer:
        """Begin a video."""
        return _Clipping(self.metric, self.seconds, video)

    def corpus(self, name: str, scores: Sequence[Score]) -> float | None:
        """The metric's own figure of a set, each video counting once."""
        return self.metric.corpus(name, [replace(score, weight=1.0) for score in scores])

    def made_by(self) -> dict[str, Any]:
        """The metric, and the length of the clips."""
        return {"clip_seconds": self.seconds, **self.metric.made_by()}


def clip_starts(frames: int, length: int) -> list[int]:
    """First frame of each clip.

    Args:
        frames: Of the video.
        length: F; the last clip begins so early that it is of this length, too.
    """
    starts = list(range(0, max(1, frames - length + 1), length))
    if starts[-1] + length < frames:
        starts.append(frames - length)
    return starts


def clip_length(video: VideoFacts, seconds: float) -> int:
    """Frames of a clip, F: the rate rounded down times the length, or the whole video if it is shorter."""
    return max(1, min(video.frames, int(int(video.fps) * seconds)))


class _Clipping(Observer):
    def __init__(self, metric: Metric, seconds: float, video: VideoFacts) -> None:
        self.metric, self.video = metric, video
        self.length = clip_length(video, seconds)
        self.starts = deque(clip_starts(video.frames, self.length))
        self.seen = 0
        self.open: list[tuple[int, Observer]] = []  # first frame, and who watches: two where the last clips overlap
        self.found: list[Mapping[str, Score]] = []

    def update(self, frames: Frames) -> None:
        end = self.seen + len(frames)
        while self.starts and self.starts[0] < end:
            start = self.starts.popleft()
            self.open.append((start, self.metric.observe(replace(self.video, frames=self.length))))
        going = []
        for start, observer in self.open:
            first, last = max(start, self.seen), min(start + self.length, end)
            whole = first == self.seen and last == end
            observer.update(frames if whole else np.ascontiguousarray(frames[first - self.seen : last - self.seen]))
            if start + self.length <= end:
                self.found.append(observer.scores())
            else:
                going.append((start, observer))
        self.open, self.seen = going, end

    def scores(self) -> Mapping[str, Score]:
        return {name: _mean([scores[name] for scores in self.found]) for name in self.metric.names}


def _mean(scores: Sequence[Score]) -> Score:
    values = [score.value for score in scores if score.value is not None]
    if not values:
        return Score.none(scores[0].why)
    details = {"clips": [score.value for score in scores], **_kept(scores[0])}
    return Score(sum(values) / len(values), details=details)


def _kept(score: Score) -> dict[str, Any]:
    """What the figure of a set asks of a video."""
    return {name: score.details[name] for name in ("static", "prompt") if name in score.details}
