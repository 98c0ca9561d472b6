"""torchvision's networks as measures of reconstructions, with weights from a file or from torch's hub cache."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor


def torchvision_weights(path: str | None, published: Any) -> dict[str, Tensor]:
    """Weights of one of torchvision's networks.

    Args:
        path: A file of torchvision's, such as `vgg16-397923af.pth`; null for its cached or downloaded one.
        published: The member of torchvision's enumeration that is meant if `path` is null.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read or downloaded.
    """
    if path is None:
        try:
            return published.get_state_dict(progress=False, check_hash=True)
        except (URLError, RuntimeError) as error:  # RuntimeError: a broken download
            raise ValueError(
                f"torchvision's {published} cannot be downloaded from {published.url}: {error}; download it elsewhere "
                "and give its path as weights"
            ) from error
    if not Path(path).is_file():
        raise FileNotFoundError(f"weights {path} do not exist; {published.url} is the file to download")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for damaged files
        raise ValueError(f"weights {path} cannot be read: {' '.join(str(error).split())[:200]}") from error


def load_torchvision(network: torch.nn.Module, weights: dict[str, Tensor], path: str | None) -> None:
    """Give a network on the meta device its weights.

    Raises:
        ValueError: If they are of another network.
    """
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if len(str(error).splitlines()) > 1 else str(error)
        raise ValueError(f"weights {path} are of another network: {reason[:200]}") from error
