"""Checks of what a user chose."""

from typing import Any, get_args


def require_choice(owner: str, literal: Any, **values: object) -> None:
    """Check that options are among the names of a `Literal`.

    Raises:
        ValueError: If one of `values` is not, naming it and the choices.
    """
    for name, value in values.items():
        if value not in get_args(literal):
            raise ValueError(f"{owner}: {name} {value!r} is unknown; choose out of {', '.join(get_args(literal))}")
