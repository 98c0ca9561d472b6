"""Whether a training is worth going on with, by what the others had reached at the same step.

Optuna's pruners look at a study with one objective. A search may have several, and may prune by a figure that is none
of them, so the pruner is shown a study in memory that holds nothing but the curves of that figure.
"""

import math
from collections.abc import Sequence

import optuna

from lingen_kit.search.records import Record
from lingen_kit.search.settings import Direction

Curve = Sequence[tuple[int, float]]


def hopeless(
    pruner: "optuna.pruners.BasePruner", direction: Direction, others: Sequence[Curve], curve: Curve
) -> int | None:
    """The step at which a training is to be pruned, None if it may go on.

    Args:
        pruner: What decides.
        direction: `minimize` or `maximize` the figure.
        others: Curves of the trainings that are complete: steps and values.
        curve: That of the training, as far as it is.
    """
    study = optuna.create_study(direction=direction)
    for other in others:
        study.add_trial(_trial(optuna.trial.TrialState.COMPLETE, other))
    for length in range(1, len(curve) + 1):
        step, value = curve[length - 1]
        if math.isnan(value) or pruner.prune(study, _trial(optuna.trial.TrialState.RUNNING, curve[:length])):
            return step
    return None


def curves_of(records: Sequence[Record]) -> list[Curve]:
    """The curves of all trainings of the candidates that are complete."""
    return [curve for record in records if record.state == "complete" for curve in record.curves.values() if curve]


def _trial(state: "optuna.trial.TrialState", curve: Curve) -> "optuna.trial.FrozenTrial":
    complete = state == optuna.trial.TrialState.COMPLETE
    return optuna.trial.create_trial(
        state=state, value=curve[-1][1] if complete else None, intermediate_values=dict(curve)
    )
