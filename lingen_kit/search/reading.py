"""Reads the YAML of a search, and names what is wrong with it."""

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from lingen_kit import config
from lingen_kit.search.dimensions import Range, label_of
from lingen_kit.search.settings import BUDGETED, COSTS, DIRECTIONS, EXHAUSTIVE, SIZES, Budget, Proxy, Search
from lingen_kit.search.space import Space


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
        measured_at=_read_size(_mapping(sections, "measured_at")),
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


def _read_size(section: dict[str, Any]) -> dict[str, int]:
    for name, value in section.items():
        if name not in SIZES:
            raise ValueError(f"measured_at.{name} is unknown; choose out of {', '.join(SIZES)}")
        _whole(f"measured_at.{name}", value, 1)
    return section


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
