"""The contract of filters: sampling, packing, keys of measures, ranking."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from lingen_kit.data.curation import Candidate, Exposure, Meter, Motion, Sharpness
from lingen_kit.data.curation.filter import pack, rank, require, unpack
from lingen_kit.data.curation.frame import Frame
from lingen_kit.errors import MissingPackage

Make = Callable[..., Candidate]


class Times(Meter):
    def __init__(self, fps: float | None) -> None:
        super().__init__(fps)
        self.times: list[float] = []

    def add(self, frame: Frame) -> None:
        self.times.append(frame.time)

    def result(self) -> dict[str, np.ndarray]:
        return {}


@pytest.mark.parametrize(
    ("times", "fps", "expected"),
    [
        ([0, 1 / 30, 2 / 30, 3 / 30], None, [0, 1 / 30, 2 / 30, 3 / 30]),
        ([i / 24 for i in range(24)], 4, [0, 6 / 24, 12 / 24, 18 / 24]),
        ([i / 30 for i in range(30)], 8, [i / 30 for i in (0, 4, 8, 12, 15, 19, 23, 27)]),
        ([0, 0.4, 3.0, 3.1], 2, [0, 3.0]),  # a gap is not made up for
        ([0, 1, 2], 8, [0, 1, 2]),
    ],
)
def test_a_meter_sees_the_frames_that_it_wants(times: list[float], fps: float | None, expected: list[float]) -> None:
    meter = Times(fps)
    for time in times:
        meter.offer(Frame(time, np.zeros((8, 8, 3), np.uint8)))
    assert meter.times == pytest.approx(expected)


def test_packed_arrays_come_back() -> None:
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(3, 2),
        "b": np.array([2**63 + 1], np.uint64),
        "c": np.array([]),
    }
    back = unpack(pack(arrays))
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_only_what_matters_changes_what_is_measured() -> None:
    key = Exposure().measure_key(256)
    assert Exposure(max_black=0.5).measure_key(256) == key
    assert Exposure(black_level=16).measure_key(256) != key
    assert Exposure().measure_key(128) != key
    assert Motion(fps=4).measure_key(256) != Motion(fps=8).measure_key(256)


def test_a_changed_measure_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    key = Sharpness().measure_key(256)
    monkeypatch.setattr(Sharpness, "version", Sharpness.version + 1)
    assert Sharpness().measure_key(256) != key


def test_moments_inside_a_clip(candidate: Make) -> None:
    clip = candidate(start=1.0, end=2.0, duration=5.0)
    assert clip.inside(np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.5])).tolist() == [2, 3]


def test_the_best_comes_first(candidate: Make) -> None:
    clips = [
        candidate("short", 2.0, scores={"s": 5.0}),
        candidate("long", 4.0, scores={"s": 5.0}),
        candidate("unknown", scores={"s": math.nan}),
        candidate("best", scores={"s": 9.0}),
        candidate("wanted", scores={"s": 1.0}, decision="keep"),
    ]
    names = [clip.name for clip in sorted(clips, key=lambda clip: rank(clip, "s"))]
    assert names == ["wanted", "best", "long", "short", "unknown"]


def test_a_missing_package_comes_with_the_line_that_installs_it() -> None:
    with pytest.raises(MissingPackage, match=r'Motion needs no_such_package.*pip install "lingen_kit\[curate\]"'):
        require("no_such_package", "Motion")
