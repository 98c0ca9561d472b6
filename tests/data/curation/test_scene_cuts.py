"""Cuts are found at the frame where they are, and clips stay away from them."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from lingen_kit.data.curation import Candidate, SceneCuts
from tests.data.curation.footage import FPS, pan, write

Make = Callable[..., Candidate]


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cuts at the frames 48 and 84."""
    scenes = [pan("coffee", 2, 0.1), pan("chelsea", 1.5, 0.1), pan("rocket", 2.5, 0.1)]
    return write(tmp_path_factory.mktemp("cut") / "cut.mp4", chain(*scenes))


@pytest.mark.parametrize("detector", ["adaptive", "content", "histogram", "hash"])
def test_cuts_are_found_at_their_frames(cut: Path, detector: str, series: Callable) -> None:
    found = series(cut, SceneCuts(detector=detector))["cuts"]  # type: ignore[arg-type]
    np.testing.assert_allclose(found * FPS, [48, 84], atol=0.01)


def test_cuts_of_a_real_montage(real_videos: dict[str, Path], series: Callable) -> None:
    """A bus, a street with a taxi, a cyclist at a light, parked bicycles: looked at frame by frame."""
    found = series(real_videos["bikes.mp4"], SceneCuts())["cuts"]
    np.testing.assert_allclose(found * 25, [30, 76, 137, 187, 242], atol=0.01)


def test_one_shot_has_no_cut(tmp_path: Path, series: Callable) -> None:
    path = write(tmp_path / "pan.mp4", pan("coffee", 3, 0.6))
    assert len(series(path, SceneCuts())["cuts"]) == 0


@pytest.mark.parametrize(
    ("cuts", "options", "expected"),
    [
        ([], {}, [(0, 10)]),
        ([4], {"margin": 0.5}, [(0, 3.5), (4.5, 10)]),
        ([4], {"margin": 0}, [(0, 4), (4, 10)]),
        ([], {"max_length": 4}, [(0, 10 / 3), (10 / 3, 20 / 3), (20 / 3, 10)]),
        ([1], {"margin": 0.5, "max_length": 6}, [(0, 0.5), (1.5, 5.75), (5.75, 10)]),
        ([5, 5.1], {"margin": 0.2}, [(0, 4.8), (5, 5.1), (5.3, 10)]),
    ],
)
def test_clips_are_cut_out_of_shots(
    cuts: list[float], options: dict, expected: list[tuple[float, float]], candidate: Make
) -> None:
    pieces = SceneCuts(**options).propose(candidate(seconds=10.0), {"cuts": np.array(cuts)})
    np.testing.assert_allclose(pieces, expected)


def test_cuts_outside_a_stretch_do_not_matter(candidate: Make) -> None:
    stretch = candidate(start=2.0, end=6.0, duration=10.0)
    assert SceneCuts(margin=0).propose(stretch, {"cuts": np.array([1.0, 3.0, 6.0, 8.0])}) == [(2, 3), (3, 6)]


def test_short_shots_are_dropped() -> None:
    assert SceneCuts(min_length=2).keep({"seconds": 1.99}) == "seconds 1.99 is below 2"
    assert SceneCuts(min_length=2).keep({"seconds": 2.0}) is None


def test_lengths_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"max_length 3 must be at least twice min_length 2"):
        SceneCuts(min_length=2, max_length=3)
