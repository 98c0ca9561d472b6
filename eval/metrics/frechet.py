"""Frechet distance between two sets of videos in the features of any network, in memory that the sets do not change.

The distance between the normal distributions that fit the features (Dowson and Landau 1982; Heusel et al., GANs trained
by a two time-scale update rule, arXiv 1706.08500, eq. 6):

    |mean x - mean y|^2 + tr(Cx + Cy - 2 (Cx Cy)^(1/2))

Only count, mean and covariance are kept, in double precision. The estimate is biased upwards where there are fewer
features than dimensions, and its size depends on the number: compare distances of equally many only.

Letters: N features of a chunk, D dimensions.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eval.metric import Frames
from eval.metrics.consistency import Extractor

__all__ = ["FrechetDistance", "Moments", "SetDistance", "distance_of", "frechet_distance"]


class Moments:
    """Count, mean and covariance of features that go by in chunks (Chan, Golub, LeVeque 1983).

    Attributes:
        count: How many there were.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = self._scatter = torch.zeros(0, dtype=torch.float64)

    @property
    def mean(self) -> Tensor:
        """`(D,)`."""
        return self._mean

    @property
    def covariance(self) -> Tensor:
        """`(D, D)`, of the sample (divided by the count less one).

        Raises:
            ValueError: If there were fewer than two features.
        """
        if self.count < 2:
            raise ValueError(f"a distance between sets needs at least two features of each, got {self.count}")
        return self._scatter / (self.count - 1)

    def update(self, features: Tensor) -> None:
        """Take `(N, D)` more.

        Raises:
            ValueError: If their shape does not fit, or they are not finite.
        """
        if features.ndim != 2 or (self.count and features.shape[1] != len(self._mean)):
            raise ValueError(f"features are (N, {len(self._mean) or 'D'}), got {(*features.shape,)}")
        if not features.isfinite().all():
            raise ValueError("features hold NaN or infinity")
        if not len(features):
            return
        values = features.detach().cpu().double()
        count, mean = len(values), values.mean(0)
        centered = values - mean
        scatter = centered.T @ centered
        if self.count:
            total = self.count + count
            shift = mean - self._mean
            scatter = self._scatter + scatter + torch.outer(shift, shift) * (self.count * count / total)
            mean = self._mean + shift * (count / total)
        self.count, self._mean, self._scatter = self.count + count, mean, scatter


def frechet_distance(x: Moments, y: Moments) -> float:
    """The distance.

    Raises:
        ValueError: If a set has fewer than two features, or they differ in dimensions.
    """
    if x.count and y.count and len(x.mean) != len(y.mean):
        raise ValueError(f"features of {len(x.mean)} and of {len(y.mean)} dimensions have no distance")
    cx, cy = x.covariance, y.covariance
    # (Cx Cy)^(1/2) has the trace of (S Cy S)^(1/2) with S the root of Cx, and that is symmetric.
    values, vectors = torch.linalg.eigh(cx)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    shared = torch.linalg.eigvalsh(root @ cy @ root).clamp(min=0).sqrt().sum()
    distance = (x.mean - y.mean).square().sum() + cx.trace() + cy.trace() - 2 * shared
    return float(distance.clamp(min=0))


@dataclass(frozen=True)
class SetDistance:
    """A distance between two sets of videos.

    Attributes:
        value: The distance.
        reference: How many features the reference gave.
        compared: How many features the other set gave.
        dimensions: D.
        made_by: What it rests on, plain JSON data; `warning` says when there were too few features.
    """

    value: float
    reference: int
    compared: int
    dimensions: int
    made_by: dict[str, Any]


def distance_of(reference: Moments, compared: Moments, made_by: dict[str, Any]) -> SetDistance:
    """The distance with what is to be said of it.

    Raises:
        ValueError: See `frechet_distance`.
    """
    value = frechet_distance(reference, compared)
    least, dimensions = min(reference.count, compared.count), len(reference.mean)
    if least <= dimensions:
        warning = f"biased: {least} features for {dimensions} dimensions; compare with equally many only"
        made_by = made_by | {"warning": warning}
    return SetDistance(value, reference.count, compared.count, dimensions, made_by)


class FrechetDistance:
    """The distance between the frames of two sets of videos, each frame a feature.

    Args:
        extractor: What sees the frames.
    """

    def __init__(self, extractor: Extractor) -> None:
        self.name = f"frechet_distance/{extractor.name}"
        self.extractor = extractor

    def made_by(self) -> dict[str, Any]:
        """The extractor."""
        return self.extractor.made_by()

    def moments(self, videos: Iterable[Iterable[Frames]]) -> Moments:
        """Of the frames of videos, each as chunks `(N, H, W, 3)`."""
        found = Moments()
        for video in videos:
            for frames in video:
                found.update(self.extractor(frames))
        return found

    def __call__(self, reference: Iterable[Iterable[Frames]], videos: Iterable[Iterable[Frames]]) -> SetDistance:
        """The distance of two sets of videos, each as chunks of frames.

        Raises:
            ValueError: If a set has fewer than two frames.
        """
        return distance_of(self.moments(reference), self.moments(videos), self.made_by())
