"""One measure of one file, and candidates that need no file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lingen_kit.data.curation.filter import Candidate, Filter, unpack
from lingen_kit.data.curation.measure import VIDEO, Pass, measure_file

pytest.importorskip("cv2", reason="needs the extra curate")
pytest.importorskip("scenedetect", reason="needs the extra curate")

Measure = Callable[..., dict[str, Any]]


def _candidate(name: str = "a.mp4", seconds: float = 4.0, **options: Any) -> Candidate:
    options = {"start": 0.0, "end": seconds, "duration": seconds, "caption": "a cat sleeps", **options}
    return Candidate(name, Path("clips") / name, fps=24.0, width=256, height=144, file=name, **options)


@pytest.fixture
def candidate() -> Callable[..., Candidate]:
    return _candidate


@pytest.fixture
def series() -> Callable[[Path, Filter], Mapping[str, np.ndarray]]:
    """What a filter measures of a file."""

    def measure(path: Path, each: Filter) -> Mapping[str, np.ndarray]:
        return unpack(measure_file(Pass(path, {"it": each}, None, 256))["it"])

    return measure


@pytest.fixture
def score() -> Callable[..., dict[str, float]]:
    """Scores that a filter gives to a stretch of a file."""

    def measure(path: Path, each: Filter, start: float = 0.0, end: float | None = None) -> dict[str, float]:
        found = measure_file(Pass(path, {"it": each}, None, 256))
        video = found[VIDEO]
        clip = Candidate(
            path.name, path, "", start=start, end=video["duration"] if end is None else end, file=path.name, **video
        )
        return each.scores(clip, unpack(found["it"]) if each.measures else {})

    return measure
