"""What Optuna gives a search: the sampler and the pruner that a config names, and the space in its terms."""

import inspect
import warnings
from importlib import import_module
from typing import Any

import optuna

from lingen_kit.search.dimensions import Range
from lingen_kit.search.settings import EXHAUSTIVE, Search
from lingen_kit.search.space import Space


def make_sampler(search: Search, number: int) -> "optuna.samplers.BaseSampler":
    """The sampler of a study, seeded for a candidate, so that a study that is resumed draws what it would have drawn.

    Raises:
        ValueError: If there is no such sampler, or it does not take its arguments.
    """
    if search.sampler == EXHAUSTIVE:
        return optuna.samplers.RandomSampler(seed=search.seed)
    assert isinstance(search.sampler, dict)
    return _make(search.sampler, "sampler", optuna.samplers.BaseSampler, seed=search.seed * 1_000_003 + number)


def make_pruner(search: Search) -> "optuna.pruners.BasePruner":
    """The pruner of a study.

    Raises:
        ValueError: If there is no such pruner, or it does not take its arguments.
    """
    assert search.pruner is not None
    return _make(search.pruner, "pruner", optuna.pruners.BasePruner)


def check_classes(search: Search) -> None:
    """Refuse a sampler or a pruner that cannot be made.

    Raises:
        ValueError: Naming it.
    """
    make_sampler(search, 0)
    if search.pruner is not None:
        make_pruner(search)


def _make(section: dict[str, Any], key: str, kind: type, **extra: Any) -> Any:
    module, _, name = section["class_path"].rpartition(".")
    try:
        made = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{key}: there is no {section['class_path']} ({error})") from error
    if not (isinstance(made, type) and issubclass(made, kind)):
        raise ValueError(f"{key}: {section['class_path']} is no {kind.__module__}.{kind.__name__}")
    accepted = inspect.signature(made.__init__).parameters
    options = {**section["init_args"], **{name: value for name, value in extra.items() if name in accepted}}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return made(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key}: {section['class_path']} does not take {options}: {error}") from error


def distributions(space: Space) -> dict[str, "optuna.distributions.BaseDistribution"]:
    """What Optuna calls the dimensions of a space, by the names that they add to a candidate."""
    kinds = optuna.distributions
    made: dict[str, optuna.distributions.BaseDistribution] = {}
    for dimension in space.dimensions:
        for name in dimension.names():
            if isinstance(dimension, Range) and dimension.whole:
                step = int(dimension.step or 1)
                made[name] = kinds.IntDistribution(
                    int(dimension.low), int(dimension.high), log=dimension.log, step=step
                )
            elif isinstance(dimension, Range):
                made[name] = kinds.FloatDistribution(dimension.low, dimension.high, dimension.log, dimension.step)
            else:
                made[name] = kinds.CategoricalDistribution(list(dimension.values))
    return made
