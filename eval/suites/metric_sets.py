"""The metrics of the suites: VBench's dimensions with its own networks, and those that need no download.

Networks are imported when a suite's metrics are asked for, not before.
"""

from pathlib import Path

from eval.metric import Metric
from eval.metrics.dynamic_degree import Quirks

__all__ = ["lite_metrics", "quality_metrics", "semantic_metrics"]


def quality_metrics(weights: Path | None, device: str, quirks: Quirks) -> list[Metric]:
    """The six that videos of any prompts can be measured by, with the networks that VBench asks for.

    Args:
        weights: Folder of weights, see `eval.weights`.
        device: Where networks run.
        quirks: Whether to count as VBench's code does, or as its text says.
    """
    from eval.metrics.aesthetic import AestheticQuality
    from eval.metrics.consistency import Consistency
    from eval.metrics.dynamic_degree import DynamicDegree
    from eval.metrics.features import ClipFeatures, DinoFeatures
    from eval.metrics.flow import RaftFlow
    from eval.metrics.imaging import ImagingQuality
    from eval.metrics.motion_smoothness import MotionSmoothness

    return [
        Consistency("subject_consistency", DinoFeatures(weights, device)),
        Consistency("background_consistency", ClipFeatures("clip_b32", weights, device)),
        MotionSmoothness(weights, device),
        DynamicDegree(RaftFlow(weights, device), quirks),
        AestheticQuality(weights, device),
        ImagingQuality(weights, device),
    ]


def semantic_metrics(weights: Path | None, device: str, quirks: Quirks) -> list[Metric]:
    """Those of VBench's own prompts. Where its networks cannot be had, others stand in under names of their own."""
    from eval.metrics.appearance import AppearanceStyle
    from eval.metrics.flickering import TemporalFlickering
    from eval.metrics.flow import RaftFlow
    from eval.metrics.human_action import HumanAction
    from eval.metrics.objects import Color, MultipleObjects, ObjectClass, SpatialRelationship
    from eval.metrics.scene import Scene
    from eval.metrics.text_video import OverallConsistency, TemporalStyle

    return [
        TemporalFlickering(RaftFlow(weights, device)),
        ObjectClass(device=device),
        MultipleObjects(device=device),
        HumanAction(weights, device),
        Color(device=device),
        SpatialRelationship(device=device, quirks=quirks),
        Scene(device=device),
        AppearanceStyle(weights, device),
        TemporalStyle(weights, device),
        OverallConsistency(weights, device),
    ]


def lite_metrics(device: str) -> list[Metric]:
    """Those that need no download: their names end in `/lite`, and they are on scales of their own.

    Args:
        device: Where the network of the consistencies runs.
    """
    from eval.metrics.consistency import Consistency
    from eval.metrics.dynamic_degree import DynamicDegree
    from eval.metrics.flickering import TemporalFlickering
    from eval.metrics.lite import LiteFeatures
    from eval.metrics.lite_imaging import LiteImagingQuality
    from eval.metrics.lite_motion import LiteFlow, LiteMotionSmoothness

    return [
        Consistency("subject_consistency/lite", LiteFeatures("subject", device)),
        Consistency("background_consistency/lite", LiteFeatures("background", device)),
        TemporalFlickering(LiteFlow()),
        LiteMotionSmoothness(),
        DynamicDegree(LiteFlow()),
        LiteImagingQuality(),
    ]
