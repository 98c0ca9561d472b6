"""A suite from its name and options, with its types checked as a config's are."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from jsonargparse import ArgumentError

from eval.suite import Suite
from lingen_kit.parse_errors import ExplainingParser, condense


def build_suite(name: str, words: Sequence[str]) -> Suite:
    """Build a suite.

    Args:
        name: A suite of the kit, such as `ShapeBench`, in any case, or the class path of another.
        words: Its options, such as `--suite.num=32`; `--suite.help` prints them and ends the process.

    Raises:
        ValueError: If there is no such suite, or an option is unknown or wrong.
    """
    chosen = _class(name)
    parser = ExplainingParser(exit_on_error=False, allow_abbrev=False)
    parser.add_class_arguments(chosen, "suite")
    if "--suite.help" in words:
        print(f"options of {chosen.__name__}:\n{parser.format_help()}")
        sys.exit(0)
    try:
        config = parser.parse_args(list(words))
        return parser.instantiate(config).suite
    except (ArgumentError, argparse.ArgumentError) as error:
        raise ValueError(f"--suite {name}: {condense(str(error))}") from error


def _class(name: str) -> type[Suite]:
    from eval import suites  # here: it imports numpy, and the help of the command line does without

    own = {each.lower(): each for each in suites.__all__}
    if "." not in name or name.startswith("eval."):
        short = own.get(name.rpartition(".")[2].lower().replace("_", ""))
        if short is None:
            raise ValueError(
                f"--suite {name}: there is none; choose out of {', '.join(suites.__all__)}, or a class path"
            )
        return getattr(suites, short)
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--suite {name} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Suite)):
        raise ValueError(f"--suite {name} is no suite: derive it from eval.suite.Suite")
    return found
