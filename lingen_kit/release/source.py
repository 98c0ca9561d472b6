"""What is exported of a training run: weights and options of a checkpoint."""

import json
from inspect import signature
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import yaml
from torch import Tensor, nn

from lingen_kit.checkpoint import CONFIG_KEY, read_checkpoint
from lingen_kit.config import build_encoders, build_pipeline
from lingen_kit.models.weights import check_weights, weights_follow
from lingen_kit.pipeline import TextToVideoPipeline
from lingen_kit.release.loading import PIPELINE
from lingen_kit.release.options import check_importable, without_origins


class Source(NamedTuple):
    """A model in a checkpoint.

    Attributes:
        class_path: Its class: that of the pipeline, or of an autoencoder.
        init_args: Its options, as plain data.
        weights: Its weights by name.
        average: Whether they are an average of those of the last steps.
        model: It on the meta device, without storage, to be counted.
        training: The whole configuration of the run.
        step: Optimizer steps that it was trained.
    """

    class_path: str
    init_args: dict[str, Any]
    weights: dict[str, Tensor]
    average: bool
    model: nn.Module
    training: dict[str, Any]
    step: int


def read_source(path: str | Path, weights: Literal["ema", "raw"] = "ema") -> Source:
    """Take a text-to-video pipeline, or an autoencoder that was trained alone, out of a checkpoint.

    Args:
        path: A checkpoint of a training run.
        weights: The average that the run was validated with, or the trained weights themselves.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read or holds neither.
    """
    content = read_checkpoint(path)
    average = weights == "ema" and "current_model_state" in content
    state = content["state_dict"] if weights == "ema" else content.get("current_model_state", content["state_dict"])
    try:
        training = yaml.safe_load(content[CONFIG_KEY])
        options = training["model"]["init_args"]
        part = next(name for name in ("pipeline", "autoencoder") if any(key.startswith(f"{name}.") for key in state))
        if part == "pipeline":
            known = signature(TextToVideoPipeline.__init__).parameters  # the task has options of its own besides
            class_path, init_args = PIPELINE, {name: value for name, value in options.items() if name in known}
        else:
            entry = options.get(part) or {"class_path": "lingen_kit.models.TAE"}
            class_path, init_args = entry["class_path"], entry.get("init_args", {})
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise ValueError(
            f"checkpoint {path} holds neither a text-to-video pipeline nor an autoencoder: train with "
            "lingen_kit.tasks.TextToVideo or Autoencoding, or a task with a `pipeline` of the kit's"
        ) from error
    init_args = json.loads(json.dumps(without_origins(init_args)))  # as it will be read
    check_importable({"class_path": class_path, "init_args": init_args}, f"checkpoint {path}")
    model = _on_meta(class_path, init_args, path)
    kept = {
        name.removeprefix(f"{part}."): value for name, value in sorted(state.items()) if name.startswith(f"{part}.")
    }
    check_weights(kept, model, f"checkpoint {path} is not as its configuration says", "Is the kit of another version?")
    return Source(class_path, init_args, kept, average, model, training, int(content["global_step"]))


def _on_meta(class_path: str, init_args: dict[str, Any], path: str | Path) -> nn.Module:
    try:
        with torch.device("meta"), weights_follow():
            if class_path == PIPELINE:
                return build_pipeline(init_args)
            return build_encoders({"autoencoder": {"class_path": class_path, "init_args": init_args}}).autoencoder
    except ValueError as error:
        raise ValueError(f"checkpoint {path}: its model cannot be built: {' '.join(str(error).split())}") from error
