"""ShapeBench's figures of a clip, and its totals: VBench's dimensions in a world whose prompts carry their truth.

Totals weigh as VBench's do (Huang et al., arXiv 2311.17982): Quality is the mean of its dimensions with dynamic degree
counted half, here without aesthetic quality; Semantic is the mean of nine; Total is four parts Quality and one part
Semantic.
"""

from collections.abc import Mapping

from eval.metric import Frames, Score
from eval.shapes.fidelity import fidelity
from eval.shapes.match import match
from eval.shapes.observation import SceneObservation
from eval.shapes.observe import check_frames
from eval.shapes.quality import quality
from lingen_kit.data.shapes_grammar import Scene

__all__ = ["DIMENSIONS", "QUALITY", "SEMANTIC", "dimensions", "quality_score", "semantic_score", "totals"]

QUALITY = {
    "shapebench/subject_consistency": 1.0,
    "shapebench/background_consistency": 1.0,
    "shapebench/temporal_flickering": 1.0,
    "shapebench/motion_smoothness": 1.0,
    "shapebench/dynamic_degree": 0.5,
    "shapebench/imaging_quality": 1.0,
}
"""Figures that make Quality, with their weights."""

SEMANTIC = (
    "shapebench/object_class",
    "shapebench/multiple_objects",
    "shapebench/action",
    "shapebench/color",
    "shapebench/spatial_relationship",
    "shapebench/scene",
    "shapebench/appearance_style",
    "shapebench/temporal_style",
    "shapebench/overall_consistency",
)
"""Figures that make Semantic."""

DIMENSIONS = (*QUALITY, *SEMANTIC)
"""All figures of a clip."""


def dimensions(scene: Scene, observation: SceneObservation, frames: Frames) -> dict[str, Score]:
    """All figures of one clip, each in [0, 1], 1 best.

    Args:
        scene: What the prompt asks for.
        observation: What a judge saw in the frames.
        frames: `(T, H, W, 3)` uint8.

    Raises:
        ValueError: The array has another type or shape, or the observation is of a clip of another length.
    """
    check_frames(frames)
    for seen in observation.objects:
        if len(seen.present) != len(frames):
            raise ValueError(f"the observation has {len(seen.present)} frames, the clip {len(frames)}; give one clip's")
    count, height, width, _ = frames.shape
    pairs = match(scene, observation, min(height, width))
    scores = quality(observation, pairs, frames) | fidelity(scene, observation, pairs, (count, height, width))
    return {name: scores[name.removeprefix("shapebench/")] for name in DIMENSIONS}


def totals(figures: Mapping[str, float | None]) -> dict[str, float]:
    """`quality_score`, `semantic_score` and `total_score` of a set of clips.

    Args:
        figures: Mean of each dimension over the clips.

    Raises:
        ValueError: Dimensions are missing; a total over fewer would be another measure.
    """
    quality_part, semantic_part = quality_score(figures), semantic_score(figures)
    return {
        "quality_score": quality_part,
        "semantic_score": semantic_part,
        "total_score": (4 * quality_part + semantic_part) / 5,
    }


def quality_score(figures: Mapping[str, float | None]) -> float:
    """Quality alone; see `totals`."""
    return _weighted(figures, QUALITY)


def semantic_score(figures: Mapping[str, float | None]) -> float:
    """Semantic alone; see `totals`."""
    return _weighted(figures, dict.fromkeys(SEMANTIC, 1.0))


def _weighted(figures: Mapping[str, float | None], weights: Mapping[str, float]) -> float:
    known = {name: value for name in weights if (value := figures.get(name)) is not None}
    missing = [name.removeprefix("shapebench/") for name in weights if name not in known]
    if missing:
        raise ValueError(
            f"there is no {', '.join(missing)}; score clips whose prompts ask for them, such as prompts of two or "
            "three objects that name size, action and background"
        )
    return sum(weight * known[name] for name, weight in weights.items()) / sum(weights.values())
