"""Types of options that several verbs have; importing this imports no torch."""

import argparse


def positive(text: str) -> int:
    """A whole number of at least 1."""
    try:
        value = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number, such as 4") from error
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


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
