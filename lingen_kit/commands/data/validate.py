"""`data validate`: decode every file of a data set and name those with a problem."""

import argparse
import math
import sys
import time

from lingen_kit.commands.data.options import add_common, kinds, output_folder, require_clips

_NAME_WIDTH = 44


def main(verb: str, arguments: list[str]) -> None:
    """Check the files, print and write what is wrong with them; exits with 1 if too many are unusable."""
    options = _parser(verb).parse_args(arguments)
    out = output_folder(options.data, "validate", options.out)

    from lingen_kit.data.layouts import list_clips  # after the options are known to be good
    from lingen_kit.data.survey.validation import check, count, write_report

    index = list_clips(options.data, kinds(options))
    require_clips(index, kinds(options))
    began = time.monotonic()
    checked = check(index, out, workers=options.workers, quick=options.quick, timeout=options.timeout)
    write_report(checked, index, out, kinds=kinds(options), quick=options.quick)
    counts = count(checked)
    bad, odd = [entry for entry in checked if entry.unusable], [entry for entry in checked if not entry.unusable]
    _print_list("unusable", [(e.file, p.reason) for e in bad for p in e.problems if p.kind == "unusable"])
    _print_list("warnings", [(e.file, p.reason) for e in odd for p in e.problems])
    if index.ignored:
        path, reason = index.ignored[0]
        print(f"not part of the data: {len(index.ignored)} files, such as {_short(path)}: {reason}\n")
    share = counts["unusable"] / max(1, counts["files"])
    depth = "first and last frames decoded" if options.quick else "all frames decoded"
    print(
        f"{counts['files']} files ({index.layout}; {depth}) in {time.monotonic() - began:.0f} s: {counts['fine']} fine,"
        f" {counts['warning']} with warnings, {counts['unusable']} unusable ({share:.1%})\n"
        f"all that was measured  {out / 'report.json'}\n"
        f"list of problems       {out / 'problems.csv'}"
    )
    if share > options.max_bad_share:
        print(
            f"{share:.1%} of the files are unusable; --max-bad-share allows {options.max_bad_share:.1%}",
            file=sys.stderr,
        )
        sys.exit(1)


def _print_list(title: str, lines: list[tuple[str, str]]) -> None:
    if not lines:
        return
    files = len({name for name, _ in lines})
    print(f"{title}: {files} {'file' if files == 1 else 'files'}")
    width = min(_NAME_WIDTH, max(len(name) for name, _ in lines))
    for name, reason in lines:
        print(f"  {_short(name):{width}}  {reason}")
    print()


def _short(name: str) -> str:
    """A name of a line's worth; the whole name is in the files."""
    half = (_NAME_WIDTH - 3) // 2
    return name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 3 - half]}...{name[-half:]}"


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="Decode every file of a data set and name those with a problem: damaged, cut off, no video, without"
        " caption, with wrong frame counts, rates, lengths or time stamps, or named after another kind of file. Writes"
        " report.json, with all that was measured, and problems.csv. A run that was killed goes on when called again;"
        " later runs decode only what has changed.",
        epilog="exit code: 0 all is well, 1 more than --max-bad-share of the files are unusable, 2 wrong usage",
    )
    add_common(parser, "validate")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="decode the first and the last frames only: finds what is cut off or no video, not damage in between",
    )
    parser.add_argument(
        "--max-bad-share",
        "--max_bad_share",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="share of unusable files, from 0 to 1, up to which the exit code is 0 (default 0)",
    )
    return parser


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no share, such as 0.05") from error
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value
