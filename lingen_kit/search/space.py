"""The space that a search draws from: what may be chosen, as options of `fit`, and the words that a choice stands for.

A candidate is a mapping of names to labels or numbers, such as `{"mixer": "lingen", "model.denoiser.depth": 4}`; its
words are what `fit` is given for it. A dimension may depend on another one: where its condition does not hold, it is no
part of the candidate.
"""

import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
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


class Drawn:
    """Draws uniformly, with a seed.

    Args:
        seed: Of the draws.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        """One of `choices`."""
        return self._random.choice(choices)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number from `low` to `high`."""
        if log:
            return round(math.exp(self._random.uniform(math.log(low), math.log(high))))
        return self._random.randrange(low, high + 1, step)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number from `low` to `high`."""
        if log:
            return math.exp(self._random.uniform(math.log(low), math.log(high)))
        if step:
            return low + step * self._random.randint(0, math.floor((high - low) / step + 1e-9))
        return self._random.uniform(low, high)


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


class Space:
    """Everything that may be chosen.

    Args:
        dimensions: What may be chosen, each after those that its condition names.
    """

    def __init__(self, dimensions: list[Dimension]) -> None:
        self.dimensions = dimensions

    @classmethod
    def read(cls, section: Any) -> "Space":
        """Read the section `space` of a search config.

        Raises:
            ValueError: If a dimension is not written as one; the message names it and shows how.
        """
        if not isinstance(section, dict) or not section:
            raise ValueError("space must name at least one option of fit and its choices, such as depth: [2, 4]")
        dimensions: list[Dimension] = []
        for name, spec in section.items():
            dimension = _read_dimension(str(name), spec)
            for other, labels in dimension.when.items():
                known = next((d for d in dimensions if other in d.names()), None)
                if not isinstance(known, Choice):
                    choices = [d.name for d in dimensions if isinstance(d, Choice)]
                    raise ValueError(
                        f"space.{name}: when names {other!r}, which is no choice before it; choose out of "
                        f"{', '.join(choices) or 'none: put it after the choice that it depends on'}"
                    )
                if wrong := [label for label in labels if label not in known.values]:
                    raise ValueError(
                        f"space.{name}: when {other} is {wrong[0]!r}, which is none of its choices: "
                        f"{', '.join(known.values)}"
                    )
            dimensions.append(dimension)
        return cls(dimensions)

    def suggest(self, trial: Suggests) -> dict[str, Any]:
        """Draw a candidate."""
        params: dict[str, Any] = {}
        for dimension in self.dimensions:
            if _holds(dimension, params):
                params |= dimension.suggest(trial)
        return params

    def check(self, params: Params) -> dict[str, Any]:
        """A candidate that somebody wrote by hand, in the order of the space.

        Raises:
            ValueError: If it lacks something, holds something else, or a value is none of the choices.
        """
        complete: dict[str, Any] = {}
        for dimension in self.dimensions:
            if _holds(dimension, complete):
                dimension.check(params)
                complete |= {name: params[name] for name in dimension.names()}
        if unknown := [name for name in params if name not in complete]:
            raise ValueError(f"{unknown[0]} is no part of this candidate; its parts are {', '.join(complete)}")
        return complete

    def words(self, params: Params) -> list[str]:
        """What `fit` is given for a candidate, or a part of one: config files, then options in the space's order."""
        words = [w for d in self.dimensions if set(d.names()) <= params.keys() for w in d.words(params)]
        files, flags = files_and_flags(words)
        return files + flags

    def all(self) -> Iterator[dict[str, Any]]:
        """Every candidate, in order; the first dimension varies slowest.

        Raises:
            ValueError: If there is no end of them.
        """
        for dimension in self.dimensions:
            dimension.all()
        yield from self._all({}, 0)

    def _all(self, params: dict[str, Any], place: int) -> Iterator[dict[str, Any]]:
        if place == len(self.dimensions):
            yield params
            return
        dimension = self.dimensions[place]
        if not _holds(dimension, params):
            yield from self._all(params, place + 1)
            return
        for part in dimension.all():
            yield from self._all(params | part, place + 1)

    def neighbour(self, params: Params, drawn: Suggests) -> dict[str, Any]:
        """A candidate that differs in one dimension, drawn anew, and in what depends on it."""
        present = [dimension for dimension in self.dimensions if _holds(dimension, params)]
        names = [dimension.name for dimension in present]
        chosen = drawn.suggest_categorical("which", names)
        near: dict[str, Any] = {}
        for dimension in self.dimensions:
            if not _holds(dimension, near):
                continue
            kept = {name: params[name] for name in dimension.names() if name in params}
            near |= dimension.suggest(drawn) if dimension.name == chosen or not kept else kept
        return near

    def covering(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every label, and both ends of every range, alone with what it depends on; with the name of each."""
        for dimension in self.dimensions:
            for value in dimension.ends():
                name = ", ".join(f"{name} {label}" for name, label in value.items())
                yield name, self._needed(dimension) | value

    def _needed(self, dimension: Dimension) -> dict[str, Any]:
        """Choices that a dimension depends on, and those that these depend on."""
        needed: dict[str, Any] = {}
        for other in self.dimensions:
            if other.name in dimension.when:
                needed |= self._needed(other) | {other.name: dimension.when[other.name][0]}
        return needed

    def size(self) -> float:
        """How many candidates there are; infinite if a number has no step."""
        decisive = {name for dimension in self.dimensions for name in dimension.when}
        deciding = Space([d for d in self.dimensions if d.name in decisive])
        free = [d for d in self.dimensions if d.name not in decisive]
        return sum(math.prod(d.size() for d in free if _holds(d, params)) for params in deciding._all({}, 0))

    def keys(self) -> dict[str, Dimension]:
        """The options of `fit` that the space sets, and what sets them."""
        keys: dict[str, Dimension] = {}
        for dimension in self.dimensions:
            if isinstance(dimension, Pattern):
                keys[dimension.key] = dimension
            elif "." in dimension.name:
                keys[dimension.name] = dimension
            elif isinstance(dimension, Choice):
                for group in dimension.values.values():
                    keys |= {key: dimension for key in group if key != CONFIG}
        return keys


def word(key: str, value: Any) -> str:
    """An option of `fit` as a word of its command line."""
    return f"--{key}={value if isinstance(value, str) else json.dumps(value)}"


def files_and_flags(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words of `fit` that stack a config file, and the others."""
    files = [w for w in words if w.startswith(f"--{CONFIG}=")]
    return files, [w for w in words if not w.startswith(f"--{CONFIG}=")]


def same(params: Params) -> str:
    """A text that two candidates share if, and only if, they are the same."""
    return json.dumps(dict(params), sort_keys=True)


def describe(params: Params) -> str:
    """A candidate in a line: names without the modules before them."""
    return ", ".join(f"{name.rpartition('.')[2]}={_short(value)}" for name, value in params.items())


def short_names(names: Sequence[str]) -> dict[str, str]:
    """As little of the end of each name as tells it from the others: `ma.scan` and `mixer.scan`, but `depth`."""
    short = {}
    for name in names:
        parts = name.split(".")
        tails = (".".join(parts[-length:]) for length in range(1, len(parts) + 1))
        short[name] = next(
            (t for t in tails if sum(other.endswith(f".{t}") or other == t for other in names) == 1), name
        )
    return short


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _holds(dimension: Dimension, params: Params) -> bool:
    return all(params.get(other) in labels for other, labels in dimension.when.items())


def _read_dimension(name: str, spec: Any) -> Dimension:
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
