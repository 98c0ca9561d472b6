"""Types of options that several verbs have; importing this imports no torch."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from lingen_kit import zoo

_Number = TypeVar("_Number", int, float)


def number(
    kind: type[_Number],
    what: str,
    *,
    least: _Number | None = None,
    above: _Number | None = None,
    most: _Number | None = None,
) -> Callable[[str], _Number]:
    """The type of an option that is a finite number.

    Args:
        kind: `int` or `float`.
        what: What it is, and an example, such as `number of seconds, such as 120`; it follows "is no".
        least: It is at least this.
        above: It is above this.
        most: It is at most this, which comes with `least`.
    """

    def parse(text: str) -> _Number:
        try:
            value = kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text} is no {what}") from error
        if not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{text} is no {what}")
        if least is not None and most is not None and not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least} and {most}")
        if least is not None and value < least:
            raise argparse.ArgumentTypeError(f"{text} is below {least}")
        if above is not None and value <= above:
            raise argparse.ArgumentTypeError(f"{text} is not above {above}")
        return value

    return parse


positive = number(int, "whole number, such as 4", least=1)
workers = number(int, "number of processes; give a whole one, such as 4", least=0)
seconds = number(float, "number of seconds, such as 120", above=0)
share = number(float, "share, such as 0.05", least=0, most=1)


def model(text: str) -> Path:
    """The type of an option that is a checkpoint, a folder that `export` wrote, or a model of the zoo."""
    try:
        return zoo.find(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def device(name: str) -> str:
    """A device that works here, `auto` resolved.

    Raises:
        ValueError: If it cannot be used.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if name == "meta":
            raise RuntimeError("it holds no data")
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA raises an AssertionError
        raise ValueError(f"--device {name} cannot be used here; choose cpu, or auto: {error}") from error
    return name
