"""Errors of a config that name the key, the value and the choices, in a line or two.

jsonargparse reports a wrong value deep in a config as a tree of every type that it tried on the way. The tree's leaves
hold what a user needs; the rest of it, and the list of all options of all classes above it, hide them.
"""

import ast
import re
from importlib import import_module
from inspect import isabstract

from jsonargparse import ArgumentParser

_KEY = re.compile(r'Parser key "([^"]+)"')
_CLASS = re.compile(r"class_path[=:'\" ]+([\w.]+)")
_PATH = re.compile(r"([a-z_][\w.]*: )+")
_UNKNOWN = re.compile(r"Option '([^']+)' is not accepted")
_MISSING = re.compile(r"module '([\w.]+)' has no attribute '\w+'$")
_SEE = "; to see the options that there are, run the same command with --print_config"
# What a type that was tried in vain says, and the tree's own scaffolding.
_NOISE = re.compile(
    r"Does not validate against|Subtypes:|Errors:|Given value|Expected a path but"
    r"|Expected a <class '(NoneType|collections\.abc\.\w+|list)'>|Problem with given class_path|Expected a List"
)


def condense(message: str) -> str:
    """Reduce jsonargparse's error tree to `key: reason` lines."""
    keys: list[str] = []
    reasons: dict[str, None] = {}  # ordered, without repetition
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
        unknown = _UNKNOWN.search(text)
        if unknown and (owner := _owner(text[: unknown.start()], value, message)):
            text = f"{text[: unknown.start()]}unknown option {unknown[1]!r} of {owner}{_choices(owner)}"
        elif unknown:  # a flag for an object whose class only the config names
            text += "" if _SEE in text else _SEE
        elif missing := _MISSING.search(text):
            module = import_module(missing[1])
            public = [name for name in getattr(module, "__all__", ()) if not isabstract(getattr(module, name))]
            text += f"; choose out of {', '.join(public)}" if public else ""
        elif value and "Namespace(" not in value and value not in text:
            text = f"{text}, not {value!r}"
        reasons[text.replace("<class '", "").replace("'>", "")] = None
    if not reasons:
        return message
    # Parsers nest, and each level puts its own key before what the inner one said.
    gist = ": ".join([*keys, "; ".join(reasons)])
    path = _PATH.match(gist)
    return path[0].strip(": ").replace(": ", ".") + ": " + gist[path.end() :] if path else gist


def _owner(path: str, value: str, message: str) -> str | None:
    """Class path of the object that refused an option: named by the message, or found in the value that it quotes."""
    given = re.search(r"Given value: (\{.*\})$", message, re.MULTILINE)
    if path and given:
        node = ast.literal_eval(given[1])
        for key in path.strip(": ").split("."):
            node = node.get("init_args", node).get(key, {})
        return node.get("class_path")
    found = _CLASS.search(value or message)
    return found[1] if found else None


def _choices(class_path: str) -> str:
    """The options of a class."""
    module, _, name = class_path.rpartition(".")
    if not module:  # a short name: jsonargparse knew where to look, we do not
        return ""
    # Not its signature: options that a class hands on to the one it extends count, too.
    options = ArgumentParser().add_class_arguments(getattr(import_module(module), name))
    return f"; choose out of {', '.join(options)}"
