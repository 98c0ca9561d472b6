"""What a suite is: prompts, the metrics that videos of them go through, and one table made of the figures."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eval.metric import Metric, Score

__all__ = ["Prompt", "Suite", "Summary"]


@dataclass(frozen=True)
class Prompt:
    """A prompt of a suite.

    Attributes:
        text: The prompt.
        samples: How many videos of it the suite asks for.
        metrics: Names of the figures that its videos are scored for; None for all of the suite.
        info: What the suite knows of it, such as the color that it names; plain JSON data, seen by the metrics.
    """

    text: str
    samples: int = 1
    metrics: frozenset[str] | None = None
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """The table of a suite.

    Attributes:
        figures: Value of each figure over the videos; None if no video has it.
        totals: Combined scores, such as `quality_score`.
        refused: Combined scores that are not given, with the reason.
    """

    figures: Mapping[str, float | None]
    totals: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


class Suite(ABC):
    """A list of metrics, the prompts they ask for, and the way to one table.

    A suite is plain options and can be pickled: worker processes get a copy.

    Attributes:
        name: Such as `shapebench`.
        fixed_prompts: Whether the videos must be of the suite's own prompts; else any video will do.
    """

    name: str
    fixed_prompts: bool = False

    @abstractmethod
    def metrics(self) -> Sequence[Metric]:
        """What videos go through."""

    def prompts(self) -> Sequence[Prompt]:
        """What to sample and score; empty for a suite that takes videos of any prompt."""
        return ()

    def prompt_of(self, text: str) -> Prompt:
        """What the suite knows of a text.

        Raises:
            ValueError: If only the suite's own prompts will do and it is none of them.
        """
        found = next((prompt for prompt in self.prompts() if prompt.text == text), None)
        if found is None and self.fixed_prompts:
            raise ValueError(f"{text!r} is no prompt of {self.name}")
        return found or Prompt(text)

    def suited_to(self, grammar: Mapping[str, Any]) -> "Suite":
        """The suite for a model that was trained on moving shapes.

        Args:
            grammar: Options of its data, such as `actions`: what the suite leaves open is taken from there.
        """
        return self

    def summarize(self, scores: Mapping[str, Sequence[tuple[Prompt, Score]]]) -> Summary:
        """The table.

        Args:
            scores: For each figure the scores of the videos that were asked for it, in order of their names.
        """
        figures: dict[str, float | None] = {}
        for metric in self.metrics():
            for name in metric.names:
                figures[name] = metric.corpus(name, [score for _, score in scores.get(name, ())])
        return Summary(figures)

    def settings(self) -> dict[str, Any]:
        """What the figures depend on: this suite's options and what its metrics rest on; plain JSON data."""
        return {"suite": self.name, "metrics": {"+".join(m.names): m.made_by() for m in self.metrics()}}
