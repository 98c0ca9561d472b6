"""What a filter is: what it measures of a file, the scores it makes of that for a clip, and when it drops the clip.

A new filter is one file with one subclass of `Filter` (or `SetFilter`), named in YAML by its class path. Its work is in
two halves that meet only in what was measured:

1. `meter()` gives an object that is fed the frames of one file, in the one pass that all filters share. What it returns
   is kept on disk, and taken anew only when the file or an option named in `measured_by` changes.
2. `scores()` and `keep()` turn what was measured between the clip's start and end into numbers and a verdict. They see
   no frames, so that another threshold is another decision and no other pass.

So a meter keeps a series over time, not a number: where the clips begin and end is known only afterwards.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lingen_kit.errors import MissingPackage

if TYPE_CHECKING:
    import numpy as np

    from lingen_kit.data.curation.frame import Frame

    Series = np.ndarray[Any, np.dtype[Any]]
    Measured = Mapping[str, Series]

Limit = tuple[float | None, float | None]
"""The least and the greatest value of a score with which a clip is kept; None for no limit."""

_EPSILON = 1e-6  # seconds; a frame is on time in spite of rounding


@dataclass
class Candidate:
    """A clip on which the filters decide.

    Attributes:
        name: What tells it apart: the file's name, followed by `#start-end` for a stretch of it.
        path: The file.
        caption: What it shows.
        start: Seconds into the file where it begins.
        end: Seconds into the file where it ends.
        duration: Seconds of the whole file.
        fps: Frames per second of the file.
        width: Pixels from left to right, upright.
        height: Pixels from top to bottom, upright.
        attributes: What the data set says about it.
        file: Name of the file within the data set.
        scores: Of every filter, by name; NaN where a score cannot be had.
        decision: What a person said.
        captioned: Whether a person wrote the caption.
        dropped_by: The filter that dropped it first.
        reason: Why.
    """

    name: str
    path: Path
    caption: str
    start: float
    end: float
    duration: float
    fps: float
    width: int
    height: int
    attributes: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    decision: Literal["keep", "drop"] | None = None
    captioned: bool = False
    dropped_by: str | None = None
    reason: str | None = None

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return self.end - self.start

    @property
    def kept(self) -> bool:
        """Whether nothing has dropped it."""
        return self.dropped_by is None

    def inside(self, times: Series) -> Series:
        """Which of some moments (sorted seconds) lie in the clip, as indices; its end does not belong to it."""
        import numpy as np

        first, last = np.searchsorted(times, [self.start - _EPSILON, self.end - _EPSILON])
        return np.arange(first, last)


class Meter(ABC):
    """Measures one file, frame by frame, in memory that grows by a few numbers a sample.

    Args:
        fps: Frames per second that it wants to see; None for all.
    """

    def __init__(self, fps: float | None) -> None:
        self.fps = fps
        self._next = 0.0

    def offer(self, frame: Frame) -> None:
        """Take a frame of the pass, or let it go by."""
        if self.fps is None:
            self.add(frame)
        elif frame.time + _EPSILON >= self._next:
            self.add(frame)
            self._next = (math.floor(frame.time * self.fps + _EPSILON) + 1) / self.fps

    @abstractmethod
    def add(self, frame: Frame) -> None:
        """Measure a frame."""

    @abstractmethod
    def result(self) -> Measured:
        """What was measured: named arrays, after the last frame."""


class Filter(ABC):
    """One reason to drop a clip; see the module for its two halves."""

    explains: ClassVar[Mapping[str, str]] = {}
    """The scores it gives, each with its unit and meaning in a few words."""
    measured_by: ClassVar[tuple[str, ...]] = ()
    """Options on which the measure depends; a change of others decides anew and measures nothing."""
    version: ClassVar[int] = 1
    """Of the measure; to be raised with every change of the code that changes what comes out of it."""
    judges_captions: ClassVar[bool] = False
    """Whether it looks at the caption alone; then it has no say in a clip that has none yet."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Modules that it imports beyond the kit's own requirements."""

    def meter(self) -> Meter | None:
        """What is fed the frames of a file; None if the filter needs none."""
        return None

    @property
    def measures(self) -> bool:
        """Whether it has a meter."""
        return type(self).meter is not Filter.meter

    def propose(self, clip: Candidate, measured: Measured) -> Sequence[tuple[float, float]]:
        """Stretches (start, end) into which a clip is to be cut before anything is decided; by default itself."""
        return [(clip.start, clip.end)]

    @abstractmethod
    def scores(self, clip: Candidate, measured: Measured) -> dict[str, float]:
        """The numbers of `explains` for a clip, from what the filter's meter measured; NaN where there is none."""

    def limits(self) -> Mapping[str, Limit]:
        """Which values of which scores are kept."""
        return {}

    def keep(self, scores: Mapping[str, float]) -> str | None:
        """Why a clip with these scores is dropped; None to keep it."""
        for name, (least, greatest) in self.limits().items():
            value = scores[name]
            if math.isnan(value) and (least is not None or greatest is not None):
                return f"{name} cannot be measured: no sample lies in the clip"
            if least is not None and value < least:
                return f"{name} {plain(value)} is below {plain(least)}"
            if greatest is not None and value > greatest:
                return f"{name} {plain(value)} is above {plain(greatest)}"
        return None

    def check(self, scores: Sequence[str]) -> None:
        """Look for what can be known to be wrong before a file is opened.

        Args:
            scores: Names of the scores that all filters together give.

        Raises:
            ValueError: If an option cannot work.
            MissingPackage: If a package is missing.
        """
        owner, fps = type(self).__name__, getattr(self, "fps", None)
        if fps is not None and not 0 < fps < math.inf:
            raise ValueError(f"{owner}: fps {fps} must be above 0: so many frames per second are looked at")
        for package in self.packages:
            require(package, owner)

    def measure_key(self, shorter_side: int) -> str:
        """What the filter measures, as a name that changes with the options that matter."""
        options = {name: getattr(self, name) for name in self.measured_by}
        kind = type(self)
        identity = [kind.__module__, kind.__qualname__, self.version, shorter_side, options]
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
        return f"{kind.__name__}-{digest[:12]}"


class SetFilter(Filter):
    """A filter that looks at all clips which the others left; those run first, whatever the order in the file."""

    def scores(self, clip: Candidate, measured: Measured) -> dict[str, float]:
        """None of its own, by default."""
        return {}

    @abstractmethod
    def choose(
        self, clips: Sequence[Candidate], rejected: Sequence[Candidate], measured: Mapping[str, Measured]
    ) -> dict[str, str]:
        """Which clips to drop, by name, with the reason of each.

        Args:
            clips: What is left. Those with the decision `keep` a person wants to have: they stay, and count.
            rejected: What a person dropped.
            measured: By a clip's name, what the filter's meter measured of its file.
        """

    def report(self) -> dict[str, Any]:
        """What the last `choose` found, as plain data for `report.json`."""
        return {}


def require(package: str, owner: str) -> None:
    """Import a package of the extra `curate`.

    Raises:
        MissingPackage: If that cannot be done.
    """
    try:
        import_module(package)
    except ImportError as error:
        raise MissingPackage(
            f'{owner} needs {package}, which cannot be imported ({error}); pip install "lingen_kit[curate]"'
        ) from error


def check_best(owner: str, best: str, scores: Sequence[str]) -> None:
    """Check that the score by which a set filter ranks is one that a filter gives.

    Raises:
        ValueError: If none does.
    """
    if best not in scores:
        raise ValueError(f"{owner}: keep_best {best!r} is the score of no filter; choose out of {', '.join(scores)}")


def rank(clip: Candidate, best: str) -> tuple[bool, float, float, str]:
    """Sort key that puts the best clip first: a person's choice, the score, the length, and the name for good."""
    score = clip.scores[best]
    return (clip.decision != "keep", math.inf if math.isnan(score) else -score, -clip.seconds, clip.name)


def plain(value: float) -> str:
    """A number as people write it."""
    return f"{value:.4g}" if abs(value) < 10000 else f"{value:.0f}"


def round_down(seconds: float) -> float:
    """An end in whole milliseconds, never later than it is: rounding must not ask for more than there is."""
    return math.floor(seconds * 1000 + 1e-6) / 1000


def pack(measured: Measured) -> dict[str, list[Any]]:
    """Arrays as plain data; base64, as a list of numbers would take several times the memory and the disk."""
    return {
        name: [array.dtype.str, list(array.shape), base64.b64encode(array.tobytes()).decode()]
        for name, array in measured.items()
    }


def unpack(packed: Mapping[str, Any]) -> dict[str, Series]:
    """The arrays of `pack`."""
    import numpy as np

    return {
        name: np.frombuffer(base64.b64decode(data), dtype).reshape(shape)
        for name, (dtype, shape, data) in packed.items()
    }
