"""A suite for the tests of the engine: cheap figures whose right value is plain to see."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.metric import Frames, Metric, Observer, Score, VideoFacts
from eval.suite import Prompt, Suite, Summary


class Brightness(Metric):
    """Mean gray level, weighted by frames, and the greatest change from the first; `ledger` lists who was watched."""

    names = ("brightness", "change")

    def __init__(self, ledger: Path | None = None) -> None:
        self.ledger = ledger

    def observe(self, video: VideoFacts) -> Observer:
        if self.ledger:
            with self.ledger.open("a") as file:
                file.write(f"{video.name}\n")
        return _Watching(video)


class _Watching(Observer):
    def __init__(self, video: VideoFacts) -> None:
        self.video, self.total, self.pixels, self.seen, self.chunks = video, 0, 0, 0, 0
        self.first: Any = None
        self.change = 0.0

    def update(self, frames: Frames) -> None:
        self.first = frames[0].astype(int) if self.first is None else self.first
        self.total += int(frames.sum(dtype=int))
        self.pixels += frames.size
        self.seen += len(frames)
        self.change = max(self.change, float(abs(frames.astype(int) - self.first).max()))

    def scores(self) -> Mapping[str, Score]:
        change = Score(self.change) if self.seen > 1 else Score.none("one frame has no change")
        return {"brightness": Score(self.total / self.pixels, weight=self.seen), "change": change}


class ToySuite(Suite):
    """Brightness of any video."""

    name = "toy"

    def __init__(self, prompts: Sequence[str] = (), ledger: Path | None = None) -> None:
        self.ledger = ledger
        self.texts = tuple(prompts)

    def metrics(self) -> Sequence[Metric]:
        return [Brightness(self.ledger)]

    def prompts(self) -> Sequence[Prompt]:
        return [Prompt(text) for text in self.texts]

    def summarize(self, scores: Mapping[str, Sequence[tuple[Prompt, Score]]]) -> Summary:
        figures = super().summarize(scores).figures
        if figures["change"] is None:
            return Summary(figures, refused={"total": "change is missing"})
        return Summary(figures, totals={"total": (figures["brightness"] or 0) + figures["change"]})
