"""Decisions from what was measured, without a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lingen_kit.data.clip import Clip
from lingen_kit.data.curation import Duration, Filter, Meter
from lingen_kit.data.curation.decide import Verdict, decide
from lingen_kit.data.curation.decisions import Decision
from lingen_kit.data.curation.filter import Candidate
from lingen_kit.data.curation.measure import VIDEO
from lingen_kit.data.curation.results import manifest_row
from lingen_kit.data.jobs.journal import Outcome


class Words(Filter):
    """Counts words, from a number on; two of them have scores of one name."""

    def __init__(self, offset: float, most: float = 100.0) -> None:
        self.offset, self.most = offset, most

    def scores(self, clip: Candidate, measured: Mapping[str, Any]) -> dict[str, float]:
        return {"words": self.offset + len(clip.caption.split())}

    def limits(self) -> Mapping[str, tuple[float | None, float | None]]:
        return {"words": (None, self.most)}


class Halves(Filter):
    def propose(self, clip: Candidate, measured: Mapping[str, Any]) -> list[tuple[float, float]]:
        middle = (clip.start + clip.end) / 2
        return [(clip.start, middle), (middle, clip.end)]

    def scores(self, clip: Candidate, measured: Mapping[str, Any]) -> dict[str, float]:
        return {}

    def meter(self) -> Meter | None:
        return None

    @property
    def measures(self) -> bool:
        return False


def decided(
    *filters: Filter, seconds: float = 4.0, start: float = 0.0, end: float | None = None, text: str | None = None
) -> Verdict:
    name = f"a.mp4#{start}-{end}" if start or end else "a.mp4"
    clip = Clip(Path("clips/a.mp4"), name, "a cat sleeps", start=start, end=end)
    video = {"duration": seconds, "fps": 24.0, "width": 256, "height": 144}
    decisions = {"a.mp4": Decision(text=text)} if text else {}
    return decide([clip], {"a.mp4": {VIDEO: Outcome(video)}}, filters, decisions, shorter_side=256)


@pytest.mark.parametrize("filters", [(Words(10.0, 5.0), Words(0.0)), (Words(0.0), Words(10.0, 5.0))])
def test_two_filters_of_one_class_judge_by_their_own_scores(filters: tuple[Filter, ...]) -> None:
    (clip,) = decided(*filters).clips
    assert (clip.dropped_by or "").startswith("Words")
    assert clip.reason == "words 13 is above 5"
    assert decided(Words(10.0, 20.0), Words(0.0, 5.0)).kept


def test_so_they_do_with_a_new_caption() -> None:
    filters = (Words(10.0, 13.0), Words(0.0))
    assert decided(*filters).kept
    (clip,) = decided(*filters, text="a cat sleeps on and on").clips
    assert clip.reason == "words 16 is above 13"


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (9.0, 12.0, "it begins after the end of the file: at 9 s of 4 s"),
        (4.0, None, "it begins after the end of the file: at 4 s of 4 s"),
        (3.9998, None, "it begins after the end of the file: at 3.9998 s of 4 s"),
        (1.0, 1.0004, "it is empty: it begins at 1 s and ends at 1.0004 s"),
    ],
)
def test_a_stretch_without_anything_in_it_is_dropped(start: float, end: float | None, reason: str) -> None:
    verdict = decided(Duration(), start=start, end=end)
    assert not verdict.clips
    assert [why for _, why in verdict.unreadable] == [reason]
    assert (verdict.funnel[0].before, verdict.funnel[0].dropped) == (1, 1)


def test_ends_are_rounded_down() -> None:
    seconds = 4.0079
    clips = decided(Halves(), seconds=seconds).clips
    assert [(clip.name, clip.start, clip.end) for clip in clips] == [
        ("a.mp4#0-2.003", 0.0, 2.003),
        ("a.mp4#2.004-4.007", 2.004, 4.007),
    ]
    assert manifest_row(clips[-1])["end"] <= seconds
