from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest

from eval.clips import Clips, clip_length, clip_starts
from eval.metric import Metric, Observer, Score, VideoFacts
from eval.metrics.consistency import Consistency
from eval.metrics.long_consistency import LongConsistency, read_mapping
from eval.suites.drift import Drift, drift_of


class Seen(Metric):
    """Lists the frames, by their gray level, that each observer was shown."""

    names = ("seen",)

    def observe(self, video: VideoFacts) -> Observer:
        return _Seeing(video)


class _Seeing(Observer):
    def __init__(self, video: VideoFacts) -> None:
        self.video, self.levels = video, []

    def update(self, frames: np.ndarray) -> None:
        self.levels += frames[:, 0, 0, 0].tolist()

    def scores(self) -> Mapping[str, Score]:
        assert len(self.levels) == self.video.frames
        assert self.levels == list(range(self.levels[0], self.levels[0] + len(self.levels)))
        return {"seen": Score(float(self.levels[0]))}


def frames(count: int) -> np.ndarray:
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 4, 4, 3)).copy()


def watch(metric: Metric, video: np.ndarray, chunk: int, fps: float = 4.0) -> Score:
    observer = metric.observe(VideoFacts("x", len(video), fps, *video.shape[1:3]))
    for start in range(0, len(video), chunk):
        observer.update(video[start : start + chunk])
    [score] = observer.scores().values()
    return score


@pytest.mark.parametrize(
    ("count", "length", "starts"),
    [(20, 8, [0, 8, 12]), (16, 8, [0, 8]), (8, 8, [0]), (5, 5, [0]), (17, 8, [0, 8, 9]), (9, 8, [0, 1])],
)
def test_clips_follow_each_other_and_the_last_borrows_frames(count: int, length: int, starts: list[int]) -> None:
    assert clip_starts(count, length) == starts


@pytest.mark.parametrize("chunk", [1, 3, 7, 20])
def test_each_clip_is_seen_whole_by_an_observer_of_its_own(chunk: int) -> None:
    score = watch(Clips(Seen(), 2.0), frames(20), chunk)
    assert score.details["clips"] == [0, 8, 12]
    assert score.value == pytest.approx(20 / 3)


def test_the_rate_is_rounded_down_and_short_videos_are_one_clip() -> None:
    assert clip_length(VideoFacts("x", 100, 29.97, 8, 8), 2.0) == 58
    assert clip_length(VideoFacts("x", 30, 29.97, 8, 8), 2.0) == 30
    assert watch(Clips(Seen(), 2.0), frames(5), 2).details["clips"] == [0]


def test_a_set_is_the_mean_over_videos() -> None:
    metric = Clips(Consistency("c", _Level()), 2.0)
    assert metric.corpus("c", [Score(1.0, 100), Score(0.0, 1)]) == 0.5


class _Level:
    """Features of a frame: an angle that grows with its gray level."""

    name = "level"

    def made_by(self) -> dict[str, str]:
        return {"network": "level"}

    def __call__(self, chunk: np.ndarray):
        import torch

        angle = torch.from_numpy(chunk[:, 0, 0, 0].astype(np.float32)) / 20
        return torch.stack([angle.cos(), angle.sin()], -1)


def test_long_consistency_joins_clips_and_their_first_frames(tmp_path) -> None:
    def consistent(levels: list[int]) -> float:
        pairs = pairwise(levels)
        return float(np.mean([(np.cos((b - a) / 20) + np.cos((b - levels[0]) / 20)) / 2 for a, b in pairs]))

    inside = np.mean([consistent(list(range(start, start + 8))) for start in (0, 8, 12)])
    across = consistent([0, 8, 12])
    plain = LongConsistency(Consistency("subject_consistency", _Level()), _Level(), 2.0)
    assert plain.names == ("subject_consistency_unmapped",)
    for chunk in (1, 6, 20):
        assert watch(plain, frames(20), chunk).value == pytest.approx((inside + across) / 2, abs=1e-6)
    table = tmp_path / "subject_mapping_table.yaml"
    table.write_text("0.0: 0.0\n0.5: 0.9\n1.0: 1.0\n")
    mapped = LongConsistency(Consistency("subject_consistency", _Level()), _Level(), 2.0, table)
    assert mapped.names == ("subject_consistency",)
    score = watch(mapped, frames(20), 5)
    expected = 0.9 + (across - 0.5) / 0.5 * 0.1
    assert score.value == pytest.approx((inside + expected) / 2, abs=1e-6)
    assert score.details == {
        "in_clip": pytest.approx(inside, abs=1e-6),
        "clip_to_clip": pytest.approx(across, abs=1e-6),
        "mapped": pytest.approx(expected, abs=1e-6),
    }
    assert "one clip" in watch(plain, frames(8), 8).why


def test_tables_that_are_none_are_refused(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="vbench2_beta_long/configs"):
        read_mapping(tmp_path / "none.yaml")
    (tmp_path / "words.yaml").write_text("a: b\n")
    with pytest.raises(ValueError, match="no table of numbers"):
        read_mapping(tmp_path / "words.yaml")
    (tmp_path / "falling.yaml").write_text("0.0: 1.0\n1.0: 0.0\n")
    with pytest.raises(ValueError, match="does not rise"):
        read_mapping(tmp_path / "falling.yaml")


def test_drift_is_the_distance_of_later_chunks_from_the_first() -> None:
    assert drift_of(Score(0.7, details={"clips": [0.8, 0.6, 0.4]})) == pytest.approx((0.25 + 0.5) / 2)
    assert drift_of(Score(0.7, details={"clips": [0.8]})) is None
    assert drift_of(Score(0.7, details={"clips": [0.8, None]})) is None
    with pytest.raises(ValueError, match="seconds is 0"):
        Drift(seconds=0)
