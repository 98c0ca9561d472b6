"""A search, as its YAML says it: what is varied, what counts, what is allowed, and how long to look.

base: [experiments/quickstart.yaml]
overrides: {trainer.max_steps: 300}
space: {model.denoiser.depth: [2, 3, 4]}
objectives: {validation/loss: minimize}
trials: 20
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from lingen_kit import config
from lingen_kit.search.space import CONFIG, Range, Space, files_and_flags, label_of, word

COSTS = ("parameters", "flops", "memory", "latency", "relative_latency")
"""What is known of a candidate before it is trained: parameters of all that is trained; FLOPs of a forward pass over
one video; bytes of a training step; seconds of a forward pass, and the same as a multiple of the base's."""

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


def read_sections(path: Path, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read the YAML of a search, and see that it makes one.

    Args:
        path: The file.
        changes: Keys that are given on the command line, such as `trials`.

    Returns:
        Its keys as plain data, the changes among them.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If a key or value is wrong; the message names it.
    """
    sections = config.read_sections(path, "base, space and objectives", _Loader) | dict(changes or {})
    try:
        make_search(sections)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return sections


class _Loader(yaml.SafeLoader):
    """Takes 1e-3 and 2.0e6 for numbers, as `fit` does; YAML 1.1 wants 1.0e-3 and 2.0e+6."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"), list("-+0123456789.")
)


def make_search(sections: Mapping[str, Any]) -> Search:
    """A search from its keys as plain data.

    Raises:
        ValueError: If a key is unknown or missing, or a value is wrong; the message names it.
    """
    names = [f.name for f in fields(Search)]
    if unknown := [key for key in sections if key not in names]:
        raise ValueError(f"{unknown[0]} is unknown; choose out of {', '.join(names)}")
    for key in ("base", "space", "objectives"):
        if not sections.get(key):
            raise ValueError(f"{key} is missing")
    base = sections["base"]
    base = [base] if isinstance(base, str) else base
    if not isinstance(base, list) or not all(isinstance(file, str) for file in base):
        raise ValueError(f"base {base!r} must be a list of config files, such as [experiments/quickstart.yaml]")
    space = Space.read(sections["space"])
    objectives = _mapping(sections, "objectives")
    for name, direction in objectives.items():
        if direction not in DIRECTIONS:
            raise ValueError(f"objectives.{name} {direction!r} is none of {', '.join(DIRECTIONS)}")
    overrides = _mapping(sections, "overrides")
    budget = _read_budget(sections.get("budget"))
    varied = space.keys()
    if twice := [key for key in overrides if key in varied or (budget and key == budget.key)]:
        raise ValueError(f"{twice[0]} is both in overrides and in what is varied; leave it to one of them")
    if budget and budget.key in varied:
        raise ValueError(f"budget.key {budget.key} is varied by the space, too; leave it to one of them")
    sampler = sections.get("sampler", {"class_path": "optuna.samplers.TPESampler"})
    exhaustive = sampler == EXHAUSTIVE
    if not exhaustive:
        sampler = _read_class(sampler, "sampler", "optuna.samplers")
    pruner = sections.get("pruner")
    first = next(iter(objectives))
    prune_by = sections.get("prune_by") or (first if pruner else None)
    if pruner is not None:
        pruner = _read_class(pruner, "pruner", "optuna.pruners")
        if prune_by in COSTS:
            raise ValueError(f"prune_by {prune_by} is known before training; name a logged figure, validation/loss")
    trials = sections.get("trials")
    if trials is None:
        if not exhaustive:
            raise ValueError("trials is missing: how many trainings to start, such as 40")
        trials = space.size()
        if math.isinf(trials):
            raise ValueError("sampler exhaustive: the space has no end of values; give its ranges a step, or trials")
        trials = int(trials)
    _whole("trials", trials, 1)
    seeds = sections.get("seeds", [0])
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ValueError(f"seeds {seeds!r} must be a list of whole numbers, such as [0, 1, 2]")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds {seeds!r} has one of them twice")
    baseline = sections.get("baseline")
    if baseline is not None:
        try:
            baseline = space.check({key: _as_label(space, key, value) for key, value in baseline.items()})
        except (ValueError, AttributeError) as error:
            raise ValueError(f"baseline: {error}") from error
    storage = sections.get("storage", "sqlite")
    if storage not in ("sqlite", "journal") and "://" not in str(storage):
        raise ValueError(f"storage {storage!r} must be sqlite, journal, or the URL of a database")
    limit = sections.get("time_limit")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or limit <= 0):
        raise ValueError(f"time_limit {limit!r} must be minutes of one training, such as 30")
    seed = sections.get("seed", 0)
    _whole("seed", seed, 0)
    prune_mode = sections.get("prune_mode", objectives.get(prune_by or "", "minimize"))
    if prune_mode not in DIRECTIONS:
        raise ValueError(f"prune_mode {prune_mode!r} is none of {', '.join(DIRECTIONS)}")
    return Search(
        base=base,
        space=space,
        objectives=objectives,
        overrides=overrides,
        constraints=_read_constraints(_mapping(sections, "constraints")),
        budget=budget,
        sampler=sampler,
        pruner=pruner,
        prune_by=prune_by,
        prune_mode=prune_mode,
        trials=trials,
        seeds=seeds,
        baseline=baseline,
        storage=storage,
        time_limit=limit,
        seed=seed,
        proxy=_read_proxy(sections.get("proxy")),
    )


def _as_label(space: Space, name: str, value: Any) -> Any:
    """A value of the baseline as the label that the space has for it."""
    dimension = next((d for d in space.dimensions if name in d.names()), None)
    return value if dimension is None or isinstance(dimension, Range) else label_of(value)


def _mapping(sections: Mapping[str, Any], key: str) -> dict[str, Any]:
    section = sections.get(key) or {}
    if not isinstance(section, dict):
        raise ValueError(f"{key} {section!r} must be a mapping")
    return {str(name): value for name, value in section.items()}


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} {value!r} must be a whole number of at least {least}")


def _read_class(section: Any, key: str, home: str) -> dict[str, Any]:
    section = {"class_path": section} if isinstance(section, str) else section
    if not isinstance(section, dict) or "class_path" not in section or set(section) - {"class_path", "init_args"}:
        raise ValueError(f"{key} {section!r} must hold class_path, such as {home}.…, and may hold init_args")
    path = str(section["class_path"])
    path = path if "." in path else f"{home}.{path}"
    return {"class_path": path, "init_args": section.get("init_args") or {}}


def _read_constraints(section: dict[str, Any]) -> dict[str, tuple[float, float]]:
    constraints = {}
    for name, bound in section.items():
        if name not in COSTS:
            raise ValueError(f"constraints.{name} is not known before training; choose out of {', '.join(COSTS)}")
        low, high = bound if isinstance(bound, list) and len(bound) == 2 else (0, bound)
        numbers = [value for value in (low, high) if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(numbers) != 2 or not low <= high:
            raise ValueError(f"constraints.{name} {bound!r} must be the greatest value, or [least, greatest]")
        constraints[name] = (float(low), float(high))
    return constraints


def _read_budget(section: Any) -> Budget | None:
    if section is None:
        return None
    if not isinstance(section, dict) or "key" not in section:
        raise ValueError(f"budget {section!r} must hold key (an option of fit) and parameters or flops")
    costs = [cost for cost in BUDGETED if cost in section]
    unknown = set(section) - {"key", "parameters", "flops", "step", "high"}
    if len(costs) != 1 or unknown:
        wrong = f"{sorted(unknown)[0]} is unknown" if unknown else "one of parameters and flops must be given"
        raise ValueError(f"budget: {wrong}; it holds key, parameters or flops, step, high")
    most, step, high = section[costs[0]], section.get("step", 16), section.get("high", 16384)
    if isinstance(most, bool) or not isinstance(most, int | float) or most <= 0:
        raise ValueError(f"budget.{costs[0]} {most!r} must be a number above 0, such as 1.0e6")
    _whole("budget.step", step, 1)
    _whole("budget.high", high, step)
    return Budget(str(section["key"]), costs[0], float(most), step, high)


def _read_proxy(section: Any) -> Proxy | None:
    if section is None:
        return None
    names = [f.name for f in fields(Proxy)]
    if not isinstance(section, dict) or "overrides" not in section or set(section) - set(names):
        raise ValueError(f"proxy {section!r} must hold overrides, and may hold {', '.join(names[1:])}")
    proxy = Proxy(**{**section, "seeds": tuple(section.get("seeds", [0]))})
    for name in ("top", "random"):
        _whole(f"proxy.{name}", getattr(proxy, name), 0)
    if proxy.mode not in DIRECTIONS:
        raise ValueError(f"proxy.mode {proxy.mode!r} is none of {', '.join(DIRECTIONS)}")
    if proxy.top + proxy.random < 3:
        raise ValueError("proxy: top and random must be 3 or more together; a rank correlation of two says nothing")
    return proxy
