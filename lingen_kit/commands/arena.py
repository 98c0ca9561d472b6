"""`arena`: people choose between videos of the same prompt, and what they chose is weighed."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingen_kit.commands.options import number

if TYPE_CHECKING:
    from eval.arena.study import Study

_VERBS = ("report", "export")


def main(verb: str, arguments: list[str]) -> None:
    """Serve a study, write it as one page, or report what came of it."""
    if arguments and arguments[0] in _VERBS:
        {"report": _report, "export": _export}[arguments[0]](f"{verb} {arguments[0]}", arguments[1:])
        return
    parser = _study_parser(
        verb,
        "Serve a local page on which people compare videos of the same prompt, side by side, blind and in random order:"
        " which looks better, which shows the text better. Votes are added to a file one by one; the page goes on where"
        " a rater stopped.",
        epilog=f"other verbs:\n  python -m lingen_kit {verb} export A B --prompts F   the study as one HTML file\n"
        f"  python -m lingen_kit {verb} report VOTES             win rates, scores, agreement, position bias",
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("votes"), metavar="DIR", help="folder of votes.jsonl (default votes)")
    add("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine alone)")
    port = number(int, "port, 0 to 65535", least=0, most=65535)
    add("--port", type=port, default=0, help="port (default: any that is free)")
    options = parser.parse_args(arguments)

    from eval.arena.server import ArenaServer
    from eval.arena.votes import Ballots

    study = _study(options)
    ballots = Ballots(options.out / "votes.jsonl")
    try:
        server = ArenaServer(study, ballots, options.host, options.port)
    except OSError as error:
        raise ValueError(
            f"cannot listen on {options.host}:{options.port}: {error.strerror}; try another --port"
        ) from error
    pairs = len(study.models) * (len(study.models) - 1) // 2
    print(f"{len(study.models)} models, {len(study.prompts)} prompts: {pairs * len(study.prompts)} comparisons a rater")
    if not server.is_private:
        print("note: whoever reaches this address can see the videos and vote", file=sys.stderr)
    print(f"page   {server.address}\nvotes  {ballots.path}\nCtrl-C ends it; no vote is lost", flush=True)
    with server:
        server.serve_forever()


def _export(verb: str, arguments: list[str]) -> None:
    parser = _study_parser(
        verb,
        "Write a study as one HTML file that needs no server. Its votes stay in the browser and come back as a JSON"
        " file, which `arena report` reads together with the key that is written beside the page.",
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("arena.html"), metavar="FILE", help="page (default arena.html)")
    add("--link", action="store_true", help="videos in a folder beside the page, under random names, not within it")
    options = parser.parse_args(arguments)

    from eval.arena.static_page import write_static_page

    page, key = write_static_page(_study(options), options.out, link=options.link)
    beside = f", with {page.stem}_videos beside it" if options.link else ""
    print(f"page  {page}, for the raters{beside}\nkey   {key}, for you: it says which video is of which model")


def _report(verb: str, arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="Say what came of a study: win rates with intervals, Bradley-Terry scores, how far raters agree,"
        " and whether a side is favored. Writes arena.html and arena.csv.",
    )
    parser.add_argument("votes", nargs="+", type=Path, help="votes.jsonl, its folder, or JSON files of static pages")
    parser.add_argument(
        "--key",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="key of a static page, NAME.key.json; may be repeated",
    )
    parser.add_argument("--out", type=Path, default=Path("."), metavar="DIR", help="folder to write to (default: here)")
    options = parser.parse_args(arguments)

    from eval.arena.report import Report
    from eval.arena.votes import read_votes

    key: dict[str, Any] = {}
    for path in options.key:
        try:
            key |= json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, TypeError) as error:
            raise ValueError(f"--key {path} is no key of a static page: {error}") from error
    report = Report(read_votes(options.votes, key or None))
    print(report.text())
    for path in report.write(options.out):
        print(f"written  {path}")


def _study_parser(verb: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter if epilog else argparse.HelpFormatter,
    )
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="DIR", help="folder of a model's videos, called after it")
    add(
        "--prompts",
        type=Path,
        required=True,
        metavar="FILE",
        help="prompts, one a line; .csv, .jsonl and .json will do, too",
    )
    add("--strict", action="store_true", help="refuse a study from which a file or a prompt would be left out")
    return parser


def _study(options: argparse.Namespace) -> "Study":
    from eval.arena.study import read_study
    from eval.suites.prompt_files import read_prompts

    study = read_study(options.folders, read_prompts(options.prompts), strict=options.strict)
    for name, reason in study.problems:
        print(f"left out: {name}: {reason}", file=sys.stderr)
    for note in study.notes:
        print(f"note: {note}", file=sys.stderr)
    return study
