"""Errors of a config that name the key, the value and the choices, in a line or two.

jsonargparse reports a wrong value deep in a config as a tree of every type that it tried on the way. The tree's leaves
hold what a user needs; the rest of it, and the list of all options of all classes above it, hide them.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from inspect import isabstract

from jsonargparse import ArgumentParser

_KEY = re.compile(r'Parser key "([^"]+)"')
_PATH = re.compile(r"([a-z_][\w.]*: )+")
_UNKNOWN = re.compile(r"(?:Option|Subcommand '\w+' does not accept option) '([^']+)'(?: is not accepted)?")
_HELPED = re.compile(r"(data|model): unknown option '[^']+' of (\w+)")
_HOMES = {"data": "lingen_kit.data", "model": "lingen_kit.tasks"}
_MISSING = re.compile(r"module '([\w.]+)' has no attribute '\w+'$")
_LIST = re.compile(r"Expected a (<class 'list'>|List)")
_UNRECOGNIZED = re.compile(r"unrecognized arguments: --([\w.]+)")
_REQUIRED = re.compile(r"the following arguments are required: (?:\w+\.)?(model|data)$")
_LISTED = 25  # options that a line may list
_OF_PARSERS = ("help", "config", "print_config", "print_shtab")
# What a type that was tried in vain says, and the tree's own scaffolding.
_NOISE = re.compile(
    r"Does not validate against|Subtypes:|Errors:|Given value|Expected a path but"
    r"|Expected a <class '(NoneType|collections\.abc\.\w+)'>|Problem with given class_path"
)


def condense(message: str) -> str:
    """Reduce jsonargparse's error tree to `key: reason` lines."""
    keys: list[str] = []
    reasons: dict[str, None] = {}  # ordered, without repetition
    no_list: dict[str, None] = {}  # beside another reason, that a value is no list means one type less
    for line in message.splitlines():
        text = line.strip().removeprefix("- ")
        for key in _KEY.findall(text):
            if not (keys and key == keys[-1]):
                keys.append(key)
        # A line may carry its parents before its own reason and the whole value after it.
        text = re.split(r"expects a function or a callable class: |Parser key \"[^\"]+\":\s*", text)[-1]
        text, _, value = text.partition(" Got value: ")
        text = text.strip().rstrip(".")
        if not text or _NOISE.match(text):
            continue
        if _LIST.match(text):
            no_list[f"expected a list, such as [{value}], not {value!r}"] = None
            continue
        if missing := _MISSING.search(text):
            module = import_module(missing[1])
            public = [name for name in getattr(module, "__all__", ()) if not isabstract(getattr(module, name))]
            text += f"; choose out of {', '.join(public)}" if public else ""
        elif value and "Namespace(" not in value and value not in text:
            text = f"{text}, not {value!r}"
        reasons[text.replace("<class '", "").replace("'>", "")] = None
    reasons = reasons or no_list
    if not reasons:
        return message
    # Parsers nest, and each level puts its own key before what the inner one said.
    gist = ": ".join([*keys, "; ".join(reasons)])
    path = _PATH.match(gist)
    gist = path[0].strip(": ").replace(": ", ".") + ": " + gist[path.end() :] if path else gist
    helped = _HELPED.match(gist)
    if helped and helped[2] in import_module(_HOMES[helped[1]]).__all__:
        gist += f"; `fit --{helped[1]}.help {_HOMES[helped[1]]}.{helped[2]}` explains them"
    return gist


class ExplainingParser(ArgumentParser):
    """Says with an option that it does not know which ones there are."""

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        """Raise the error."""
        super().error(name_unknown(message, self), ex)


def name_unknown(message: str, parser: ArgumentParser) -> str:
    """Say with an option that a parser does not know, or one that it misses, what there is."""
    options = [action.dest for action in parser._actions]
    if found := _UNRECOGNIZED.match(message):
        near = get_close_matches(found[1], options, n=1)
        return f"{message}; did you mean --{near[0]}?" if near else message
    if found := _REQUIRED.match(message):
        return f"the config has no {found[1]}: stack it on one that does, such as --config experiments/quickstart.yaml"
    if found := _UNKNOWN.fullmatch(message.strip()):
        groups = parser.groups or {}
        owner = next(iter(groups)) if len(groups) == 1 else ""  # the parser of a class has no other
        return _explain(found[1], owner, options)
    return message


def _explain(option: str, owner: str, options: Iterable[str]) -> str:
    """That there is no such option, and which ones there are beside it."""
    folder = option[: option.rfind(".") + 1]
    beside = (name.removeprefix(folder).split(".")[0] for name in options if name.startswith(folder))
    names = [name for name in dict.fromkeys(beside) if name not in _OF_PARSERS]
    near = get_close_matches(option.removeprefix(folder), names, n=1)
    text = f"unknown option {option!r}" + (f" of {owner}" if owner else "")
    text += f"; did you mean {near[0]!r}?" if near else ""
    if not names or (near and len(names) > _LISTED):
        return text
    return f"{text}{'' if near else ';'} choose out of {', '.join(names)}"
