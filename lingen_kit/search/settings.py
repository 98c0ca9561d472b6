"""A search, as its YAML says it: what is varied, what counts, what is allowed, and how long to look.

base: [experiments/quickstart.yaml]
overrides: {trainer.max_steps: 300}
space: {model.denoiser.depth: [2, 3, 4]}
objectives: {validation/loss: minimize}
trials: 20
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lingen_kit.search.dimensions import CONFIG, word
from lingen_kit.search.space import Space, files_and_flags

COSTS = ("parameters", "flops", "memory", "latency", "relative_latency")
"""What is known of a candidate before it is trained: parameters of all that is trained; FLOPs of a forward pass over
one video; bytes of a training step; seconds of a forward pass, and the same as a multiple of the base's."""

SIZES = ("frames", "height", "width")
"""What the size of the video may be given by that a pass is over."""

BUDGETED: tuple[Literal["parameters", "flops"], ...] = ("parameters", "flops")
"""Costs that an option can be solved for."""

EXHAUSTIVE = "exhaustive"

Direction = Literal["minimize", "maximize"]

DIRECTIONS: tuple[Direction, ...] = ("minimize", "maximize")


@dataclass(frozen=True)
class Budget:
    """An option that is solved for: the largest value with which a candidate keeps within a cost.

    Attributes:
        key: The option of `fit`, such as `model.denoiser.dim`.
        cost: `parameters` or `flops`.
        most: The greatest cost.
        step: The value is a multiple of this.
        high: The greatest value.
    """

    key: str
    cost: Literal["parameters", "flops"]
    most: float
    step: int = 16
    high: int = 16384


@dataclass(frozen=True)
class Proxy:
    """How the cheap setting of the search is put to the test: some candidates are trained for longer, or larger.

    Attributes:
        overrides: What the longer training lays over the search's own overrides.
        top: Best candidates of the search that are trained so.
        random: Candidates drawn from the others.
        seeds: Of the longer trainings.
        figure: What they are ranked by, if it is not what the search ranks by; a figure that they log.
        mode: Whether less or more of that is better.
        warn_below: Kendall's tau below which the report warns.
    """

    overrides: dict[str, Any]
    top: int = 4
    random: int = 4
    seeds: tuple[int, ...] = (0,)
    warn_below: float = 0.5
    figure: str | None = None
    mode: Direction = "maximize"


@dataclass(frozen=True)
class Search:
    """What the YAML of a search says.

    Attributes:
        base: Config files of `fit`, stacked.
        overrides: Options that every trial has, over the base.
        space: What is varied.
        objectives: `minimize` or `maximize` for each: figures that `fit` logs, or costs.
        constraints: Least and greatest value of costs, checked before training.
        measured_at: Frames, height and width of the video that a pass is over, where they are not those of training.
        budget: An option that is solved for.
        sampler: `class_path` and `init_args` of an Optuna sampler, or `exhaustive`.
        pruner: The same of an Optuna pruner; None trains every trial to its end.
        prune_by: Logged figure that the pruner looks at; the first objective by default.
        prune_mode: Whether less or more of it is better; that of the objective by default.
        trials: Trainings to start, repeats not counted; all candidates, if exhaustive and not given.
        seeds: Seeds that every candidate is trained with.
        baseline: A candidate that is tried first and marked in the report.
        storage: `sqlite`, `journal`, or the URL of a database.
        time_limit: Minutes that one training may take; None for no limit.
        seed: Of the sampler.
        proxy: How the cheap setting is put to the test; None for not at all.
    """

    base: list[str]
    space: Space
    objectives: dict[str, Direction]
    overrides: dict[str, Any]
    constraints: dict[str, tuple[float, float]]
    measured_at: dict[str, int]
    budget: Budget | None
    sampler: dict[str, Any] | str
    pruner: dict[str, Any] | None
    prune_by: str | None
    prune_mode: Direction
    trials: int
    seeds: list[int]
    baseline: dict[str, Any] | None
    storage: str
    time_limit: float | None
    seed: int
    proxy: Proxy | None

    @property
    def costs(self) -> list[str]:
        """Costs that must be known: those that count, are bounded, or are cheap to tell."""
        wanted = {"parameters", "flops", *self.objectives, *self.constraints}
        return [cost for cost in COSTS if cost in wanted]

    @property
    def logged(self) -> list[str]:
        """Objectives that `fit` logs."""
        return [name for name in self.objectives if name not in COSTS]

    def line(self, candidate: Sequence[str] = (), longer: bool = False) -> list[str]:
        """What `fit` is given: files first, so that the cheap setting holds whatever the file of a candidate says.

        Args:
            candidate: Words of a candidate; those of the base alone if there are none.
            longer: For the longer training that puts the cheap setting to the test.
        """
        files, flags = files_and_flags(candidate)
        setting = self.overrides | (self.proxy.overrides if longer and self.proxy else {})
        stacked = [word(CONFIG, file) for file in self.base] + files
        return stacked + [word(key, value) for key, value in setting.items()] + flags
