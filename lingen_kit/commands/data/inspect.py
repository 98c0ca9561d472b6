"""`data inspect`: what a data set holds, and what a config would make of it."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingen_kit.commands.data.options import add_common, goes_on, kinds, output_folder, require_clips
from lingen_kit.data.survey.units import brief, clock, data_size, plural, shortened

if TYPE_CHECKING:
    from lingen_kit.data.auto_data import AutoData

_WIDTH = 100
_ROWS = 10
_NO_BREAK = "\N{NO-BREAK SPACE}"


def main(verb: str, arguments: list[str]) -> None:
    """Look into the files, print what they hold, write index.html and report.json."""
    parser = _parser(verb)
    options, overrides = parser.parse_known_args(arguments)
    if overrides and not options.config:
        parser.error(f"unrecognized arguments: {' '.join(overrides)} (overrides of a config need a --config)")
    out = output_folder(options.data, "inspect", options.out)

    from lingen_kit.data.layouts import list_clips
    from lingen_kit.data.survey.inspection import inspect  # after the options are known to be good
    from lingen_kit.data.survey.inspection_page import render
    from lingen_kit.page import write

    if options.config:
        module = _files_module(options.config, overrides)
        assign, wanted = module.assign, module.kinds
    else:
        assign, wanted = None, kinds(options)
    index = list_clips(options.data, wanted)
    require_clips(index, wanted)
    with goes_on():
        found = inspect(index, out, workers=options.workers, timeout=options.timeout, assign=assign)
    write(out / "index.html", render(found))
    report = {"summary": found.summary, "clips": found.clips}
    write(out / "report.json", json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    print(_describe(found.summary))
    print(f"\npage    {out / 'index.html'}\nreport  {out / 'report.json'}")


def _files_module(paths: Sequence[Path], overrides: Sequence[str]) -> AutoData:
    """The data module of a config, if it is one of those that read files.

    Raises:
        ValueError: If it is not, or the config names none.
    """
    from lingen_kit.commands.data.config import data_module, overrides_of
    from lingen_kit.data.auto_data import AutoData
    from lingen_kit.data.base import VideoDataModule

    module = data_module(paths, overrides_of(overrides))
    names = ", ".join(map(str, paths))
    if type(module) is VideoDataModule:
        raise ValueError(
            f"config {names} has no data.class_path; give the config of a training run, such as"
            " experiments/recipes/own_videos.yaml"
        )
    if not isinstance(module, AutoData):
        raise ValueError(
            f"config {names} trains on {type(module).__name__}, which cuts no clips from files; leave --config out, or"
            " add --data lingen_kit.data.VideoFolder"
        )
    return module


def _describe(summary: Mapping[str, Any]) -> str:
    """The summary as text of 100 columns."""
    parts = [
        _wrapped(
            f"{plural(summary['clips'], 'clip')} in {plural(summary['files'], 'file')}, {data_size(summary['bytes'])},"
            f" {clock(summary['seconds'])} in all; {summary['layout']}",
            indent=2,
        ),
        _spread(summary["spread"]),
    ]
    tables = {
        "length": summary["lengths"],
        "words of a caption": summary["caption_lengths"],
        "frames per second": summary["rates"],
        "size": summary["sizes"],
        "aspect ratio": summary["aspects"],
        "codec": summary["codecs"],
    }
    if "buckets" in summary:
        tables["bucket of the config"] = summary["buckets"]
    parts += [_table(title, counts) for title, counts in tables.items() if counts]
    words = ", ".join(f"{word}{_NO_BREAK}{count}" for word, count in list(summary["words"].items())[:24])
    parts.append(_wrapped(f"words  {words}" if words else "", indent=7))
    unusable, dropped = (
        [(entry["clip"], entry["reason"]) for entry in summary.get(name, [])] for name in ("unusable", "dropped")
    )
    among = f"{plural(len(unusable), 'clip')} in {plural(summary['unusable_files'], 'file')}"
    parts.append(_reasons(f"unusable: {among} (`data validate` looks for damage too)", unusable))
    parts.append(_reasons(f"dropped by the config: {plural(len(dropped), 'clip')}", dropped))
    same = [(group[0], "= " + ", ".join(group[1:])) for group in summary["duplicates"]]
    parts.append(_list("the same bytes", same))
    repeated = [(f"{count} x", text) for text, count in summary["repeated_captions"].items()]
    parts.append(_list("captions that occur more than once", repeated))
    return "\n\n".join(part for part in parts if part)


def _spread(spreads: Mapping[str, Mapping[str, float]]) -> str:
    names = list(next((spread for spread in spreads.values() if spread), {}))
    lines = [f"{'':20}" + "".join(f"{name:>12}" for name in names)]
    lines += [
        f"{title:20}" + "".join(f"{brief(spread[name]):>12}" for name in names)
        for title, spread in spreads.items()
        if spread
    ]
    return "\n".join(lines)


def _table(title: str, counts: Mapping[str, int]) -> str:
    """Values with their counts and a bar for each."""
    shown = list(counts.items())[: 2 * _ROWS]
    label = min(40, max(len(name) for name, _ in shown))
    digits = max(len(f"{count:,}") for _, count in shown)
    most = max(count for _, count in shown)
    lines = [
        f"  {shortened(name, label):{label}}  {count:{digits},}  {_bar(count / most)}".rstrip() for name, count in shown
    ]
    rest = len(counts) - len(shown)
    return "\n".join([title, *lines, *([f"  and {rest:,} others"] if rest > 0 else [])])


def _bar(share: float) -> str:
    return "#" * max(share > 0, round(40 * share))


def _list(title: str, lines: list[tuple[str, str]]) -> str:
    if not lines:
        return ""
    label = min(40, max(len(name) for name, _ in lines[:_ROWS]))
    shown = [
        f"  {shortened(name, label):{label}}  {shortened(text, _WIDTH - label - 4)}" for name, text in lines[:_ROWS]
    ]
    more = [f"  and {len(lines) - _ROWS:,} more, in report.json"] if len(lines) > _ROWS else []
    return "\n".join([f"{title}: {len(lines):,}", *shown, *more])


def _reasons(title: str, lines: list[tuple[str, str]]) -> str:
    """How many there are for each kind of reason, with one of them."""
    from lingen_kit.data.survey.inspection import kind_of_reason

    groups: dict[str, list[tuple[str, str]]] = {}
    for name, reason in lines:
        groups.setdefault(kind_of_reason(reason), []).append((name, reason))
    largest = sorted(groups.values(), key=len, reverse=True)
    digits = max((len(f"{len(group):,}") for group in largest), default=0)
    shown = []
    for group in largest[: 2 * _ROWS]:
        name, reason = group[0]
        shown.append(f"  {len(group):{digits},}  {shortened(reason, 64):64}  {shortened(name, _WIDTH - 70 - digits)}")
    more = [f"  and {len(largest) - 2 * _ROWS} more reasons"] if len(largest) > 2 * _ROWS else []
    return "\n".join([title, *shown, *more]) if lines else ""


def _wrapped(text: str, indent: int) -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent=" " * indent).replace(_NO_BREAK, " ")


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="Say what a data set holds: counts, lengths, sizes, aspect ratios, rates, codecs, captions, words"
        " and duplicates; with --config also which size of that config each clip is cut to, and which it drops and why."
        " Reads headers and first frames; `data validate` decodes everything. Writes index.html, one page with plots"
        " and pictures, and report.json. A run that was killed goes on when called again.",
        allow_abbrev=False,
    )
    add_common(parser, "inspect")
    parser.add_argument(
        "--config",
        action="append",
        type=Path,
        metavar="FILE",
        help="config of a training run; may be repeated, and overridden with options such as --data.frames 16. Its"
        " kinds of files are looked for, and --kinds is not used",
    )
    return parser
