"""Published networks out of files and hubs: loaded whole, or refused with the reason."""

import hashlib
import pickle
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from lingen_kit.errors import MissingPackage

__all__ = ["from_hub", "hub_described", "load_published"]

Network = TypeVar("Network", bound=nn.Module)


def load_published(network: Network, path: Path, key: str = "", optional: tuple[str, ...] = ()) -> Network:
    """Fill a network with the weights of a file, all of them; it comes back frozen and ready to be asked.

    Args:
        network: As it was published.
        path: The file.
        key: Under which the file holds the weights, beside other things; a file of nothing but weights will do as well.
        optional: Names that the file may lack.

    Raises:
        ValueError: If the file holds something else, or another network.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} is no file of weights alone: {str(error).splitlines()[0]}") from error
    state = content.get(key, content) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, where names and weights are expected")
    wanted = network.state_dict()
    missing = sorted(wanted.keys() - state.keys() - set(optional))
    unknown = sorted(state.keys() - wanted.keys())
    other = [name for name in wanted.keys() & state.keys() if wanted[name].shape != state[name].shape]
    for names, what in ((missing, "lacks"), (unknown, "has besides"), (sorted(other), "has with another shape")):
        if names:
            raise ValueError(
                f"{path} holds another network than {type(network).__name__}: it {what} {names[0]}"
                + (f" and {len(names) - 1} more" if len(names) > 1 else "")
            )
    network.load_state_dict(state, strict=False)  # what it may lack keeps its value
    return network.eval().requires_grad_(False)


def from_hub(model: str, kind: str) -> Any:
    """Load something of transformers by name.

    Args:
        model: A folder, or a repository of the Hugging Face hub.
        kind: Class that loads it, such as `Owlv2Processor`.

    Raises:
        MissingPackage: If transformers, or what the class needs besides, is not installed.
        ValueError: If it is not here and cannot be fetched, or is something else.
    """
    try:
        import transformers

        return getattr(transformers, kind).from_pretrained(model)
    except ImportError as error:
        raise MissingPackage(
            f'{model} needs transformers, which cannot load it ({error}); pip install "lingen_kit[hub]"'
        ) from error
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{model} is neither a folder with such a model nor in the cache of the Hugging Face hub, and cannot be "
            f"fetched: {str(error).strip().splitlines()[0]}. Fetch it where there is a network, with "
            f"`hf download {model}`, and copy the cache or name the folder"
        ) from error


def hub_described(model: str) -> dict[str, Any]:
    """What results say of a model out of a hub: its name and its commit, or the hashes of the folder's weights."""
    folder = Path(model)
    if folder.is_dir():
        files = sorted(folder.glob("*.safetensors"))
        return {"network": folder.name, "sha256": {file.name: _sha256(file) for file in files}}
    return {"network": model, "commit": from_hub(model, "AutoConfig")._commit_hash}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
