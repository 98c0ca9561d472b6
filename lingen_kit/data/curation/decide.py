"""Phase 2: from what was measured to the clips that are kept, with no file opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingen_kit.data.clip import Clip
from lingen_kit.data.curation.decisions import Decision
from lingen_kit.data.curation.filter import Candidate, Filter, SetFilter, round_down, unpack
from lingen_kit.data.curation.measure import VIDEO
from lingen_kit.data.jobs.journal import Outcome

if TYPE_CHECKING:
    from lingen_kit.data.curation.filter import Measured

READABLE, PERSON, CAPTIONED = "Readable", "Person", "Captioned"
"""Stages that are no filters: what cannot be decoded or lies outside its file, what a person decided, and what nobody
has captioned."""


@dataclass
class Stage:
    """A step of the funnel.

    Attributes:
        name: The filter.
        before: Clips that came to it; for the first, those of the data set, which may become several each.
        dropped: Clips that it dropped.
    """

    name: str
    before: int
    dropped: int


@dataclass
class Verdict:
    """The outcome.

    Attributes:
        clips: Every candidate, in order of their files and times.
        unreadable: (file, reason).
        funnel: Step by step.
        reports: By the name of a filter, what it has to report.
        unknown: Names in the decisions that belong to no clip.
        overruled: Names of the clips that filters dropped and a person kept.
    """

    clips: list[Candidate] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    funnel: list[Stage] = field(default_factory=list)
    reports: dict[str, Any] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    overruled: list[str] = field(default_factory=list)

    @property
    def origin(self) -> str:
        """Where the candidates come from, in words."""
        readable = self.funnel[0].before - self.funnel[0].dropped
        return f"{readable} of {self.funnel[0].before} in the data set can be read; they make {len(self.clips)} clips"

    @property
    def kept(self) -> list[Candidate]:
        """The clips for training."""
        return [clip for clip in self.clips if clip.kept]


def labels(filters: Sequence[Filter]) -> list[str]:
    """A name for each filter: that of its class, numbered if it occurs again."""
    names: list[str] = []
    for each in filters:
        count = sum(name.split()[0] == type(each).__name__ for name in names)
        names.append(type(each).__name__ + (f" {count + 1}" if count else ""))
    return names


def decide(
    clips: Sequence[Clip],
    measured: Mapping[str, Mapping[str, Outcome]],
    filters: Sequence[Filter],
    decisions: Mapping[str, Decision],
    *,
    shorter_side: int,
) -> Verdict:
    """Cut files into clips, score them, and drop what the filters and the person do not want.

    A person's decision overrules every filter. What a person dropped takes no part in the balance.

    Args:
        clips: Of the data set.
        measured: What `measure_all` returned.
        filters: Those for single clips decide first, in their order, then those for sets.
        decisions: Of a person.
        shorter_side: That of `measure_all`.
    """
    verdict = Verdict()
    names = labels(filters)
    ordered = sorted(zip(names, filters, strict=True), key=lambda pair: isinstance(pair[1], SetFilter))
    series: dict[str, list[Measured]] = {}  # by clip, of each of the filters
    scores: dict[str, list[dict[str, float]]] = {}  # likewise: two filters of one class have scores of the same names
    for clip in clips:
        outcomes = measured[clip.file_name]
        error = next((outcome.error for outcome in outcomes.values() if outcome.error is not None), None)
        if error is not None:
            verdict.unreadable.append((clip.name, error))
            continue
        if (empty := _outside(clip, outcomes[VIDEO].value or {})) is not None:
            verdict.unreadable.append((clip.name, empty))
            continue
        found: list[Measured] = [
            unpack(outcomes[each.measure_key(shorter_side)].value or {}) if each.measures else {} for _, each in ordered
        ]
        for candidate in _candidates(clip, outcomes[VIDEO].value or {}, ordered, found):
            while candidate.name in series:  # a file with two captions
                candidate.name += "'"
            series[candidate.name] = found
            scores[candidate.name] = _score(candidate, ordered, found)
            verdict.clips.append(candidate)
    verdict.funnel.append(Stage(READABLE, len(clips), len(verdict.unreadable)))
    known = {clip.name for clip in verdict.clips}
    verdict.unknown = [name for name in decisions if name not in known]
    _apply_person(verdict, decisions, ordered, series, scores)
    for place, (name, each) in enumerate(ordered):
        left = verdict.kept
        reasons: dict[str, str] = {}
        if isinstance(each, SetFilter):
            rejected = [clip for clip in verdict.clips if clip.decision == "drop"]
            reasons = each.choose(left, rejected, {clip.name: series[clip.name][place] for clip in left + rejected})
            verdict.reports[name] = each.report()
        else:
            judged = [clip for clip in left if clip.caption or not each.judges_captions]
            reasons = {
                clip.name: reason for clip in judged if (reason := each.keep(scores[clip.name][place])) is not None
            }
        for candidate in left:
            if candidate.name not in reasons:
                continue
            if candidate.decision == "keep":
                verdict.overruled.append(candidate.name)
            else:
                candidate.dropped_by, candidate.reason = name, reasons[candidate.name]
        verdict.funnel.append(Stage(name, len(left), len(left) - len(verdict.kept)))
    verdict.overruled = list(dict.fromkeys(verdict.overruled))
    left = verdict.kept
    if not all(clip.caption for clip in verdict.clips):  # last, so that captions are asked for where they are worth it
        for candidate in left:
            if not candidate.caption:
                candidate.dropped_by, candidate.reason = CAPTIONED, "it has no caption yet: write one here"
        verdict.funnel.append(Stage(CAPTIONED, len(left), len(left) - len(verdict.kept)))
    return verdict


def _outside(clip: Clip, video: Mapping[str, Any]) -> str | None:
    """Why nothing of a file lies between the clip's start and end; None if something does."""
    duration = video["duration"]
    if round(clip.start, 3) >= round_down(duration):
        return f"it begins after the end of the file: at {clip.start:.10g} s of {duration:.4g} s"
    if clip.end is not None and round(clip.start, 3) >= round_down(clip.end):
        return f"it is empty: it begins at {clip.start:.10g} s and ends at {clip.end:.10g} s"
    return None


def _candidates(
    clip: Clip, video: Mapping[str, Any], ordered: Sequence[tuple[str, Filter]], found: Sequence[Measured]
) -> list[Candidate]:
    """The clips that the filters make of one of the data set."""
    assert isinstance(clip.path, Path)
    end = video["duration"] if clip.end is None else min(clip.end, video["duration"])
    whole = Candidate(
        name=clip.name,
        path=clip.path,
        caption=clip.caption,
        start=clip.start,
        end=end,
        attributes=clip.attributes,
        file=clip.file_name,
        **video,
    )
    pieces = [whole]
    for (_, each), mine in zip(ordered, found, strict=True):
        pieces = [piece for before in pieces for piece in _cut(before, each.propose(before, mine))]
    return pieces


def _score(clip: Candidate, ordered: Sequence[tuple[str, Filter]], found: Sequence[Measured]) -> list[dict[str, float]]:
    """What each filter gives to a clip, by which it judges; all of it together becomes the clip's scores."""
    own = [each.scores(clip, mine) for (_, each), mine in zip(ordered, found, strict=True)]
    for scores in own:
        clip.scores |= scores
    return own


def _cut(clip: Candidate, spans: Sequence[tuple[float, float]]) -> list[Candidate]:
    if list(spans) == [(clip.start, clip.end)]:
        return [clip]
    rounded = [(round(start, 3), round_down(end)) for start, end in spans]
    return [
        replace(clip, name=f"{clip.file}#{start:.10g}-{end:.10g}", start=start, end=end, scores={})
        for start, end in rounded
    ]


def _apply_person(
    verdict: Verdict,
    decisions: Mapping[str, Decision],
    ordered: Sequence[tuple[str, Filter]],
    series: Mapping[str, Sequence[Measured]],
    scores: dict[str, list[dict[str, float]]],
) -> None:
    before = len(verdict.clips)
    for clip in verdict.clips:
        decision = decisions.get(clip.name)
        if decision is None:
            continue
        clip.decision = decision.keep
        if decision.text is not None and decision.text != clip.caption:
            clip.caption, clip.captioned = decision.text, True
            scores[clip.name] = _score(clip, ordered, series[clip.name])
        if decision.keep == "drop":
            clip.dropped_by, clip.reason = PERSON, "a person dropped it"
    if decisions:
        verdict.funnel.append(Stage(PERSON, before, before - len(verdict.kept)))
