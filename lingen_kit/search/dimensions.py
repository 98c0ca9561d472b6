"""What may be chosen: one of several values, a number of a range, a value for every layer; each as options of `fit`.

A dimension may depend on another one: where its condition does not hold, it is no part of a candidate.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Protocol

Params = Mapping[str, Any]

CONFIG = "config"
"""In a group of overrides, the key whose value is a config file, or a list of them, stacked on the base."""

_CLASS_PATH = re.compile(r"[A-Za-z_][\w.]*\.([A-Z]\w*)")

_RANGE = {"low", "high", "step", "log"}


class Suggests(Protocol):
    """What draws a value: a trial of Optuna's, or `Drawn`."""

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        """One of `choices`."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number from `low` to `high`."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number from `low` to `high`."""


@dataclass(frozen=True)
class Choice:
    """One of several values, each with a label.

    Attributes:
        name: The option of `fit`; a name without a dot is ours, and its values are groups of overrides.
        values: Value of each label.
        when: Labels that other dimensions must have for this one to be part of a candidate.
    """

    name: str
    values: dict[str, Any]
    when: dict[str, list[str]] = field(default_factory=dict)

    def suggest(self, trial: Suggests) -> dict[str, Any]:
        """Draw a label."""
        return {self.name: trial.suggest_categorical(self.name, list(self.values))}

    def all(self) -> Iterator[dict[str, Any]]:
        """Every choice, in order."""
        return ({self.name: label} for label in self.values)

    def ends(self) -> Iterator[dict[str, Any]]:
        """Values that stand for all."""
        return self.all()

    def size(self) -> float:
        """How many there are."""
        return len(self.values)

    def check(self, params: Params) -> None:
        """Refuse a label that there is not."""
        if params.get(self.name) not in self.values:
            raise ValueError(f"{self.name} {params.get(self.name)!r} is none of {', '.join(self.values)}")

    def names(self) -> list[str]:
        """The names that it adds to a candidate."""
        return [self.name]

    def words(self, params: Params) -> list[str]:
        """What `fit` is given."""
        value = self.values[params[self.name]]
        if "." in self.name:
            return [word(self.name, value)]
        files = value.get(CONFIG, [])
        files = [files] if isinstance(files, str) else files
        stacked = [word(CONFIG, file) for file in files]
        return stacked + [word(key, part) for key, part in value.items() if key != CONFIG]


@dataclass(frozen=True)
class Range:
    """A number between two others.

    Attributes:
        name: The option of `fit`.
        low: The least.
        high: The greatest.
        step: Distance between two values; None for every number.
        log: Whether to draw on a logarithmic scale.
        when: As for `Choice`.
    """

    name: str
    low: float
    high: float
    step: float | None = None
    log: bool = False
    when: dict[str, list[str]] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 1))

    def suggest(self, trial: Suggests) -> dict[str, Any]:
        """Draw a number."""
        if self.whole:
            step = int(self.step or 1)
            return {self.name: trial.suggest_int(self.name, int(self.low), int(self.high), step=step, log=self.log)}
        value = trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)
        return {self.name: value}

    def all(self) -> Iterator[dict[str, Any]]:
        """Every number, in order."""
        if math.isinf(self.size()):
            raise ValueError(f"{self.name} from {self.low} to {self.high} has no end of values; give a step")
        step = self.step or 1
        return ({self.name: self.low + i * step} for i in range(int(self.size())))

    def ends(self) -> Iterator[dict[str, Any]]:
        """Values that stand for all."""
        return ({self.name: value} for value in (self.low, self.high))

    def size(self) -> float:
        """How many there are; infinite without a step."""
        if self.step is None and not self.whole:
            return math.inf
        return math.floor((self.high - self.low) / (self.step or 1) + 1e-9) + 1

    def check(self, params: Params) -> None:
        """Refuse what is no number of the range."""
        value = params.get(self.name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise ValueError(f"{self.name} {value!r} is not between {self.low} and {self.high}")
        if self.step is not None or self.whole:
            steps = (value - self.low) / (self.step or 1)
            if abs(steps - round(steps)) > 1e-6:
                raise ValueError(f"{self.name} {value!r} is no step of {self.step or 1} from {self.low}")

    def names(self) -> list[str]:
        """The names that it adds to a candidate."""
        return [self.name]

    def words(self, params: Params) -> list[str]:
        """What `fit` is given."""
        return [word(self.name, params[self.name])]


@dataclass(frozen=True)
class Pattern:
    """One of several values for every place of a list, such as the mixer of every layer.

    Attributes:
        name: What the search calls it; its places are `name[0]`, `name[1]` and so on.
        key: The option of `fit` that takes the list.
        values: Value of each label.
        length: Places.
        when: As for `Choice`.
    """

    name: str
    key: str
    values: dict[str, Any]
    length: int
    when: dict[str, list[str]] = field(default_factory=dict)

    def suggest(self, trial: Suggests) -> dict[str, Any]:
        """Draw a label for every place."""
        return {name: trial.suggest_categorical(name, list(self.values)) for name in self.names()}

    def all(self) -> Iterator[dict[str, Any]]:
        """Every pattern."""
        return (dict(zip(self.names(), labels, strict=True)) for labels in product(self.values, repeat=self.length))

    def ends(self) -> Iterator[dict[str, Any]]:
        """Values that stand for all."""
        return (dict.fromkeys(self.names(), label) for label in self.values)

    def size(self) -> float:
        """How many there are."""
        return len(self.values) ** self.length

    def check(self, params: Params) -> None:
        """Refuse a label that there is not."""
        for name in self.names():
            if params.get(name) not in self.values:
                raise ValueError(f"{name} {params.get(name)!r} is none of {', '.join(self.values)}")

    def names(self) -> list[str]:
        """The names that it adds to a candidate."""
        return [f"{self.name}[{place}]" for place in range(self.length)]

    def words(self, params: Params) -> list[str]:
        """What `fit` is given."""
        return [word(self.key, [self.values[params[name]] for name in self.names()])]


Dimension = Choice | Range | Pattern


def read_dimension(name: str, spec: Any) -> Dimension:
    """Read one entry of the section `space` of a search config.

    Raises:
        ValueError: If it is not written as one; the message names it and shows how.
    """
    if isinstance(spec, list):
        spec = {"choices": spec}
    if not isinstance(spec, dict):
        raise ValueError(
            f"space.{name}: {spec!r} is no list of choices, such as [2, 4], and no range {{low: 2, high: 4}}"
        )
    when = _read_when(name, spec.get("when", {}))
    keys = set(spec) - {"when"}
    if keys == {"choices"}:
        return Choice(name, _read_choices(name, spec["choices"]), when)
    if {"pattern", "length"} <= keys <= {"pattern", "length", "key"}:
        length = spec["length"]
        if not isinstance(length, int) or length < 1:
            raise ValueError(f"space.{name}: length {length!r} must be a whole number of places, such as 4")
        return Pattern(name, spec.get("key", name), _read_values(name, spec["pattern"]), length, when)
    if {"low", "high"} <= keys <= _RANGE:
        return _read_range(name, spec, when)
    raise ValueError(
        f"space.{name}: {', '.join(sorted(map(str, keys)))} make no dimension; give choices, or low and high (and "
        "step, log), or pattern and length"
    )


def _read_range(name: str, spec: dict[str, Any], when: dict[str, list[str]]) -> Range:
    for key in ("low", "high", "step"):
        value = spec.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"space.{name}: {key} {value!r} is no number")
    low, high, step, log = spec["low"], spec["high"], spec.get("step"), spec.get("log", False)
    if low > high:
        raise ValueError(f"space.{name}: low {low} is above high {high}")
    if step is not None and step <= 0:
        raise ValueError(f"space.{name}: step {step} must be above 0")
    if log and (low <= 0 or step is not None):
        raise ValueError(f"space.{name}: a logarithmic range needs low above 0 and no step")
    if "." not in name:
        raise ValueError(f"space.{name} is no option of fit, such as model.denoiser.depth")
    return Range(name, low, high, step, bool(log), when)


def _read_when(name: str, when: Any) -> dict[str, list[str]]:
    if not isinstance(when, dict):
        raise ValueError(f"space.{name}: when {when!r} must name a choice and its values, such as {{mixer: lingen}}")
    lists = {str(other): labels if isinstance(labels, list) else [labels] for other, labels in when.items()}
    return {other: [label_of(label) for label in labels] for other, labels in lists.items()}


def _read_choices(name: str, choices: Any) -> dict[str, Any]:
    values = _read_values(name, choices)
    if "." in name:
        return values
    for label, group in values.items():
        if not isinstance(group, dict):
            raise ValueError(
                f"space.{name}: a name without a dot is no option of fit, so its choice {label!r} must be a group of "
                f"overrides, such as {{model.denoiser.depth: 4}}, not {group!r}"
            )
    return values


def _read_values(name: str, choices: Any) -> dict[str, Any]:
    if isinstance(choices, dict):
        values = {str(label): value for label, value in choices.items()}
    elif isinstance(choices, list):
        values = {}
        for value in choices:
            if isinstance(value, dict):
                raise ValueError(f"space.{name}: give the choice {value!r} a name: choices: {{NAME: ...}}")
            if label_of(value) in values:
                raise ValueError(f"space.{name}: the choice {label_of(value)} is there twice")
            values[label_of(value)] = value
    else:
        raise ValueError(f"space.{name}: choices {choices!r} must be a list, or a mapping of names to values")
    if not values:
        raise ValueError(f"space.{name} has no choices")
    return values


def label_of(value: Any) -> str:
    """What a value is called: `4`, `4x2x2` for a list of numbers, `Zigzag` for a class path."""
    if isinstance(value, list) and value and all(isinstance(part, int) for part in value):
        return "x".join(map(str, value))
    if isinstance(value, str):
        path = _CLASS_PATH.fullmatch(value)
        return path[1] if path else value
    return json.dumps(value)


def word(key: str, value: Any) -> str:
    """An option of `fit` as a word of its command line."""
    return f"--{key}={value if isinstance(value, str) else json.dumps(value)}"
