"""Architecture search over the options of `fit`: candidates, what they cost, how they train, and what to make of it."""

from importlib.util import find_spec

from lingen_kit.errors import MissingPackage

if find_spec("optuna") is None:
    raise MissingPackage("search needs the package optuna: pip install 'lingen_kit[search]'")
