"""Checkpoints of training runs: reading them back without a trainer.

A checkpoint is a torch file that holds the run's whole configuration as YAML text under `CONFIG_KEY`, so that nothing
else is needed to build the model. It is read with `weights_only=True`: no pickled code is executed.
"""

import zipfile
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from lingen_kit.config import build_pipeline
from lingen_kit.pipeline import TextToVideoPipeline

CONFIG_KEY = "lingen_kit_config"


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint's content onto the CPU; tensors stay on disk until they are used.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or was not written by a run of the kit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} {'is a folder' if path.is_dir() else 'does not exist'}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"checkpoint {path} cannot be read: it is empty, truncated or no checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises half a dozen types for damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"checkpoint {path} cannot be read; it may be truncated or no checkpoint: {reason}") from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict) or CONFIG_KEY not in content:
        raise ValueError(
            f"checkpoint {path} was not written by a training run of lingen_kit: it holds no configuration"
        )
    return content


def check_fits(weights: dict[str, Tensor], path: str | Path, module: nn.Module) -> None:
    """Compare the `weights` read from a checkpoint with a module's, before anything is loaded.

    Raises:
        ValueError: If names or shapes differ.
    """
    states = weights, module.state_dict()
    stored, wanted = ({name: tuple(value.shape) for name, value in state.items()} for state in states)
    differing = [name for name in stored | wanted if stored.get(name) != wanted.get(name)]
    if differing:
        name = differing[0]
        raise ValueError(
            f"checkpoint {path} is of another model: {len(differing)} of {len(wanted)} tensors differ, the first is "
            f"{name} ({stored.get(name, 'absent')} in the checkpoint, {wanted.get(name, 'absent')} in the model). "
            "Use the configuration that it was trained with: config.yaml in its run folder"
        )


def load_pipeline(path: str | Path) -> TextToVideoPipeline:
    """Build the pipeline of a checkpoint with the weights that it was validated with (EMA, if the run had it).

    The classes that its configuration names are imported; like a config file, take checkpoints from whom you trust.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read or does not hold a text-to-video pipeline.
    """
    content = read_checkpoint(path)
    try:
        options = yaml.safe_load(content[CONFIG_KEY])["model"]["init_args"]
        known = signature(TextToVideoPipeline.__init__).parameters  # the task has options of its own besides
        pipeline = build_pipeline({name: value for name, value in options.items() if name in known})
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"checkpoint {path} does not describe a text-to-video pipeline: {reason[:400]}") from error
    prefix = "pipeline."
    weights = {
        name.removeprefix(prefix): value for name, value in content["state_dict"].items() if name.startswith(prefix)
    }
    check_fits(weights, path, pipeline)
    pipeline.load_state_dict(weights)
    return pipeline.eval()


def changed_options(content: dict[str, Any], model: dict[str, Any]) -> list[str]:
    """What differs between the model's options in a checkpoint and `model`, as `key: then -> now`."""
    then, now = (_flatten(options) for options in (yaml.safe_load(content[CONFIG_KEY]).get("model", {}), model))
    return [f"{key}: {then.get(key)} -> {now.get(key)}" for key in sorted(then | now) if then.get(key) != now.get(key)]


def _flatten(options: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(options, dict):
        return {prefix: options}
    flat: dict[str, Any] = {}
    for key, value in options.items():
        flat |= _flatten(value, prefix if key == "init_args" else f"{prefix}.{key}".strip("."))
    return flat
