"""From figures to Quality, Semantic and Total, as VBench (Huang et al., arXiv 2311.17982) makes them.

Each figure is brought to a common scale by the range it had among the models that VBench began with, and not clipped.
Every published leaderboard follows from its own columns in this way. A figure that is missing counts as 0 in VBench's
own script; here there is no total without it.
"""

from collections.abc import Iterable, Mapping

__all__ = ["CUSTOM_QUALITY", "QUALITY", "SEMANTIC", "custom_quality", "normalized", "quality", "totals"]

RANGES = {
    "subject_consistency": (0.1462, 1.0),
    "background_consistency": (0.2615, 1.0),
    "temporal_flickering": (0.6293, 1.0),
    "motion_smoothness": (0.706, 0.9975),
    "scene": (0.0, 0.8222),
    "appearance_style": (0.0009, 0.2855),
    "temporal_style": (0.0, 0.364),
    "overall_consistency": (0.0, 0.364),
}
"""Least and greatest value of the figures whose range is not 0 to 1."""

QUALITY = {
    "subject_consistency": 1.0,
    "background_consistency": 1.0,
    "temporal_flickering": 1.0,
    "motion_smoothness": 1.0,
    "aesthetic_quality": 1.0,
    "imaging_quality": 1.0,
    "dynamic_degree": 0.5,
}
"""Weights of the figures that make Quality."""

CUSTOM_QUALITY = {name: weight for name, weight in QUALITY.items() if name != "temporal_flickering"}
"""Those of videos of any prompts."""

SEMANTIC = (
    "object_class",
    "multiple_objects",
    "human_action",
    "color",
    "spatial_relationship",
    "scene",
    "appearance_style",
    "temporal_style",
    "overall_consistency",
)
"""Figures that make Semantic."""


def normalized(name: str, value: float) -> float:
    """A figure on the common scale.

    Args:
        name: Of the figure, without an extractor.
        value: As it was measured, usually in [0, 1].
    """
    low, high = RANGES.get(name, (0.0, 1.0))
    return (value - low) / (high - low)


def totals(figures: Mapping[str, float | None]) -> dict[str, float]:
    """`quality_score`, `semantic_score` and `total_score` of all sixteen figures.

    Raises:
        ValueError: If one is missing; the message names it.
    """
    first, second = quality(figures), _weighted(figures, dict.fromkeys(SEMANTIC, 1.0))
    return {"quality_score": first, "semantic_score": second, "total_score": (4 * first + second) / 5}


def custom_quality(figures: Mapping[str, float | None]) -> float:
    """Quality of videos of any prompts, from six figures.

    Raises:
        ValueError: If one is missing; the message names it.
    """
    return _weighted(figures, CUSTOM_QUALITY)


def quality(figures: Mapping[str, float | None]) -> float:
    """Quality, from seven figures.

    Raises:
        ValueError: If one is missing; the message names it.
    """
    return _weighted(figures, QUALITY)


def _weighted(figures: Mapping[str, float | None], weights: Mapping[str, float]) -> float:
    known = {name: value for name in weights if (value := figures.get(name)) is not None}
    _require(known, weights)
    return sum(weight * normalized(name, known[name]) for name, weight in weights.items()) / sum(weights.values())


def _require(known: Mapping[str, float], asked: Iterable[str]) -> None:
    missing = [name for name in asked if name not in known]
    if missing:
        raise ValueError(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
