"""How the command line speaks of what went wrong."""

import sys


class MissingPackage(ImportError):
    """Something asked for by name needs a package that is not installed; the message says how to install it."""


def require_at_least(owner: str, minimum: float, **values: float) -> None:
    """Check numbers that a user chose.

    Raises:
        ValueError: If one of `values` is below `minimum`, naming it.
    """
    for name, value in values.items():
        if not value >= minimum:  # so that NaN is refused too
            raise ValueError(f"{owner}: {name} {value} must be at least {minimum}")


def divisors(number: int) -> str:
    """The numbers that divide `number`, as words for a message."""
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)


def explain(error: BaseException) -> str | None:
    """One line (or a few) for an error that the user can mend; None for a bug, which deserves its traceback.

    Code of the kit raises `ValueError` and `OSError` with messages that name the value and the fix, for callers in
    Python and on the command line alike.
    """
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, ValueError | OSError | MissingPackage):
        return str(error)
    misconfiguration = sys.modules.get("lightning.fabric.utilities.exceptions")  # only if lightning is loaded already
    if misconfiguration is not None and isinstance(error, misconfiguration.MisconfigurationException):
        return str(error)
    return None
