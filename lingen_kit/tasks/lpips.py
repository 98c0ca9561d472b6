"""LPIPS: how different two pictures look to a trained network (Zhang et al. 2018, arXiv 1801.03924)."""

from pathlib import Path

import torch
from torch import Tensor, nn

from lingen_kit.models.frozen import Frozen
from lingen_kit.tasks.pretrained import load_torchvision, torchvision_weights

_STAGES = ((0, 4), (4, 9), (9, 16), (16, 23), (23, 30))  # of VGG16, each up to the last activation before a pooling


class LPIPS(Frozen):
    """The VGG16 variant, version 0.1, differentiable. Its weights are not trained and in no checkpoint.

    The weights of the comparison come with torchmetrics; those of VGG16 are torchvision's.

    Args:
        weights: torchvision's file `vgg16-397923af.pth`; null for the one in torch's cache, downloaded if need be.
    """

    def __init__(self, weights: str | None = None) -> None:
        """Read both sets of weights."""
        from torchvision.models import VGG16_Weights, vgg16

        with torch.device("meta"):
            features = vgg16().features
        stored = torchvision_weights(weights, VGG16_Weights.IMAGENET1K_V1)
        load_torchvision(features, _part(stored, "features."), weights)
        super().__init__(_Distance(features))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean distance of two batches of pictures `(N, 3, H, W)` in [-1, 1]; sides of at least 16 pixels."""
        distance = self.network
        if next(distance.parameters()).device != self.place.device:
            distance.to(self.place.device)
        return distance(x, y)


class _Distance(nn.Module):
    shift: Tensor
    scale: Tensor

    def __init__(self, features: nn.Module) -> None:
        import torchmetrics.functional.image as image

        super().__init__()
        layers = list(features.children())
        self.stages = nn.ModuleList(nn.Sequential(*layers[start:stop]) for start, stop in _STAGES)
        heads = torch.load(
            Path(image.__file__).parent / "lpips_models" / "vgg.pth", map_location="cpu", weights_only=True
        )
        for number in range(len(_STAGES)):
            self.register_buffer(f"head_{number}", heads[f"lin{number}.model.1.weight"].flatten())
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        both = (torch.cat([x, y]) - self.shift) / self.scale
        total = x.new_zeros(())
        for number, stage in enumerate(self.stages):
            both = stage(both)
            first, second = nn.functional.normalize(both, dim=1, eps=1e-4).chunk(2)
            weights = getattr(self, f"head_{number}")
            total = total + torch.einsum("nchw,c->nhw", (first - second).square(), weights).mean()
        return total


def _part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
