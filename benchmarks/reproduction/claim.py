"""A claim of the paper: what it says, what was measured, and the verdict of a rule."""

import math
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal[
    "reproduced", "reproduced in shape", "not reproduced", "needs hardware", "needs people", "not measured"
]

Results = dict[str, Any]

MEASURE = "python -m benchmarks.reproduction.measure"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and what became of it here.

    Attributes:
        source: Where the paper has it.
        claimed: What it says.
        measured: What was measured or computed here.
        on: What it was measured on.
        command: What measures it again.
        verdict: What the rule says.
        picture: A plot of it, in docs/images/reproduction.
    """

    source: str
    claimed: str
    measured: str
    on: str
    command: str
    verdict: Verdict
    picture: str | None = None


def above(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether a mean is above another by more than twice the standard error of their difference."""
    return a[0] - b[0] > 2 * math.hypot(a[1], b[1])
