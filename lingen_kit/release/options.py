"""Looking through the options of a model, which are plain data: classes, paths."""

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

_SLASH = re.compile(r"[\\/]")
_HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def check_importable(options: dict[str, Any], what: str) -> None:
    """Import the classes that options name, which may be the user's own.

    Raises:
        ValueError: If one is not there; the message starts with `what` needs it.
    """
    for path in class_paths(options):
        module, _, name = path.rpartition(".")
        try:
            there = hasattr(import_module(module), name)
        except ModuleNotFoundError as error:
            raise ValueError(
                f"{what} needs {path}, and there is no module {error.name} here: install it, or put the folder that "
                "holds it on PYTHONPATH"
            ) from error
        if not there:
            raise ValueError(f"{what} needs {path}, and {module} has no {name} here: it may be another version")


def class_paths(options: Any) -> Iterator[str]:
    """The class paths anywhere in a model's options."""
    if isinstance(options, dict):
        if isinstance(options.get("class_path"), str):
            yield options["class_path"]
        options = list(options.values())
    if isinstance(options, list):
        for value in options:
            yield from class_paths(value)


def folders_named(options: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The options that name a folder or file of this machine, as key and path: others will not have it."""
    for name, value in _items(options):
        inner = key if name == "init_args" else f"{key}.{name}".strip(".")
        if isinstance(value, str) and _SLASH.search(value) and Path(value).expanduser().exists():
            yield inner, value
        yield from folders_named(value, inner)


def without_folders(options: Any, *, hub: bool = False) -> Any:
    """The options with only the last name of each path or URL: where data lay is nobody's business.

    Args:
        options: Plain data.
        hub: Keep what may be `ORG/NAME` on the Hugging Face hub.
    """
    if isinstance(options, str):
        if hub and _HUB.fullmatch(options) and not Path(options).exists():
            return options
        return next((part for part in reversed(_SLASH.split(options)) if part), options)
    if isinstance(options, Mapping):
        return {name: without_folders(value, hub=hub) for name, value in options.items()}
    return [without_folders(value, hub=hub) for value in options] if isinstance(options, list) else options


def without_origins(options: Any) -> Any:
    """The options without the files that training started from: those weights are in the model's own by now."""
    if isinstance(options, Mapping):
        return {
            name: None if name == "weights" and _is_file_of_weights(value) else without_origins(value)
            for name, value in options.items()
        }
    return [without_origins(value) for value in options] if isinstance(options, list) else options


def _is_file_of_weights(value: Any) -> bool:
    return isinstance(value, str) and (Path(value).suffix in (".ckpt", ".safetensors") or Path(value).is_dir())


def _items(options: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(options, Mapping):
        yield from options.items()
    elif isinstance(options, list):
        yield from ((str(i), value) for i, value in enumerate(options))
