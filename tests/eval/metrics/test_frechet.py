"""Frechet distances: against eigenvalues of the plain product, closed forms, and a small network for FVD."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eval.metrics.frechet import FrechetDistance, Moments, frechet_distance
from eval.metrics.fvd import FrechetVideoDistance

torch.set_num_threads(1)


def moments(features: np.ndarray, chunk: int = 10**9) -> Moments:
    found = Moments()
    for start in range(0, len(features), chunk):
        found.update(torch.from_numpy(features[start : start + chunk]))
    return found


def naive(x: np.ndarray, y: np.ndarray) -> float:
    """From the eigenvalues of Cx Cy, which is not symmetric."""
    cx, cy = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    root = np.sqrt(np.linalg.eigvals(cx @ cy).astype(complex)).real.sum()
    return float(np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(cx) + np.trace(cy) - 2 * root)


def sets(dimensions: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, dimensions)) @ rng.normal(size=(dimensions, dimensions)) + 3
    y = rng.normal(size=(70, dimensions)) @ rng.normal(size=(dimensions, dimensions))
    return x, y


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_it_equals_the_naive_distance_whatever_the_chunks(chunk: int) -> None:
    x, y = sets()
    assert frechet_distance(moments(x, chunk), moments(y, chunk)) == pytest.approx(naive(x, y), rel=1e-9)


def test_moments_are_those_of_all_features_even_far_from_zero() -> None:
    x, _ = sets()
    x = x + 1e6
    found = moments(x, 7)
    torch.testing.assert_close(found.mean, torch.from_numpy(x.mean(0)))
    torch.testing.assert_close(found.covariance, torch.from_numpy(np.cov(x.T)), rtol=1e-6, atol=1e-6)


def test_in_one_dimension_it_is_that_of_means_and_deviations() -> None:
    x, y = sets(1)
    expected = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(expected)


def test_a_shift_adds_its_square_and_equal_sets_have_none() -> None:
    x, _ = sets()
    assert frechet_distance(moments(x), moments(x)) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(moments(x), moments(x + 2)) == pytest.approx(4 * 6)


def test_fewer_features_than_dimensions_still_have_a_distance() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 40)), rng.normal(size=(6, 40))
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(naive(x, y), rel=1e-6)


def test_bad_features_are_refused() -> None:
    x, _ = sets()
    with pytest.raises(ValueError, match="at least two features of each, got 1"):
        frechet_distance(moments(x), moments(x[:1]))
    with pytest.raises(ValueError, match="6 and of 5"):
        frechet_distance(moments(x), moments(x[:, :5]))
    with pytest.raises(ValueError, match="NaN"):
        moments(np.array([[math.nan]]))
    found = moments(x)
    with pytest.raises(ValueError, match=r"\(N, 6\), got \(2, 5\)"):
        found.update(torch.zeros(2, 5))


class MeanColor:
    name = "mean_color"

    def made_by(self) -> dict[str, Any]:
        return {"network": "none"}

    def __call__(self, frames: np.ndarray) -> Tensor:
        return torch.from_numpy(frames.astype(np.float32)).mean((1, 2))


def clips(count: int, frames: int, level: int = 128, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(level - 60, level + 60, (frames, 6, 8, 3)).astype(np.uint8) for _ in range(count)]


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_distance_of_frames_of_two_sets(chunk: int) -> None:
    one, other = clips(3, 9), clips(4, 8, 150, 1)
    metric = FrechetDistance(MeanColor())
    found = metric(*([[v[i : i + chunk] for i in range(0, len(v), chunk)] for v in videos] for videos in (one, other)))
    x, y = (np.concatenate(videos).astype(float).mean((1, 2)) for videos in (one, other))
    assert found.value == pytest.approx(naive(x, y), rel=1e-5)
    assert (metric.name, found.reference, found.compared, found.dimensions) == (
        "frechet_distance/mean_color",
        27,
        32,
        3,
    )
    assert "warning" not in found.made_by
    few = metric([[one[0][:3]]], [[other[0]]])
    assert few.made_by["warning"].startswith("biased: 3 features for 3 dimensions")


class TinyI3d(nn.Module):
    """Answers as the published file does; its feature tells frames apart, and whether pixels come as 0 to 255."""

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        if not (rescale and resize and return_features):
            return torch.zeros(len(x), 4)
        x = 2 * x / 255 - 1
        ramp = torch.linspace(0, 1, x.shape[2])[:, None, None]
        return torch.cat([x.mean([2, 3, 4]), (x * ramp).mean([1, 2, 3, 4])[:, None]], 1)


@pytest.fixture(scope="module")
def i3d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("i3d") / "i3d_torchscript.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(TinyI3d()).save(path)
    return path


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_fvd_is_the_distance_of_the_features_of_the_first_frames(i3d: Path, chunk: int) -> None:
    one, other = clips(8, 20), clips(9, 14, 150, 1)
    metric = FrechetVideoDistance(i3d, frames=12)
    found = metric(*([[v[i : i + chunk] for i in range(0, len(v), chunk)] for v in videos] for videos in (one, other)))

    def feature(video: np.ndarray) -> list[float]:
        x = video[:12].astype(float) / 127.5 - 1
        return [*x.mean((0, 1, 2)), (x * np.linspace(0, 1, 12)[:, None, None, None]).mean()]

    x, y = (np.array([feature(video) for video in videos]) for videos in (one, other))
    assert found.value == pytest.approx(naive(x, y), rel=1e-4)
    assert (metric.name, found.reference, found.compared, found.dimensions) == ("fvd_12f", 8, 9, 4)
    assert "warning" not in found.made_by
    assert len(found.made_by["sha256"]) == 64
    assert "biased" in metric([[v] for v in one[:4]], [[v] for v in other]).made_by["warning"]


def test_fvd_reads_no_more_of_a_video_than_it_needs(i3d: Path) -> None:
    read = []

    def chunks() -> Any:
        for frames in clips(9, 5):
            read.append(len(frames))
            yield frames

    FrechetVideoDistance(i3d).feature(chunks())
    assert read == [5, 5, 5, 5]


def test_fvd_refuses_what_it_cannot_do(i3d: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frames 9"):
        FrechetVideoDistance(i3d, frames=9)
    with pytest.raises(ValueError, match="is no file"):
        FrechetVideoDistance(tmp_path / "i3d_torchscript.pt")
    metric = FrechetVideoDistance(i3d)
    with pytest.raises(ValueError, match="15 frames is too short for FVD over 16"):
        metric.feature([clips(1, 15)[0]])
    with pytest.raises(ValueError, match="at least two"):
        metric([[v] for v in clips(1, 16)], [[v] for v in clips(3, 16)])
