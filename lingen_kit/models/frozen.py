"""Networks from elsewhere that are used as they are: never trained, never averaged, in no checkpoint of the kit.

A pretrained text encoder or autoencoder may be larger than the model that is trained beside it. Its weights come from
where its options say, each time that it is built; a checkpoint would only repeat them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import nn

from lingen_kit.ops.backend import no_autocast


class _Shared:
    """One network, however often what holds it is copied: an average of the weights starts as a copy of the model."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return self


class Frozen(nn.Module):
    """Holds a network that is not trained.

    To torch the network is no part of this module. So `parameters`, `state_dict` and `load_state_dict` do not list it,
    optimizers, averages, DDP and sharding do not see it, and neither `train` nor a cast of the model reaches it: it
    stays in eval mode and in its own dtype. Deep copies share it. It follows the device of this module when it is next
    used, so one that a run never uses never takes a GPU's memory.

    Args:
        network: The network. On the meta device it is only there to be counted.

    Attributes:
        place: A scalar that is moved and cast along with the model around: the device and dtype for results.
    """

    place: torch.Tensor

    def __init__(self, network: nn.Module) -> None:
        """Freeze the network."""
        super().__init__()
        self._shared = _Shared(network.eval().requires_grad_(False))
        self.register_buffer("place", torch.zeros(()), persistent=False)

    @property
    def network(self) -> Any:
        """The network, wherever it is."""
        return self._shared.network

    @contextmanager
    def running(self) -> Iterator[Any]:
        """The network on this module's device, for a region without gradients and autocast.

        What is computed there depends on the weights and inputs alone, and is an ordinary tensor even where the region
        is entered in inference mode: it may be kept and used in training.

        Raises:
            ValueError: If the network was built on the meta device.
        """
        network, device = self.network, self.place.device
        with torch.inference_mode(False), torch.no_grad(), no_autocast(self.place):
            first = next(chain(network.parameters(), network.buffers()), self.place)
            if first.device != device:
                if first.is_meta:
                    raise ValueError(
                        f"{type(network).__name__} was built on the meta device, without weights; build it on another"
                    )
                network.to(device)
            yield network


def frozen_networks(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The networks that `Frozen` holds anywhere in a module, with the names of the holders."""
    for name, part in module.named_modules():
        if isinstance(part, Frozen):
            yield name, part.network
