"""Videos of any prompts: the six quality dimensions of VBench that need no prompts of its own.

With the networks that VBench asks for they bear its names, and make the Quality of its Custom table. The `lite`
extractors compute the same formulas from what installs everywhere and downloads nothing; their figures end in `/lite`
and are on another scale.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from eval.aggregation import custom_quality
from eval.metric import Metric, Score
from eval.suite import Prompt, Suite, Summary
from eval.suites.prompt_files import read_prompts

__all__ = ["Custom"]


class Custom(Suite):
    """Quality of videos of any prompts.

    Args:
        prompts: File of prompts to sample, one a line; videos of a folder may be of any.
        extractors: `lite` needs no download; `vbench` needs the networks that `evaluate weights` lists.
        weights: Folder of those networks' weights.
        device: Where networks run: cpu, cuda or cuda:N.
        quirks: Whether dynamic degree counts as VBench does, or as it says it does.
        more: Further metrics by class path, such as eval.metrics.clip_score.ClipScore, or your own.
    """

    name = "custom"

    def __init__(
        self,
        prompts: Path | None = None,
        extractors: Literal["lite", "vbench"] = "lite",
        weights: Path | None = None,
        device: str = "cpu",
        quirks: Literal["vbench", "fixed"] = "vbench",
        more: list[Metric] | None = None,
    ) -> None:
        self._prompts = tuple(read_prompts(Path(prompts))) if prompts else ()
        self.extractors, self.weights, self.device, self.quirks = extractors, weights, device, quirks
        self.more = tuple(more or ())

    def metrics(self) -> Sequence[Metric]:
        """Consistency, smoothness, dynamics and imaging; aesthetics where there is a network for them."""
        if self.extractors == "lite":
            from eval.suites.metric_sets import lite_metrics

            return [*lite_metrics(self.device), *self.more]
        from eval.suites.metric_sets import quality_metrics

        return [*quality_metrics(self.weights, self.device, self.quirks), *self.more]

    def prompts(self) -> Sequence[Prompt]:
        """Those of the file, if one was given."""
        return [Prompt(text) for text in self._prompts]

    def summarize(self, scores: Mapping[str, Sequence[tuple[Prompt, Score]]]) -> Summary:
        """The figures, and VBench's Quality if its own networks made all of them."""
        figures = super().summarize(scores).figures
        try:
            return Summary(figures, totals={"quality_score": custom_quality(figures)})
        except ValueError as error:
            return Summary(figures, refused={"quality_score": self._why(error)})

    def settings(self) -> dict[str, Any]:
        """The extractors."""
        return super().settings() | {"extractors": self.extractors, "quirks": self.quirks}

    def _why(self, error: ValueError) -> str:
        if self.extractors == "vbench":
            return str(error)
        return "VBench's Quality is defined for its own networks: --suite.extractors vbench"
