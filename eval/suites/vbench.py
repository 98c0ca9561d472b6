"""VBench (Huang et al., arXiv 2311.17982): sixteen dimensions, each on prompts of its own.

The prompts are read from the benchmark's `VBench_full_info.json`, which the user names. A figure bears the benchmark's
name only if it was computed with the networks that the benchmark asks for; the five that need networks which cannot be
had (objects, colors, relations, scenes) are computed with others, under names of their own, and Total is refused.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from eval.aggregation import QUALITY, SEMANTIC, quality, totals
from eval.metric import Metric, Score
from eval.metrics.dynamic_degree import Quirks
from eval.suite import Prompt, Suite, Summary

__all__ = ["VBench", "read_full_info"]

DIMENSIONS = (*QUALITY, *SEMANTIC)
_SAMPLES, _SAMPLES_OF_FLICKERING = 5, 25


class VBench(Suite):
    """The sixteen dimensions on the official prompts.

    Args:
        full_info: The benchmark's VBench_full_info.json.
        dimensions: Which of them; all if null.
        weights: Folder of networks' weights; `evaluate weights` lists them.
        device: Where networks run: cpu, cuda or cuda:N.
        quirks: Whether to count as VBench's code does, or as its text says, where the two differ.
    """

    name = "vbench"
    fixed_prompts = True

    def __init__(
        self,
        full_info: Path,
        dimensions: list[str] | None = None,
        weights: Path | None = None,
        device: str = "cpu",
        quirks: Quirks = "vbench",
    ) -> None:
        self.full_info = Path(full_info)
        self.dimensions = tuple(dimensions or DIMENSIONS)
        unknown = [name for name in self.dimensions if name not in DIMENSIONS]
        if unknown:
            raise ValueError(f"VBench has no dimension {unknown[0]}; choose out of {', '.join(DIMENSIONS)}")
        self.weights, self.device, self.quirks = weights, device, quirks
        read_full_info(self.full_info)

    def metrics(self) -> Sequence[Metric]:
        """Those of the chosen dimensions."""
        from eval.suites.metric_sets import quality_metrics, semantic_metrics

        every = quality_metrics(self.weights, self.device, self.quirks)
        every += semantic_metrics(self.weights, self.device, self.quirks)
        return [metric for metric in every if {_plain(name) for name in metric.names} & set(self.dimensions)]

    def prompts(self) -> Sequence[Prompt]:
        """The prompts of the chosen dimensions."""
        names = {_plain(name): name for metric in self.metrics() for name in metric.names}
        chosen = []
        for entry in read_full_info(self.full_info):
            asked = [name for name in entry.dimensions if name in self.dimensions]
            if asked:
                samples = _SAMPLES_OF_FLICKERING if "temporal_flickering" in asked else _SAMPLES
                figures = frozenset(names[name] for name in asked)
                chosen.append(Prompt(entry.prompt, samples=samples, metrics=figures, info=entry.info))
        return chosen

    def summarize(self, scores: Mapping[str, Sequence[tuple[Prompt, Score]]]) -> Summary:
        """The figures, and the totals that they allow; none of a set that lacks videos which the benchmark asks for."""
        figures = super().summarize(scores).figures
        videos: Counter[str] = Counter()  # of each prompt: all of its videos have all of its figures
        for found in scores.values():
            videos |= Counter(prompt.text for prompt, _ in found)  # the greater of the two
        prompts = self.prompts()
        if missing := sum(max(0, prompt.samples - videos[prompt.text]) for prompt in prompts):
            asked = sum(prompt.samples for prompt in prompts)
            why = f"{missing} of the {asked} videos that the benchmark asks for are missing"
            return Summary(figures, refused=dict.fromkeys(("quality_score", "semantic_score", "total_score"), why))
        return with_totals(figures)

    def settings(self) -> dict[str, Any]:
        """The dimensions, and which way they are counted."""
        return super().settings() | {"dimensions": list(self.dimensions), "quirks": self.quirks}


def with_totals(figures: Mapping[str, float | None]) -> Summary:
    """Figures with the totals that they allow; the others are refused, and what is missing is named."""
    try:
        return Summary(figures, totals(figures))
    except ValueError as error:
        refused = {"semantic_score": str(error), "total_score": str(error)}
    try:
        return Summary(figures, {"quality_score": quality(figures)}, refused)
    except ValueError as error:
        return Summary(figures, refused={"quality_score": str(error), **refused})


class Entry:
    """A prompt of the benchmark.

    Attributes:
        prompt: The text.
        dimensions: What its videos are scored for.
        info: What the dimensions need to know of it, flat: `object`, `color`, `appearance_style` and so on.
    """

    def __init__(self, prompt: str, dimensions: tuple[str, ...], info: Mapping[str, Any]) -> None:
        self.prompt, self.dimensions, self.info = prompt, dimensions, info


@cache
def read_full_info(path: Path) -> tuple[Entry, ...]:
    """Read the benchmark's list of prompts; a prompt that stands there twice is one with the dimensions of both.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is another file; the message names the entry.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; VBench_full_info.json is in the repository Vchitect/VBench")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, list) or not content:
        raise ValueError(f"{path} is no list of prompts, as VBench_full_info.json is")
    found: dict[str, Entry] = {}
    for number, entry in enumerate(content, 1):
        try:
            prompt, dimensions = entry["prompt_en"], tuple(entry["dimension"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}, entry {number} has no prompt_en and dimension") from error
        unknown = [name for name in dimensions if name not in DIMENSIONS]
        if unknown:
            raise ValueError(f"{path}, entry {number}: there is no dimension {unknown[0]!r}")
        before = found.get(prompt)
        known = dict(before.info) if before else {}
        together = tuple(dict.fromkeys((*(before.dimensions if before else ()), *dimensions)))
        found[prompt] = Entry(prompt, together, known | _flat(entry.get("auxiliary_info") or {}))
    return tuple(found.values())


def _flat(info: Mapping[str, Any]) -> dict[str, Any]:
    """`{"color": {"color": "red"}}` -> `{"color": "red"}`, and `object` by its dimension where two could differ."""
    flat: dict[str, Any] = {}
    for dimension, value in info.items():
        inner = value.get(dimension, value.get("object", value)) if isinstance(value, dict) else value
        flat[dimension] = inner
    return flat


def _plain(figure: str) -> str:
    """The dimension of a figure whose name may say with what it was computed."""
    return figure.partition("/")[0].removesuffix("_unmapped")
