"""A candidate as a config that `fit` trains as it is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lingen_kit.analysis.measure import ChildFailed, in_child
from lingen_kit.files import replacing
from lingen_kit.search.progress import figure
from lingen_kit.search.records import Record, best
from lingen_kit.search.settings import Search
from lingen_kit.search.space import describe
from lingen_kit.search.study import Study

Dump = Callable[[list[str]], str]
"""Gives the YAML of what the words of `fit` mean."""

BEST = "best.yaml"


def choose(study: Study, number: int | None) -> Record:
    """A candidate of a study: the one with a number, or the one that the search recommends.

    Raises:
        ValueError: If there is none.
    """
    records = {record.number: record for record in study.records()}
    if number is not None:
        if number not in records:
            raise ValueError(f"{study.folder} has no trial {number}; its trials are {', '.join(map(str, records))}")
        return records[number]
    found = best(list(records.values()), study.search.objectives)
    if found is None:
        raise ValueError(f"{study.folder} has no trial that is complete; name one with --trial N")
    return found


def export(study: Study, record: Record, path: Path, dump: Dump, *, as_searched: bool = False) -> None:
    """Write a candidate as a config.

    Args:
        study: Its study.
        record: The candidate.
        path: The file to write.
        dump: Gives the YAML of what the words of `fit` mean; called in a process of its own.
        as_searched: Train it as the search did; else as long, and as large, as the base says.

    Raises:
        ValueError: If the candidate has no words, as it was never built, or `fit` does not take them any more.
    """
    search = study.search
    if record.words is None:
        raise ValueError(f"trial {record.number} was never trained: {record.reason}")
    setting = search if as_searched else replace(search, overrides={})
    try:
        content = in_child(dump, setting.line(record.words), threads=1)
    except ChildFailed as error:
        raise ValueError(f"trial {record.number} cannot be written: {error}") from error
    with replacing(path) as beside:
        beside.write_text(_header(study, record, path, as_searched) + content, encoding="utf-8")


def _header(study: Study, record: Record, path: Path, as_searched: bool) -> str:
    search = study.search
    cost = _cost(search, record, as_searched)
    figures = ", ".join(f"{name} {figure(record, name)}" for name in search.objectives)
    base = next((r for r in study.records() if r.baseline and r.state == "complete"), None)
    beside = ""
    if base is not None and base.number != record.number:
        beside = "; the baseline: " + ", ".join(f"{name} {figure(base, name)}" for name in search.objectives)
    lines = [
        f"Trial {record.number} of {study.folder}: {describe(record.params)}.",
        "",
        f"  python -m lingen_kit fit --config {path}",
        "",
        f"Cost: {cost}",
        f"Expect: in the search's own setting it had {figures}{beside}.",
    ]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _cost(search: Search, record: Record, as_searched: bool) -> str:
    stems = ", ".join(search.base)
    if as_searched:
        return f"{max(record.seconds.values(), default=0):.0f} s where it was searched."
    at = f" ({describe(search.measured_at)})" if search.measured_at else ""
    latency = (
        f"; a pass{at} takes {record.costs['relative_latency']:.2f} times as long"
        if "relative_latency" in record.costs
        else ""
    )
    return f"as many steps as {stems}{latency}."
