"""The paper's claims, and what follows for each from the shipped results: a number, a rule, a verdict.

Nothing is judged by hand: a verdict is what the rule in the code says of the numbers in docs/results.
"""

from collections.abc import Callable

from benchmarks.reproduction import cost_claims as cost
from benchmarks.reproduction import quality_claims as quality
from benchmarks.reproduction.claim import Claim, Results


def claims(results: Results) -> list[Claim]:
    """All claims, in the order of the paper. `results` holds the JSON of every part, None where there is none."""
    return [make(results) for make in _CLAIMS]


_CLAIMS: list[Callable[[Results], Claim]] = [
    cost.adjacency,
    cost.equations,
    cost.flops,
    cost.latency,
    cost.lengths,
    cost.scans,
    cost.variants,
    cost.sizes,
    quality.ablation,
    quality.zigzag_loss,
    quality.adaptation,
    quality.recipe(
        "hybrid_images",
        "single_frames",
        "images among the videos improve consistency",
        "shapebench/subject_consistency",
    ),
    quality.recipe(
        "quality_tuning",
        "mixed_world",
        "tuning on a few chosen clips at the end makes better videos",
        "shapebench/overall_consistency",
    ),
    cost.schedule,
    quality.tables,
    quality.resolutions,
    quality.people,
]
