"""The space that a search draws from, and the words that `fit` is given for what is drawn.

A candidate is a mapping of names to labels or numbers, such as `{"mixer": "lingen", "model.denoiser.depth": 4}`.
"""

import json
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

from lingen_kit.search.dimensions import CONFIG, Choice, Dimension, Params, Pattern, Suggests, read_dimension


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
            dimension = read_dimension(str(name), spec)
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
