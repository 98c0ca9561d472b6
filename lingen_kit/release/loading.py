"""Building the model of an exported folder."""

from pathlib import Path

from lingen_kit.checkpoint import load_pipeline
from lingen_kit.config import build_pipeline
from lingen_kit.models.weights import load_weights, weights_follow
from lingen_kit.pipeline import TextToVideoPipeline
from lingen_kit.release.folder import read_release
from lingen_kit.release.options import check_importable

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
