"""What a network is, in a few letters: equal only for the same class, the same options and the same weights."""

import hashlib

import torch
from torch import nn


def fingerprint(module: nn.Module) -> str:
    """Class, options as its `repr` shows them, and a hash over every weight, as `PixelSpace-1f3a...`."""
    digest = hashlib.blake2b(digest_size=12)
    digest.update(f"{type(module).__module__}.{type(module).__qualname__}\n{module!r}\n".encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return f"{type(module).__name__}-{digest.hexdigest()}"
