"""Start training from the weights of another run: the next stage of a curriculum, or fine-tuning."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from callbacks.checkpoint import describe_optimizers
from callbacks.ema import EMA
from lingen_kit.checkpoint import OPTIMIZERS_KEY, check_fits, position_tables, read_checkpoint, resize_tables
from lingen_kit.models.embeddings import resize_table

__all__ = ["StartFrom"]


class StartFrom(Callback):
    """Takes over weights, their average and the optimizer's state from a checkpoint; everything else starts anew.

    Steps, learning-rate schedule and the place in the data begin at 0. The trained weights go into the model and the
    average into the average, which goes on at the decay that it had reached. Positional tables are interpolated to the
    length that the model has now, and so are the optimizer's moments of them. The state of parameters that were trained
    before and are now is kept where the optimizer is of the same class; others start with none. Parts that are not
    trained here take the average.

    Args:
        path: A checkpoint of a training run, from any number of ranks.
    """

    def __init__(self, path: str | Path) -> None:
        """Nothing is read yet."""
        self.path = Path(path)

    def check(self, module: nn.Module) -> None:
        """Refuse a checkpoint that cannot be read, or is of another model but for the length of its tables.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it cannot be read, or names or shapes differ.
        """
        weights = {name: value.to("meta") for name, value in read_checkpoint(self.path)["state_dict"].items()}
        check_fits(resize_tables(weights, module), self.path, module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load, when the optimizers are there."""
        content = read_checkpoint(self.path)
        average = content["state_dict"]
        trained = content.get("current_model_state", average)
        resized = [
            f"{name.removeprefix('pipeline.')} from {len(average[name])} to {len(table)}"
            for name, table in position_tables(pl_module).items()
            if len(average[name]) != len(table)
        ]
        # Interpolation may draw on what the module holds now: both are made before either is loaded.
        weights = [resize_tables(values, pl_module) for values in (average, trained)]
        # What is frozen from now on stays as it was sampled with.
        frozen = [name for name, parameter in pl_module.named_parameters() if not parameter.requires_grad]
        weights[1] |= {name: weights[0][name] for name in frozen}
        trainer.strategy.load_model_state_dict({"state_dict": weights[0]})
        updates = int(content.get("averaging_state", {}).get("n_averaged", 0))
        for callback in cast(Any, trainer).callbacks:
            if isinstance(callback, EMA):
                callback.begin(pl_module, updates)
        trainer.strategy.load_model_state_dict({"state_dict": weights[1]})
        notes = [f"starts from {self.path} at step {content['global_step']}"]
        notes += [f"interpolates {', '.join(resized)}"] if resized else []
        notes += self._load_optimizers(trainer, pl_module, content, trained)
        rank_zero_info("; ".join(notes))

    def _load_optimizers(
        self, trainer: Trainer, module: nn.Module, content: dict[str, Any], weights: dict[str, Tensor]
    ) -> list[str]:
        """Take over what is known of the parameters; what is not, in words."""
        optimizers = trainer.optimizers
        now = describe_optimizers(optimizers, module)
        then = content.get(OPTIMIZERS_KEY, [])
        classes = [[entry["class_path"] for entry in entries] for entries in (then, now)]
        if classes[0] != classes[1]:
            return [f"the optimizer's state is new: {_words(classes[1])} cannot take that of {_words(classes[0])}"]
        notes, loaded = [], []
        shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
        states = [saved["state"] for saved in content["optimizer_states"]]
        for optimizer, before, after, state in zip(optimizers, then, now, states, strict=True):
            stored = {name: state[i] for i, name in enumerate(before["names"]) if i in state}
            taken = {
                i: {key: _resized(value, weights[name].shape, shapes[name]) for key, value in stored[name].items()}
                for i, name in enumerate(after["names"])
                if name in stored
            }
            loaded.append({"state": taken, "param_groups": optimizer.state_dict()["param_groups"]})
            if len(taken) < len(after["names"]):
                notes.append(f"the optimizer has no state yet of {len(after['names']) - len(taken)} parameters")
        trainer.strategy.load_optimizer_state_dict({"optimizer_states": loaded})
        return notes


def _resized(value: Any, before: torch.Size, after: torch.Size) -> Any:
    """A moment of a parameter, as long as the parameter is now."""
    return resize_table(value, after[0]) if isinstance(value, Tensor) and value.shape == before != after else value


def _words(class_paths: Sequence[str]) -> str:
    return ", ".join(path.rpartition(".")[2] for path in class_paths) or "a checkpoint that names no optimizer"
