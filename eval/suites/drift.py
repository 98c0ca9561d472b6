"""How much a long video loses on the way: figures of its chunks, compared with those of the first.

    drift = mean over chunks i > 1 of sum over figures of weight * |m_i - m_1| / m_1

The figures are those that need no download, so the name ends in `/lite`; each has the same weight, and their sum
is 1. 0 is a video whose end is as good as its beginning.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.clips import Clips
from eval.metric import Metric, Score
from eval.suite import Prompt, Suite, Summary

__all__ = ["Drift"]

_TOTAL = "drift/lite"
_FIGURES = ("subject_consistency/lite", "background_consistency/lite", "motion_smoothness/lite", "imaging_quality/lite")


class Drift(Suite):
    """Loss of quality over the length of a video, from chunks of a few seconds.

    Args:
        seconds: Length of a chunk; a video needs two at least.
        device: Where the network runs: cpu, cuda or cuda:N.
    """

    name = "drift"

    def __init__(self, seconds: float = 2.0, device: str = "cpu") -> None:
        if not seconds > 0:
            raise ValueError(f"Drift: seconds is {seconds}; give the length of a chunk, such as 2")
        self.seconds, self.device = seconds, device

    def metrics(self) -> Sequence[Metric]:
        """The figures, chunk by chunk."""
        from eval.suites.metric_sets import lite_metrics

        chosen = [metric for metric in lite_metrics(self.device) if set(metric.names) & set(_FIGURES)]
        return [Clips(metric, self.seconds) for metric in chosen]

    def summarize(self, scores: Mapping[str, Sequence[tuple[Prompt, Score]]]) -> Summary:
        """Mean of each figure over chunks and videos, how far each drifts, and the sum."""
        figures = dict(super().summarize(scores).figures)
        drifts, missing = [], []
        for name in _FIGURES:
            found = [drift for _, score in scores.get(name, ()) if (drift := drift_of(score)) is not None]
            figures[f"drift_of_{name}"] = sum(found) / len(found) if found else None
            if found:
                drifts.append(sum(found) / len(found) / len(_FIGURES))
            else:
                missing.append(name)
        if missing:
            return Summary(figures, refused={_TOTAL: f"no video has two chunks of {self.seconds:g} s of {missing[0]}"})
        return Summary(figures, {_TOTAL: sum(drifts)})

    def settings(self) -> dict[str, Any]:
        """The length of a chunk."""
        return super().settings() | {"seconds": self.seconds, "better": "lower"}


def drift_of(score: Score) -> float | None:
    """Mean relative distance of a video's later chunks from its first; None without two chunks."""
    values = [value for value in score.details.get("clips", ()) if value is not None]
    if len(values) < 2 or values[0] == 0:
        return None
    return sum(abs(value - values[0]) / abs(values[0]) for value in values[1:]) / (len(values) - 1)
