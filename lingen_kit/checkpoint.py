"""Checkpoints of training runs: reading them back without a trainer.

A checkpoint is a torch file that holds the run's whole configuration as YAML text under `CONFIG_KEY`, so that nothing
else is needed to build the model. It is read with `weights_only=True`: no pickled code is executed.
"""

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor, nn

from lingen_kit.config import build_pipeline
from lingen_kit.models.embeddings import FactorizedPosition, resize_table
from lingen_kit.models.weights import check_weights, read_torch_file, weights_follow
from lingen_kit.pipeline import TextToVideoPipeline

CONFIG_KEY = "lingen_kit_config"
OPTIMIZERS_KEY = "lingen_kit_optimizers"
"""Class path and names of the parameters of each optimizer, in its order: its own state knows them by number only."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint's content onto the CPU; tensors stay on disk until they are used.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or was not written by a run of the kit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} {'is a folder' if path.is_dir() else 'does not exist'}")
    content = read_torch_file(path)
    if not isinstance(content.get("state_dict"), dict) or CONFIG_KEY not in content:
        raise ValueError(
            f"checkpoint {path} was not written by a training run of lingen_kit: it holds no configuration"
        )
    return content


def check_fits(weights: dict[str, Tensor], path: str | Path, module: nn.Module) -> None:
    """Compare the `weights` read from a checkpoint with a module's, before anything is loaded.

    Raises:
        ValueError: If names or shapes differ.
    """
    remedy = "Use the configuration that it was trained with: config.yaml in its run folder"
    check_weights(weights, module, f"checkpoint {path} is of another model", remedy)


def resize_tables(weights: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """The same weights, with positional tables interpolated to the lengths that a module has.

    Rows of a table that had a single one, as that of time after training on images, have nothing between them: each is
    that row plus the module's own, which starts at random. Equal rows would leave the model blind to their order.
    """
    resized = dict(weights)
    for name, own in position_tables(module).items():
        stored = weights.get(name)
        if stored is not None and stored.shape[1:] == own.shape[1:] and len(stored) != len(own):
            if len(stored) == 1:
                whole = own.full_tensor() if hasattr(own, "full_tensor") else own  # of one that is sharded over ranks
                resized[name] = stored + whole.detach().to(stored)
            else:
                resized[name] = resize_table(stored, len(own))
    return resized


def position_tables(module: nn.Module) -> dict[str, nn.Parameter]:
    """The positional tables of a module, whose length follows from the size of the videos, by name."""
    return {
        f"{name}.tables.{i}": table
        for name, part in module.named_modules()
        if isinstance(part, FactorizedPosition)
        for i, table in enumerate(part.tables)
    }


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
        with weights_follow():
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


def changed_options(content: dict[str, Any], config: dict[str, Any], sections: Sequence[str]) -> list[str]:
    """What differs between the options in a checkpoint and those of `config`, as `key: then -> now`."""
    stored = yaml.safe_load(content[CONFIG_KEY])
    return differences(*({name: options.get(name) for name in sections} for options in (stored, config)))


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two configs, as `key: then -> now`."""
    before, after = _flatten(then), _flatten(now)
    return [
        f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in sorted(before | after)
        if before.get(key) != after.get(key)
    ]


def _flatten(options: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(options, dict):
        return {prefix: options}
    flat: dict[str, Any] = {}
    for key, value in options.items():
        flat |= _flatten(value, prefix if key == "init_args" else f"{prefix}.{key}".strip("."))
    return flat
