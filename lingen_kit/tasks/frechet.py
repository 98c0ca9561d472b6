"""Frechet distance between real and reconstructed videos in the features of a trained network, as rFVD does it.

FVD (Unterthiner et al. 2018, arXiv 1812.01717) takes the features of I3D; here they are those of torchvision's R3D-18,
so the figures are comparable with each other only, and never called FVD.

Letters: N videos, F features, T frames, H height, W width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from lingen_kit.models.frozen import Frozen
from lingen_kit.tasks.pretrained import load_torchvision, torchvision_weights

_SIDE = 112


class VideoFeatures(Frozen):
    """What R3D-18, trained on Kinetics-400, sees in a video. Its weights are in no checkpoint.

    Args:
        weights: torchvision's file `r3d_18-b3b3357e.pth`; null for the one in torch's cache, downloaded if need be.
    """

    def __init__(self, weights: str | None = None) -> None:
        """Read the weights."""
        from torchvision.models.video import R3D_18_Weights, r3d_18

        with torch.device("meta"):
            network = r3d_18()
        load_torchvision(network, torchvision_weights(weights, R3D_18_Weights.KINETICS400_V1), weights)
        network.fc = nn.Identity()
        super().__init__(network)

    def forward(self, video: Tensor) -> Tensor:
        """Videos `(N, 3, T, H, W)` in [-1, 1] -> `(N, F)`."""
        mean, std = (video.new_tensor(v).view(3, 1, 1, 1) for v in ((0.432, 0.395, 0.376), (0.228, 0.221, 0.217)))
        small = F.interpolate(video.float(), (video.shape[2], _SIDE, _SIDE), mode="trilinear", align_corners=False)
        with self.running() as network:
            return network((small / 2 + 0.5 - mean) / std)


class FrechetDistance(Metric):
    """Frechet distance between the normal distributions of two sets of features."""

    real: list[Tensor]
    made: list[Tensor]

    def __init__(self) -> None:
        """Start with nothing seen."""
        super().__init__()
        for name in ("real", "made"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, real: Tensor, made: Tensor) -> None:
        """Take the features of more videos, `(N, F)` each."""
        self.real.append(real.double())
        self.made.append(made.double())

    def compute(self) -> Tensor:
        """The distance, NaN for fewer than two videos."""
        real, made = dim_zero_cat(self.real), dim_zero_cat(self.made)
        return frechet_distance(real, made).float()


def frechet_distance(x: Tensor, y: Tensor) -> Tensor:
    """`|mean x - mean y|^2 + tr(Cx + Cy - 2 (Cx Cy)^(1/2))` of features `(N, F)`, at least two rows each."""
    if min(len(x), len(y)) < 2:
        return x.new_tensor(torch.nan)
    x_centered, y_centered = (values - values.mean(0) for values in (x, y))
    # The trace of the root is the sum of the singular values of the product of two square roots, here those of QR.
    x_root, y_root = (torch.linalg.qr(values, mode="r").R for values in (x_centered, y_centered))
    shared = torch.linalg.svdvals((x_root @ y_root.T) / ((len(x) - 1) * (len(y) - 1)) ** 0.5).sum()
    spread = x_centered.square().sum() / (len(x) - 1) + y_centered.square().sum() / (len(y) - 1)
    return ((x.mean(0) - y.mean(0)).square().sum() + spread - 2 * shared).clamp(min=0)
