"""Building the model of an exported folder."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from lingen_kit.checkpoint import load_pipeline
from lingen_kit.config import build_pipeline
from lingen_kit.models.weights import load_weights, weights_follow
from lingen_kit.pipeline import TextToVideoPipeline
from lingen_kit.release.folder import read_release

PIPELINE = f"{TextToVideoPipeline.__module__}.{TextToVideoPipeline.__qualname__}"


def load_model(path: str | Path) -> TextToVideoPipeline:
    """The pipeline of an exported folder, or of a checkpoint of a training run.

    The classes that its configuration names are imported: take models from whom you trust.

    Raises:
        FileNotFoundError: If there is no such file or folder, or a file is missing in it.
        ValueError: If it cannot be read, holds no text-to-video pipeline, or needs classes that are not here.
        MissingPackage: If it needs a package that is not installed.
    """
    if not Path(path).is_dir():
        return load_pipeline(path)
    config = read_release(path).config
    if config["class_path"] != PIPELINE:
        name = config["class_path"].rpartition(".")[2]
        raise ValueError(
            f"model {path} is a {name} and no text-to-video pipeline; train with it as model.autoencoder "
            f"{config['class_path']} with weights: {path}, see its README.md"
        )
    check_importable(config["init_args"], f"model {path}")
    try:
        with weights_follow():
            pipeline = build_pipeline(config["init_args"])
    except ValueError as error:
        raise ValueError(f"model {path}: it cannot be built from its config.json: {error}") from error
    load_weights(pipeline, path)
    return pipeline.eval()


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
