"""`data validate`: decode every file of a data set and name those with a problem."""

from __future__ import annotations

import argparse
import shlex
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lingen_kit.commands.data.options import add_common, add_max_bad_share, goes_on, kinds, output_folder, require_clips
from lingen_kit.data.survey.units import plural

if TYPE_CHECKING:
    from lingen_kit.data.clip import Clip
    from lingen_kit.data.survey.judging import Problem
    from lingen_kit.data.survey.validation import Checked

_WIDTH = 100
_NAME_WIDTH = 44
_PRINTED = 100  # problems of a kind; the files have all
_FIT = "python -m lingen_kit fit --config experiments/recipes/own_videos.yaml"


def main(verb: str, arguments: list[str]) -> None:
    """Check the files, print and write what is wrong with them; exits with 1 if too many are unusable."""
    options = _parser(verb).parse_args(arguments)
    out = output_folder(options.data, "validate", options.out)

    from lingen_kit.data.layouts import list_clips  # after the options are known to be good
    from lingen_kit.data.survey.good_clips import write_good
    from lingen_kit.data.survey.units import shortened
    from lingen_kit.data.survey.validation import check, count, write_report

    index = list_clips(options.data, kinds(options))
    require_clips(index, kinds(options))
    began = time.monotonic()
    with goes_on():
        checked = check(index, out, workers=options.workers, quick=options.quick, timeout=options.timeout)
    write_report(checked, index, out, kinds=kinds(options), quick=options.quick)
    good = [clip for entry in checked for clip in entry.good]
    listed = write_good(good, out)
    counts = count(checked)
    _print_list("unusable", [(entry, problem) for entry in checked for problem in entry.all_problems])
    _print_list("warning", [(entry, problem) for entry in checked if entry.good for problem in entry.problems])
    if index.ignored:
        path, reason = index.ignored[0]
        others = plural(len(index.ignored), "file")
        print(f"not part of the data: {others}, such as {shortened(path, _NAME_WIDTH)}: {reason}\n")
    share = counts["unusable"] / max(1, counts["files"])
    depth = "first and last frames" if options.quick else "all frames"
    found = f"{plural(counts['clips'], 'clip')} in {plural(counts['files'], 'file')}; {index.layout};"
    found += f" {depth} decoded in {time.monotonic() - began:.0f} s"
    print(
        f"{textwrap.fill(found, _WIDTH, subsequent_indent='  ')}\n"
        f"clips  {counts['good_clips']:,} good, {counts['clips'] - counts['good_clips']:,} unusable\n"
        f"files  {counts['fine']:,} fine, {counts['warning']:,} with warnings, {counts['unusable']:,} unusable, whole"
        f" or in part ({share:.1%})\n\n"
        f"all that was measured  {out / 'report.json'}\n"
        f"list of problems       {out / 'problems.csv'}"
    )
    if listed:
        print(f"list of good clips     {listed}; to train on them:\n  {_training(listed, good)}")
    if share > options.max_bad_share:
        print(
            f"{counts['unusable']:,} of {plural(counts['files'], 'file')} are unusable, a share of {share:.3g};"
            f" --max-bad-share allows {options.max_bad_share:g}",
            file=sys.stderr,
        )
        sys.exit(1)


def _print_list(kind: str, found: Sequence[tuple[Checked, Problem]]) -> None:
    """Print the problems of a kind, out of all with the files that have them."""
    from lingen_kit.data.survey.units import shortened

    chosen = [(entry, problem) for entry, problem in found if problem.kind == kind]
    if not chosen:
        return
    lines = []
    for entry, problem in chosen[:_PRINTED]:
        of_all = len(entry.clips) > 1 and problem.clip is None and problem in entry.problems
        lines.append((problem.clip or entry.file, problem.reason + of_all * f" (file of {len(entry.clips)} clips)"))
    print(f"{kind}: {plural(len({entry.file for entry, _ in chosen}), 'file')}")
    width = min(_NAME_WIDTH, max(len(name) for name, _ in lines))
    for name, reason in lines:
        print(f"  {shortened(name, _NAME_WIDTH):{width}}  {reason}")
    if len(chosen) > _PRINTED:
        print(f"  and {len(chosen) - _PRINTED:,} more, in problems.csv")
    print()


def _training(listed: Path, good: Sequence[Clip]) -> str:
    """The command line that trains on a list of clips."""
    found, name = {clip.kind or "video" for clip in good}, shlex.quote(str(listed))
    if found == {"video"}:
        return f"{_FIT} --data.root {name}"
    if found == {"image"}:
        return f"{_FIT} --data lingen_kit.data.ImageFolder --data.root {name}"
    mixed = "--config experiments/recipes/images_and_videos.yaml"
    return f"{_FIT} {mixed} --data.videos {name} --data.images {name}"


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="Decode every file of a data set and name those with a problem: damaged, cut off, no video, without"
        " caption, with wrong frame counts, rates, lengths or time stamps, or named after another kind of file. Writes"
        " report.json, with all that was measured, problems.csv, and good.jsonl, a list of the clips without fault that"
        " data.root takes. A run that was killed goes on when called again; later runs decode only what has changed.",
        epilog="exit code: 0 all is well, 1 more than --max-bad-share of the files are unusable, 2 wrong usage",
    )
    add_common(parser, "validate")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="decode the first and the last frames only: finds what is cut off or no video, not damage in between",
    )
    add_max_bad_share(parser)
    return parser
