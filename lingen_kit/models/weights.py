"""Weights from elsewhere: a training checkpoint, a safetensors file or a folder that holds one."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FILE = "model.safetensors"
"""Name of the weights in a folder."""

_following: ContextVar[bool] = ContextVar("_following", default=False)


@contextmanager
def weights_follow() -> Iterator[None]:
    """Within it `load_weights` does nothing: the caller loads a checkpoint over the module right after.

    So a model can be built from its checkpoint after the files that its training started from are gone.
    """
    token = _following.set(True)
    try:
        yield
    finally:
        _following.reset(token)


def load_weights(module: nn.Module, path: str | Path, prefix: str | Sequence[str] = "") -> None:
    """Load weights into a module; every tensor must fit. A module on the meta device, which has no storage, is left.

    Args:
        module: Where they go.
        path: A `.ckpt` of a training run (its average is taken), a `.safetensors` file, or a folder that holds
            `model.safetensors`.
        prefix: What names in the file begin with where the module is a part of what was saved, such as
            `autoencoder.`; of several the first that occurs. Without any, the file holds the module alone.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or names or shapes differ.
    """
    if _following.get() or any(parameter.is_meta for parameter in module.parameters()):
        return
    path = Path(path)
    if path.is_dir():
        if not (path / FILE).is_file():
            raise FileNotFoundError(f"weights {path}: the folder holds no {FILE}; name the file itself")
        path = path / FILE
    if not path.is_file():
        raise FileNotFoundError(f"weights {path} do not exist: train them first, or name another .ckpt or .safetensors")
    stored = _read_safetensors(path) if path.suffix == ".safetensors" else read_torch_file(path).get("state_dict")
    if not isinstance(stored, dict):
        raise ValueError(f"weights {path}: the file has no state_dict; give a checkpoint of a training run")
    prefixes = [prefix] if isinstance(prefix, str) else list(prefix)
    found = next((part for part in prefixes if any(name.startswith(part) for name in stored)), "")
    weights = {name.removeprefix(found): value for name, value in stored.items() if name.startswith(found)}
    check_weights(weights, module, f"weights {path} do not fit {type(module).__name__}")
    module.load_state_dict(weights)


def check_weights(weights: dict[str, Tensor], module: nn.Module, problem: str, remedy: str = "") -> None:
    """Compare names and shapes of weights with those of a module, before anything is loaded.

    Raises:
        ValueError: If they differ; the message begins with the `problem`, names the first difference and ends with
            the `remedy`.
    """
    stored, wanted = ({name: tuple(v.shape) for name, v in state.items()} for state in (weights, module.state_dict()))
    differing = [name for name in stored | wanted if stored.get(name) != wanted.get(name)]
    if differing:
        name = differing[0]
        raise ValueError(
            f"{problem}: {len(differing)} of {len(wanted)} tensors differ, the first is {name} "
            f"({stored.get(name, 'absent')} in the file, {wanted.get(name, 'absent')} in the model). "
            + (remedy or "Give the model the options that it was trained with")
        )


def read_torch_file(path: Path) -> dict[str, Any]:
    """Content of a file of torch's, read as data only; tensors stay on disk until they are used.

    Raises:
        ValueError: If it cannot be read or holds no mapping.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"checkpoint {path} cannot be read: it is empty, truncated or no checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises half a dozen types for damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"checkpoint {path} cannot be read; it may be truncated or no checkpoint: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"checkpoint {path} holds a {type(content).__name__} and no weights by name")
    return content


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"weights {path} cannot be read; the file may be truncated: {error}") from error
