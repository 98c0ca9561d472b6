"""What a metric is: it watches a video go by and says, for each of its figures, a number or why there is none.

A video is decoded once. Its frames go by in chunks, to all metrics at the same time, so memory does not grow with its
length. A metric is plain options and can be pickled; networks are loaded where they are first needed, once a process
(`functools.cache` on the loading function), and metrics that ask the same network about the same chunk share the answer
(`Memo`).

Letters: N frames of a chunk, H height, W width.
"""

import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Frame", "Frames", "Memo", "Metric", "Observer", "Recent", "Score", "VideoFacts", "weighted_mean"]

Frames = NDArray[np.uint8]
"""`(N, H, W, 3)` RGB, N at least 1."""

Frame = NDArray[np.uint8]
"""`(H, W, 3)` RGB."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class VideoFacts:
    """What is known of a video before its first frame.

    Attributes:
        name: Its name in the results: the path of its file within the folder.
        frames: How many frames will go by, exactly.
        fps: Frames per second.
        height: In pixels.
        width: In pixels.
        prompt: What it was made for; empty if unknown.
        info: What the suite knows of the prompt, such as the color that it names; plain JSON data.
        enlarged: By which whole factor the file says that its pixels were enlarged when it was written.
    """

    name: str
    frames: int
    fps: float
    height: int
    width: int
    prompt: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    enlarged: int = 1


@dataclass(frozen=True)
class Score:
    """One figure of one video.

    Attributes:
        value: The figure, None if the video has none.
        weight: How much it counts in the mean over the videos: 1, or the frames where the mean is over frames.
        why: Why there is no value, in a few words; empty if there is one.
        details: What else is worth keeping, plain JSON data.
    """

    value: float | None
    weight: float = 1.0
    why: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.value is None and not self.why:
            raise ValueError("a score without a value says why")
        for number in (self.value, self.weight):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"a score is a finite number, got {number}")

    @classmethod
    def none(cls, why: str) -> "Score":
        """No value, and why."""
        return cls(None, why=why)


class Observer(ABC):
    """One metric watching one video."""

    @abstractmethod
    def update(self, frames: Frames) -> None:
        """Take the next frames, `(N, H, W, 3)` uint8, all of the size that was announced."""

    @abstractmethod
    def scores(self) -> Mapping[str, Score]:
        """One score for each of the metric's names; called once, after the last frame."""


class Metric(ABC):
    """Yields figures of videos, and of a set of videos.

    Attributes:
        names: Of its figures. A figure that a benchmark defines bears the benchmark's name only if it was computed with
            what the benchmark asks for; else the name ends in what was used, such as `subject_consistency/lite`.
    """

    names: tuple[str, ...]

    @abstractmethod
    def observe(self, video: VideoFacts) -> Observer:
        """Begin a video."""

    def corpus(self, name: str, scores: Sequence[Score]) -> float | None:
        """The figure of a set of videos: by default the weighted mean of those that have one, None if none has."""
        return weighted_mean(scores)

    def made_by(self) -> dict[str, Any]:
        """What the figures rest on: networks and the hashes of their weights, sizes, quirks; plain JSON data."""
        return {}


def weighted_mean(scores: Sequence[Score]) -> float | None:
    """Mean of the values by weight; None without any."""
    found = [(score.value, score.weight) for score in scores if score.value is not None]
    total = math.fsum(weight for _, weight in found)
    return math.fsum(value * weight for value, weight in found) / total if total else None


class Memo(Generic[Answer]):
    """Remembers the answer about the last chunk, so that metrics which ask the same of it share the work.

    Args:
        ask: The function to remember; its argument is a chunk of frames.
    """

    def __init__(self, ask: Callable[[Frames], Answer]) -> None:
        self._ask = ask
        self._last: tuple[Frames, Answer] | None = None

    def __call__(self, frames: Frames) -> Answer:
        """The answer about a chunk; one array object is one chunk."""
        if self._last is None or self._last[0] is not frames:
            self._last = (frames, self._ask(frames))
        return self._last[1]


class Recent(Generic[Answer]):
    """Remembers answers about the last frames, or pairs of them, so that metrics which ask the same share the work.

    Frames are known by where they lie in memory: metrics cut them out of the same chunk, each for itself. What is
    remembered keeps its frames alive, so no other frame can lie where one of them does.

    Args:
        ask: The function to remember; its arguments are frames `(H, W, 3)`.
        size: How many answers are kept.
    """

    def __init__(self, ask: Callable[..., Answer], size: int = 64) -> None:
        self._ask, self._size = ask, size
        self._known: OrderedDict[tuple[tuple[int, tuple[int, ...]], ...], tuple[tuple[Frame, ...], Answer]] = (
            OrderedDict()
        )

    def __call__(self, *frames: Frame) -> Answer:
        """The answer about a frame, or about several."""
        key = tuple((frame.__array_interface__["data"][0], frame.shape) for frame in frames)
        if key not in self._known:
            self._known[key] = (frames, self._ask(*frames))
            if len(self._known) > self._size:
                self._known.popitem(last=False)
        return self._known[key][1]
