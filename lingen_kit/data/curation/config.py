"""The pipeline of a YAML file: filters by class path, each option checked against its type."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError

from lingen_kit.data.curation.filter import Filter
from lingen_kit.parse_errors import ExplainingParser, condense


@dataclass
class Pipeline:
    """What `data curate` does.

    Args:
        filters: In the order in which they decide; those for sets come after the others.
        shorter_side: Frames are scaled down to this shorter side, in pixels, before anything is measured.
    """

    filters: list[Filter]
    shorter_side: int = 256


def read_pipeline(path: str | Path) -> Pipeline:
    """Read, check and build the filters.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a key or a value is wrong, naming it.
        MissingPackage: If a filter needs a package that is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"config {path} {'is a folder' if path.is_dir() else 'does not exist'}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"config {path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not content.get("filters"):
        raise ValueError(f"config {path} must hold a list `filters`, as experiments/recipes/curate.yaml does")
    _check_keys(path, content)
    parser = ExplainingParser(exit_on_error=False)
    parser.add_class_arguments(Pipeline)
    try:
        pipeline: Pipeline = Pipeline(**vars(parser.instantiate(parser.parse_object(content))))
    except ArgumentError as error:
        raise ValueError(f"config {path}: {condense(str(error))}") from error
    if pipeline.shorter_side < 32:
        raise ValueError(f"config {path}: shorter_side {pipeline.shorter_side} must be at least 32 pixels")
    scores = list(dict.fromkeys(name for each in pipeline.filters for name in each.explains))
    for each in pipeline.filters:
        each.check(scores)
    return pipeline


def _check_keys(path: Path, content: dict[Any, Any]) -> None:
    """Refuse keys that there are not, with those that there are."""
    known = [each.name for each in fields(Pipeline)]
    if unknown := [key for key in content if key not in known]:
        raise ValueError(f"config {path}: unknown key {unknown[0]!r}; choose out of {', '.join(known)}")
    if not isinstance(content["filters"], list):
        raise ValueError(f"config {path}: filters must be a list, each entry with - class_path: before it")
    for number, entry in enumerate(content["filters"], 1):
        if isinstance(entry, dict) and (wrong := [key for key in entry if key not in ("class_path", "init_args")]):
            raise ValueError(
                f"config {path}: unknown key {wrong[0]!r} in filter {number}; choose out of class_path, init_args, and"
                " write the options of the filter below init_args"
            )
