"""`data curate`: choose clips by filters, with a page on which a person decides."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from lingen_kit.commands.data.options import add_common, goes_on, kinds, output_folder
from lingen_kit.commands.options import positive

if TYPE_CHECKING:
    from lingen_kit.data.clip import Clip
    from lingen_kit.data.curation.decide import Verdict


def main(verb: str, arguments: list[str]) -> None:
    """Measure what is new, decide, and write manifest, scores, report and review page."""
    options = _parser(verb).parse_args(arguments)
    out = output_folder(options.data, "curate", options.out)

    from lingen_kit.data.curation.config import read_pipeline
    from lingen_kit.data.curation.decide import decide
    from lingen_kit.data.curation.decisions import KEPT, gather_decisions, keep_decisions
    from lingen_kit.data.curation.measure import measure_all
    from lingen_kit.data.curation.results import MANIFEST, write_results
    from lingen_kit.data.curation.review import write_pages
    from lingen_kit.data.curation.uncaptioned import read_index_with_uncaptioned
    from lingen_kit.data.layouts import read_index

    pipeline = read_pipeline(options.config)
    data = str(Path(options.data).expanduser())
    decisions = gather_decisions(out, data, options.decisions)
    read = read_index_with_uncaptioned if options.uncaptioned else read_index
    index = read(options.data, kinds(options))
    _check_files(index.clips)
    out.mkdir(parents=True, exist_ok=True)
    keep_decisions(out, data, decisions)
    with goes_on():
        measured = measure_all(
            index.clips,
            pipeline.filters,
            out,
            shorter_side=pipeline.shorter_side,
            workers=options.workers,
            timeout=options.timeout,
        )
    verdict = decide(index.clips, measured, pipeline.filters, decisions, shorter_side=pipeline.shorter_side)
    about = {
        "data": options.data,
        "layout": index.layout,
        "config": str(options.config),
        "decisions": [str(path) for path in options.decisions],
        "decided_by_hand": len(decisions),
        "unusable": [{"name": path, "reason": reason} for path, reason in index.unusable],
    }
    write_results(out, verdict, about)
    pages = write_pages(out, verdict, pipeline, measured, index, decisions, most=options.review)
    print(_table(verdict))
    for line in _remarks(verdict, len(index.unusable)):
        print(line)
    print(f"\nmanifest  {out / MANIFEST}\nscores    {out / 'scores.csv'}\nreport    {out / 'report.json'}")
    print(f"review    {pages[0]}" + (f" and {len(pages) - 1} more pages" if len(pages) > 1 else ""))
    if decisions:
        print(f"decisions {out / KEPT} ({len(decisions)} by hand: every run goes by them until you remove the file)")
    print(f"\n{_next(verdict, out / MANIFEST, pages[0], options.config)}")


def _check_files(clips: list[Clip]) -> None:
    if packed := next((clip for clip in clips if not isinstance(clip.path, Path)), None):
        raise ValueError(
            f"{packed.path} is a member of an archive, to which no manifest can point; unpack the archives and curate"
            " the folder"
        )


def _table(verdict: Verdict) -> str:
    width = max(len(stage.name) for stage in verdict.funnel)
    lines = [f"{'':{width}}  {'clips':>8}  {'dropped':>8}  {'left':>8}"]
    lines += [
        f"{stage.name:{width}}  {stage.before:8}  {stage.dropped:8}  {stage.before - stage.dropped:8}"
        for stage in verdict.funnel
    ]
    kept = verdict.kept
    lines.append(f"\n{verdict.origin}; {len(kept)} clips kept, {sum(clip.seconds for clip in kept) / 60:.1f} minutes")
    return "\n".join(lines)


def _remarks(verdict: Verdict, unusable: int) -> list[str]:
    from lingen_kit.data.clip import first_of, printable

    lines = []
    if unusable:
        lines.append(f"without a caption, or no files: {unusable}, see report.json")
    if verdict.unreadable:
        named = first_of(f"  {printable(name)}: {printable(reason)}" for name, reason in verdict.unreadable)
        lines.append(f"{len(verdict.unreadable)} cannot be read:\n{named}")
    if verdict.overruled:
        lines.append(f"kept as a person decided, though the filters dropped them: {len(verdict.overruled)}")
    if verdict.unknown:
        lines.append(
            "decisions on clips that there are not, as the data or the scene cuts have changed:"
            f" {len(verdict.unknown)}, such as {printable(verdict.unknown[0])}"
        )
    return lines


def _next(verdict: Verdict, manifest: Path, page: Path, config: Path) -> str:
    """What to do now; an empty manifest is nothing to go on with."""
    from lingen_kit.data.curation.decide import CAPTIONED

    if verdict.kept:
        return f"what to try next:\n  python -m lingen_kit data inspect {shlex.quote(str(manifest))}"
    if any(clip.dropped_by == CAPTIONED for clip in verdict.clips):
        return (
            f"the manifest is empty, as no clip that is left has a caption: open {page} in a browser, write captions"
            " for those worth it and save the decisions; then run the same command with --decisions decisions.json"
        )
    if not verdict.clips:
        return "the manifest is empty, as nothing can be read: look at the reasons in report.json"
    return (
        f"the manifest is empty, as nothing is kept: look at the reasons in scores.csv and loosen the thresholds in"
        f" {config}, or keep clips by hand on {page}; then run the same command again"
    )


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="Choose clips for training by the filters of a config. Each file is decoded once, for all filters; "
        "then the decision is made from the scores alone, so that a call with other thresholds takes seconds. Writes a "
        "manifest that data.root of the video data modules takes, the scores of every clip with the reason of each "
        "drop, a report, and a page (index.html) on which a person keeps or drops clips and writes captions. The data "
        "folder is only read. A call that was killed goes on where it stopped when it is made again.",
    )
    add_common(parser, "curate", timeout=1800.0)  # a film is one file
    add = parser.add_argument
    add(
        "--config",
        type=Path,
        required=True,
        metavar="FILE",
        help="the filters, such as experiments/recipes/curate.yaml",
    )
    add(
        "--decisions",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="what a person decided: files that the review page saved. They overrule every filter, in this run and,"
        " kept as decisions.json in the output folder, in later ones",
    )
    add(
        "--uncaptioned",
        action="store_true",
        help="take files without a caption too; their clips are kept once a person has written captions on the page",
    )
    add("--review", type=positive, default=2000, metavar="N", help="clips on the review pages (default 2000)")
    return parser
