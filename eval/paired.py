"""What tells two evaluations apart: paired differences with their uncertainty, and what was not measured alike.

Of each prompt that both have, the mean over its videos in the one less that in the other is a gap. For the interval of
the mean gap the prompts are drawn again with replacement (Efron, "Bootstrap methods: another look at the jackknife",
1979), so the videos of one prompt, which resemble each other, count as one observation.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeVar

import numpy as np

from eval.report_parts import made_by, values_of

__all__ = ["DRAWS", "FEW", "Difference", "Key", "by_prompt", "key_of", "mean_difference", "other_networks", "unlike"]

Key = tuple[str, str]
"""What makes videos of two runs comparable: `("prompt", text)`, or `("video", name)` where the prompt is not known."""

Group = TypeVar("Group")

DRAWS = 10_000
_HASH = 12  # characters of a hash that are shown where they tell two apart
_AT_ONCE = 2**21  # numbers drawn at a time
FEW = 20  # prompts under which the interval is known to be too narrow


@dataclass(frozen=True)
class Difference:
    """How far a figure of one run lies above that of another.

    Attributes:
        mean: Over the prompts.
        low: Lower end of the 95% interval; None with a single prompt.
        high: Its upper end.
        prompts: How many both have.
    """

    mean: float
    low: float | None
    high: float | None
    prompts: int


def key_of(video: Mapping[str, Any]) -> Key:
    """What a video is of."""
    return ("prompt", video["prompt"]) if video["prompt"] else ("video", video["name"])


def by_prompt(content: Mapping[str, Any], figure: str) -> dict[Key, list[float]]:
    """The values of a figure, prompt by prompt."""
    found: dict[Key, list[float]] = {}
    for value, video in values_of(content, figure):
        found.setdefault(key_of(video), []).append(value)
    return found


def mean_difference(
    first: Mapping[Group, Sequence[float]], second: Mapping[Group, Sequence[float]], draws: int = DRAWS
) -> Difference | None:
    """Paired mean difference, second less first, with its percentile bootstrap interval over prompts.

    Args:
        first: Values by prompt.
        second: Values by prompt; those that only one of the two has do not count.
        draws: How often the prompts are drawn again; always the same ones, so that a page can be made again.

    Returns:
        The difference, or None if no prompt is shared.
    """
    shared = [prompt for prompt in first if prompt in second]
    if not shared:
        return None
    gaps = np.array([fmean(second[prompt]) - fmean(first[prompt]) for prompt in shared])  # (prompts,)
    if len(gaps) == 1:
        return Difference(float(gaps[0]), None, None, 1)
    generator = np.random.default_rng(0)
    chunk = max(1, _AT_ONCE // len(gaps))
    means = np.concatenate(
        [
            gaps[generator.integers(0, len(gaps), (min(chunk, draws - start), len(gaps)))].mean(1)
            for start in range(0, draws, chunk)
        ]
    )  # (draws,)
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(float(gaps.mean()), float(low), float(high), len(gaps))


def unlike(one: Any, other: Any) -> list[str]:
    """What differs between two pieces of plain data, a line each."""
    first, second = dict(_flat(one)), dict(_flat(other))
    lines = []
    for path in dict.fromkeys([*first, *second]):
        a, b = (str(side[path]) if path in side else "not said" for side in (first, second))
        if a != b:
            short = a[:_HASH] != b[:_HASH]
            lines.append(f"{path}: {' / '.join(_shortened(each) if short else each for each in (a, b))}")
    return lines


def other_networks(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list[str]]:
    """For each figure that both have, how what made it differs; those alike are left out."""
    one, two = made_by(first), made_by(other)
    found = {name: unlike(one[name], two[name]) for name in one if name in two}
    return {name: lines for name, lines in found.items() if lines}


def _shortened(text: str) -> str:
    """The beginning of a hash; any other text as it is."""
    return f"{text[:_HASH]}..." if re.fullmatch(r"[0-9a-f]{32,}", text) else text


def _flat(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(data, Mapping) and data:
        for name, value in data.items():
            yield from _flat(value, f"{path}.{name}" if path else str(name))
    else:
        yield path, data
