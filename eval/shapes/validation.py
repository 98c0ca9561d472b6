"""Whether a judge can be trusted: its words on perfect clips, and its dimensions as faults grow.

A judge is a function from frames to a `SceneObservation`, so the judge by formulas and one by a network are validated
by the same code, on the same clips.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from eval.metric import Score, weighted_mean
from eval.shapes.dimensions import DIMENSIONS, dimensions
from eval.shapes.faults import FAULTS, Clip
from eval.shapes.match import match
from eval.shapes.observation import Judge
from lingen_kit.data.shapes import MovingShapesDataset

__all__ = ["FaultTable", "clean_accuracy", "clips_of", "falls", "fault_table", "seconds_a_clip"]

_RISE = 0.005  # how much a mean may rise as a fault grows and still count as falling: chance of the fault itself


def clips_of(count: int, *, objects: int, frames: int = 8, side: int = 32, seed: int = 0) -> list[Clip]:
    """Perfect clips of the whole grammar, of combinations that training never shows.

    Args:
        count: How many.
        objects: In each clip.
        frames: Of a clip.
        side: Of a frame, in pixels.
        seed: Another seed gives other clips.
    """
    dataset = MovingShapesDataset(
        split="validation", objects=(objects, objects), frames=frames, height=side, width=side, seed=seed
    )
    return [Clip.of(dataset, index) for index in range(count)]


def clean_accuracy(judge: Judge, clips: Sequence[Clip]) -> dict[str, float]:
    """Shares of right words on perfect clips.

    Returns:
        `objects` (as many as there are), `background`, `color`, `shape`, `size`, `action`, and `all`: clips in which
        every word is right.

    Raises:
        ValueError: There are no clips.
    """
    if not clips:
        raise ValueError("no clips to judge; give at least one")
    hits: dict[str, list[bool]] = defaultdict(list)
    for clip in clips:
        observation = judge(clip.paint())
        right = [
            ("objects", len(observation.objects) == len(clip.tracks)),
            ("background", observation.background == clip.scene.background),
        ]
        for pair in match(clip.scene, observation, min(clip.height, clip.width)):
            right += list(pair.right.items())
        for name, hit in right:
            hits[name].append(hit)
        hits["all"].append(all(hit for _, hit in right))
    return {name: sum(values) / len(values) for name, values in hits.items()}


@dataclass(frozen=True)
class FaultTable:
    """Mean of each dimension under each fault.

    Attributes:
        strengths: Of the faults, rising from 0.
        means: For each fault and dimension one mean for each strength, None where no clip has the dimension.
    """

    strengths: tuple[float, ...]
    means: Mapping[str, Mapping[str, tuple[float | None, ...]]]

    def course(self, fault: str, dimension: str) -> tuple[float, ...]:
        """The means of one dimension, by its plain name, as one fault grows.

        Raises:
            ValueError: No clip has the dimension.
        """
        values = self.means[fault][f"shapebench/{dimension}"]
        known = tuple(value for value in values if value is not None)
        if len(known) < len(values):
            raise ValueError(f"no clip has {dimension} under {fault!r}; give clips whose prompts ask for it")
        return known

    def broken(self) -> list[str]:
        """Each dimension that a fault must lower and does not, in words; empty if all is well."""
        return [
            f"{fault}: {name} goes {', '.join(f'{value:.3f}' for value in self.course(fault, name))}"
            for fault in self.means
            for name in FAULTS[fault].lowers
            if not falls(self.course(fault, name))
        ]


def falls(course: Sequence[float], least: float = 0.02) -> bool:
    """Whether a course never rises, but for chance, and ends lower than it begins by at least so much."""
    rises = [after - before for before, after in pairwise(course)]
    return course[-1] <= course[0] - least and max(rises) <= _RISE


def fault_table(
    judge: Judge,
    clips: Sequence[Clip],
    strengths: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    faults: Sequence[str] = tuple(FAULTS),
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> FaultTable:
    """Judge clips under every fault at every strength.

    Args:
        judge: From frames to what they show.
        clips: Perfect clips.
        strengths: From 0 to 1, rising.
        faults: Names of faults.
        seed: Of the chance in the faults.
        progress: Called with a line for each fault.

    Raises:
        ValueError: There are no clips, or a fault is unknown.
    """
    if not clips:
        raise ValueError("no clips to judge; give at least one")
    unknown = [name for name in faults if name not in FAULTS]
    if unknown:
        raise ValueError(f"unknown faults {', '.join(unknown)}; choose out of {', '.join(FAULTS)}")
    means: dict[str, dict[str, tuple[float | None, ...]]] = {}
    for fault in faults:
        rows: list[dict[str, float | None]] = []
        for strength in strengths:
            scores: dict[str, list[Score]] = defaultdict(list)
            for index, clip in enumerate(clips):
                frames = FAULTS[fault](clip, strength, seed * 1_000_003 + index)
                for name, score in dimensions(clip.scene, judge(frames), frames).items():
                    scores[name].append(score)
            rows.append({name: weighted_mean(scores[name]) for name in DIMENSIONS})
        means[fault] = {name: tuple(row[name] for row in rows) for name in DIMENSIONS}
        progress(fault)
    return FaultTable(tuple(strengths), means)


def seconds_a_clip(judge: Judge, clips: Sequence[Clip]) -> float:
    """Wall-clock seconds for each clip, from frames to all dimensions."""
    painted = [clip.paint() for clip in clips]
    dimensions(clips[0].scene, judge(painted[0]), painted[0])
    start = time.perf_counter()
    for clip, frames in zip(clips, painted, strict=True):
        dimensions(clip.scene, judge(frames), frames)
    return (time.perf_counter() - start) / len(clips)
