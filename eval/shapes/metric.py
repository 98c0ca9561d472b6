"""ShapeBench as a metric: one look at a video gives all figures.

Letters: T frames, H height, W width.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from eval.metric import Frames, Metric, Observer, Score, VideoFacts
from eval.shapes.dimensions import DIMENSIONS, dimensions
from eval.shapes.native import pixel_side, reduce_frames
from eval.shapes.observe import observe
from lingen_kit.data.shapes_grammar import parse

__all__ = ["ShapeJudgement"]

_AGREE = "shapebench/judges_agree"
_MOST_FRAMES = 64  # of a longer video that many are looked at, evenly spaced


class ShapeJudgement(Metric):
    """All dimensions of ShapeBench, from one judgement of what a video shows.

    Args:
        judge: `formulas` on the pixels, or the trained `network` for all words; geometry is always measured. With the
            network there is one figure more, `shapebench/judges_agree`: the share of words that both say alike.
    """

    def __init__(self, judge: Literal["formulas", "network"] = "formulas") -> None:
        self.judge = judge
        self.names = DIMENSIONS if judge == "formulas" else (*DIMENSIONS, _AGREE)

    def observe(self, video: VideoFacts) -> Observer:
        """Begin a video, whose prompt is a sentence of the grammar.

        Raises:
            ValueError: If it is none.
        """
        parse(video.prompt)
        return _Looking(video, self.judge)

    def made_by(self) -> dict[str, Any]:
        """The judge, with the hash of its weights if it has any."""
        if self.judge == "formulas":
            return {"judge": self.judge}
        from eval.shapes.judge import made_by

        return {"judge": self.judge, **made_by()}


class _Looking(Observer):
    def __init__(self, video: VideoFacts, judge: str) -> None:
        self.video, self.judge = video, judge
        count = min(video.frames, _MOST_FRAMES)
        self.wanted = set(np.linspace(0, video.frames - 1, count).round().astype(int).tolist())
        self.seen = 0
        self.side = 0  # of the squares that are the model's pixels; found from the first frames
        self.kept: list[Frames] = []

    def update(self, frames: Frames) -> None:
        if not self.side:
            self.side = self.video.enlarged if self.video.enlarged > 1 else pixel_side(frames)
        chosen = [index for index in range(len(frames)) if self.seen + index in self.wanted]
        if chosen:
            self.kept.append(reduce_frames(frames[chosen], self.side))
        self.seen += len(frames)

    def scores(self) -> Mapping[str, Score]:
        frames = np.concatenate(self.kept)  # T H W 3
        scene, observation = parse(self.video.prompt), observe(frames)
        if self.judge == "formulas":
            return dimensions(scene, observation, frames)
        from eval.shapes.judge import agreement_of, reworded

        second = reworded(observation, frames)
        alike = agreement_of(observation, second)
        agree = Score(sum(alike.values()) / len(alike), details=alike)
        return {**dimensions(scene, second, frames), _AGREE: agree}
