"""What a network is, in a few letters: equal only for the same class, the same options and the same weights."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lingen_kit.models.frozen import frozen_networks

_PLAIN = (bool, int, float, str, tuple, list, type(None))


def fingerprint(module: nn.Module) -> str:
    """Class, options as its `repr` shows them, and a hash over every weight, frozen or not, as `PixelSpace-1f3a...`."""
    digest = hashlib.blake2b(digest_size=12)
    digest.update(f"{type(module).__module__}.{type(module).__qualname__}\n{module!r}\n".encode())
    for name, part in module.named_modules():
        # Options that are plain attributes, such as a scale of the latents, show in no `repr` and have no weights.
        options = {key: value for key, value in vars(part).items() if isinstance(value, _PLAIN) and key != "training"}
        digest.update(f"{name} {sorted(options.items())}\n".encode())
    _add_weights(digest, module.state_dict())
    for name, network in frozen_networks(module):
        digest.update(f"{name} {type(network).__qualname__}\n".encode())
        _add_weights(digest, network.state_dict())
    return f"{type(module).__name__}-{digest.hexdigest()}"


def _add_weights(digest: Any, weights: Mapping[str, Tensor]) -> None:
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
