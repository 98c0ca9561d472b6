"""Objects, their colors and how they stand to each other (VBench, arXiv 2311.17982, 4.2), by open-vocabulary detectors.

VBench asks GRiT, whose files cannot be had as a package; the formulas here are its own, the detector is not, so figures
bear the detector's name, such as `object_class/owlv2`, and are on a scale of their own. All look at the frames in the
middles of 16 equal stretches; a video shorter than that has its last frame counted for the rest, as in VBench.

Letters: N frames of a chunk.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from eval.metric import Frames, Metric, Observer, Score, VideoFacts
from eval.metrics.detection import Box, Detector, Owlv2
from eval.metrics.middle import MiddleFrames

__all__ = ["Color", "MultipleObjects", "ObjectClass", "SpatialRelationship", "color_rate", "relation_score", "told"]

Quirks = Literal["vbench", "fixed"]
Corners = tuple[float, float, float, float]

_FRAMES = 16
_COLORS = ("white", "red", "pink", "blue", "silver", "purple", "orange", "green", "gray", "yellow", "black", "grey")
_OVERLAP = 0.1  # intersection over union from which a relation counts less


def told(info: Mapping[str, Any], dimension: str) -> Any:
    """What VBench's list of prompts says for a dimension, None if nothing.

    A value wrapped in names of its own, as `{"color": {"color": "red"}}`, comes out as `red`.
    """
    value = info.get(dimension)
    while isinstance(value, Mapping) and len(value) == 1:
        value = next(iter(value.values()))
    return value


class _Detected(Metric):
    """What the four have in common: queries for a video, and a score out of what was found for them.

    Args:
        detector: What finds objects; OWLv2 if null.
        device: Where OWLv2 runs, if no detector is named.
    """

    dimension: ClassVar[str]

    def __init__(self, detector: Detector | None = None, device: str = "cpu") -> None:
        self.detector = detector or Owlv2(device=device)
        self.names = (f"{self.dimension}/{self.detector.name}",)

    def observe(self, video: VideoFacts) -> Observer:
        """Begin a video; `info` says what to look for, as VBench's list of prompts does."""
        return _Watching(self, video)

    def made_by(self) -> dict[str, Any]:
        """The detector."""
        return {"detector": self.detector.made_by(), "frames": _FRAMES}

    @abstractmethod
    def queries(self, video: VideoFacts) -> list[str]:
        """What to look for in a video; empty if its prompt does not say."""

    @abstractmethod
    def score(self, found: Sequence[Sequence[Box]], video: VideoFacts) -> Score:
        """A video's score, from what was found in each frame that was looked at."""


class ObjectClass(_Detected):
    """In what part of the frames the object is that the prompt names.

    Args:
        detector: What finds objects; OWLv2 if null.
        device: Where OWLv2 runs, if no detector is named.
    """

    dimension = "object_class"

    def queries(self, video: VideoFacts) -> list[str]:
        """The object."""
        name = told(video.info, self.dimension)
        return [str(name)] if name else []

    def score(self, found: Sequence[Sequence[Box]], video: VideoFacts) -> Score:
        """The share of frames with it."""
        return Score(_share_with_all(found, self.queries(video)))


class MultipleObjects(_Detected):
    """In what part of the frames both objects are that the prompt names.

    Args:
        detector: What finds objects; OWLv2 if null.
        device: Where OWLv2 runs, if no detector is named.
    """

    dimension = "multiple_objects"

    def queries(self, video: VideoFacts) -> list[str]:
        """Both objects, out of `bird and cat`."""
        names = str(told(video.info, self.dimension) or "").split(" and ")
        return [name.strip() for name in names] if len(names) == 2 else []

    def score(self, found: Sequence[Sequence[Box]], video: VideoFacts) -> Score:
        """The share of frames with both."""
        return Score(_share_with_all(found, self.queries(video)))


class Color(_Detected):
    """How often the object has the color that the prompt names, among the frames where it has any.

    The detector is asked for the object in each of VBench's twelve colors, and the surest color of a box is taken for
    what a caption would say. A video in which it never has one has no score and does not count. Two of VBench's ways
    do not arise: its captions may name the color of something else, and are all paired with the first of the classes
    that were found.

    Args:
        detector: What finds objects; OWLv2 if null.
        device: Where OWLv2 runs, if no detector is named.
    """

    dimension = "color"

    def queries(self, video: VideoFacts) -> list[str]:
        """The object in each color."""
        color, thing = self._color_and_object(video)
        return [f"{name} {thing}" for name in _COLORS] if color and thing else []

    def score(self, found: Sequence[Sequence[Box]], video: VideoFacts) -> Score:
        """Frames with it in its color over frames with it in any."""
        color, thing = self._color_and_object(video)
        colors = [{box.label.removesuffix(f" {thing}") for box in boxes} for boxes in found]
        rate = color_rate(colors, color)
        return Score.none(f"no frame shows a {thing} of any color") if rate is None else Score(rate)

    def _color_and_object(self, video: VideoFacts) -> tuple[str, str]:
        """`a red bicycle` -> `red`, `bicycle`; the object is what is left of the prompt."""
        color = str(told(video.info, self.dimension) or "")
        if color and color not in _COLORS:
            raise ValueError(f"color {color!r} is none that is looked for; choose out of {', '.join(_COLORS)}")
        words = [word for word in video.prompt.split() if word.lower() not in ("a", "an", color)]
        return color, " ".join(words)


class SpatialRelationship(_Detected):
    """How far two objects stand to each other as the prompt says.

    A frame's score is the best over pairs of boxes, a video's the mean over frames.

    Args:
        detector: What finds objects; OWLv2 if null.
        device: Where OWLv2 runs, if no detector is named.
        quirks: `vbench` counts as its code does: any two boxes are a pair, even of one object, and left is as good as
            right, top as good as bottom. `fixed` wants one box of each object, and on the right side.
    """

    dimension = "spatial_relationship"

    def __init__(self, detector: Detector | None = None, device: str = "cpu", quirks: Quirks = "vbench") -> None:
        super().__init__(detector, device)
        self.quirks = quirks

    def made_by(self) -> dict[str, Any]:
        """The detector, and which way pairs are counted."""
        return {**super().made_by(), "quirks": self.quirks}

    def queries(self, video: VideoFacts) -> list[str]:
        """Both objects."""
        asked = told(video.info, self.dimension)
        return [asked["object_a"], asked["object_b"]] if asked else []

    def score(self, found: Sequence[Sequence[Box]], video: VideoFacts) -> Score:
        """The mean over frames."""
        relation = told(video.info, self.dimension)["relationship"]
        first, second = self.queries(video)
        rates = []
        for boxes in found:
            if self.quirks == "vbench":
                pairs = [(a.corners, b.corners) for place, a in enumerate(boxes) for b in boxes[place + 1 :]]
            else:
                pairs = [(a.corners, b.corners) for a in boxes for b in boxes if (a.label, b.label) == (first, second)]
            rates.append(max((relation_score(relation, *pair, self.quirks) for pair in pairs), default=0.0))
        return Score(math.fsum(rates) / len(rates))


class _Watching(Observer):
    def __init__(self, metric: _Detected, video: VideoFacts) -> None:
        self.metric, self.video = metric, video
        self.queries = metric.queries(video)
        self.middles = MiddleFrames(_FRAMES, video.frames)
        self.found: list[list[Box]] = []

    def update(self, frames: Frames) -> None:
        if self.queries:
            chosen = self.middles.pick(frames)
            if len(chosen):
                self.found += self.metric.detector.detect(chosen, self.queries)

    def scores(self) -> Mapping[str, Score]:
        name = self.metric.names[0]
        if not self.queries:
            return {name: Score.none(f"the prompt says nothing on {self.metric.dimension.replace('_', ' ')}")}
        self.middles.check()
        return {name: self.metric.score(self.found, self.video)}


def _share_with_all(found: Sequence[Sequence[Box]], labels: Sequence[str]) -> float:
    return sum({box.label for box in boxes} >= set(labels) for boxes in found) / len(found)


def color_rate(colors: Sequence[set[str]], color: str) -> float | None:
    """Frames with a color over frames with any; None if there are none.

    Args:
        colors: Those that the object has in each frame.
        color: The one that it should have.
    """
    colored = sum(bool(names) for names in colors)
    return sum(color in names for names in colors) / colored if colored else None


def relation_score(relation: str, first: Corners, second: Corners, quirks: Quirks = "vbench") -> float:
    """How far a box stands to another as it should, from 0 to 1.

    The distance between the middles must be greater along the axis of the relation than along the other. Boxes that
    overlap by an intersection over union of at least 0.1 count 0.1 over it.

    Args:
        relation: `on the left of`, `on the right of`, `on the top of` or `on the bottom of`.
        first: Corners of what should be there.
        second: Corners of what it should be beside.
        quirks: `fixed` looks which of them is on which side, `vbench` does not.
    """
    if relation not in _DIRECTIONS:
        raise ValueError(f"relationship {relation!r} is unknown; choose out of {', '.join(_DIRECTIONS)}")
    axis, sign = _DIRECTIONS[relation]
    middles = [[(box[side] + box[side + 2]) / 2 for side in (0, 1)] for box in (first, second)]
    apart = [middles[0][side] - middles[1][side] for side in (0, 1)]
    if abs(apart[axis]) <= abs(apart[1 - axis]) or (quirks == "fixed" and apart[axis] * sign < 0):
        return 0.0
    overlap = _overlap(first, second)
    return 1.0 if overlap < _OVERLAP else _OVERLAP / overlap


_DIRECTIONS = {
    "on the left of": (0, -1),
    "on the right of": (0, 1),
    "on the top of": (1, -1),
    "on the bottom of": (1, 1),
}
"""Axis of each relation (0 along x, 1 along y, which points down), and on which side of the other the object is."""


def _overlap(first: Corners, second: Corners) -> float:
    """Intersection over union; boxes of no area do not overlap."""
    sides = [max(0.0, min(first[k + 2], second[k + 2]) - max(first[k], second[k])) for k in (0, 1)]
    both = sides[0] * sides[1]
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)) - both
    return both / union if union else 0.0
