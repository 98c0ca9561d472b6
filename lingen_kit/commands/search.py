"""`search`: find an architecture: draw candidates from a space, train each for a while, and rank them."""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lingen_kit.commands.options import number, positive

if TYPE_CHECKING:
    from lingen_kit.analysis.memory import Task
    from lingen_kit.analysis.plan import Training
    from lingen_kit.search.engine import Verbs
    from lingen_kit.search.records import Record
    from lingen_kit.search.study import Study

MODULES = ["lingen_kit.commands.train", "lingen_kit.commands.search", "lingen_kit.search.costs"]
"""What every training imports."""


def main(verb: str, arguments: list[str]) -> None:
    """Begin a search, go on with one, report on it, or export a candidate."""
    actions = {"resume": _resume, "report": _report, "export": _export}
    if arguments and arguments[0] in actions:
        actions[arguments[0]](f"{verb} {arguments[0]}", arguments[1:])
    else:
        _begin(verb, arguments)


def fit(verb: str, words: list[str]) -> None:
    """Train a candidate, in a process of its own."""
    from lingen_kit.commands import train

    train.main(verb, words)


def read(words: list[str], device: str, size: Mapping[str, int] | None = None) -> "tuple[Task, Training]":
    """Read what `fit` would train, in a process of its own, for videos of `size` if they are not to be the config's."""
    import torch

    from lingen_kit.commands.plan import read_training

    last = _stages(words)[-1]  # the largest, as a rule
    return read_training(last, "candidate", None, gpu=torch.cuda.is_available(), device=device, size=size)


def parse(words: list[str]) -> object:
    """Parse what `fit` would train, in a process of its own."""
    from lingen_kit.commands.plan import parse_fit

    return [parse_fit(stage) for stage in _stages(words)]


def _stages(words: list[str]) -> list[list[str]]:
    """The words of every stage; those that are given, where there are no stages."""
    from lingen_kit.stages import read_stages

    return [stage.words for stage in read_stages(words) or []] or [words]


def dump(words: list[str]) -> str:
    """The YAML of what `fit` would train, in a process of its own."""
    from lingen_kit.commands.plan import dump_fit

    return dump_fit(words)


def _verbs() -> "Verbs":
    from lingen_kit.search.engine import Verbs

    return Verbs(fit, read, parse)


def _root() -> Path:
    from lingen_kit import runs

    return runs.root() / "search"


def _prepare() -> None:
    """Have a process import what every training needs while this one reads the search."""
    from lingen_kit.search.training import prepare

    prepare(MODULES)


def _begin(verb: str, arguments: list[str]) -> None:
    options = _begin_parser(verb).parse_args(arguments)
    _prepare()
    from lingen_kit.search.engine import check_words
    from lingen_kit.search.reading import read_sections
    from lingen_kit.search.study import Study

    name = options.name or options.config.stem
    if name != Path(name).name:
        raise ValueError(f"--name {name!r} must be a plain name, without folders")
    sections = read_sections(options.config, {"trials": options.trials} if options.trials else {})
    study = Study.create(_root() / name, sections)
    try:
        check_words(study.search, _verbs())
    except BaseException:
        study.remove()
        raise
    _run(study, options)


def _resume(verb: str, arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="Go on with a search that was stopped or killed, or join one that runs, from another terminal or "
        "from another machine that shares its folder. What was cut off is gone on with from its last checkpoint.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the search, runs/search/NAME")
    _add_machine(parser)
    options = parser.parse_args(arguments)
    _prepare()
    from lingen_kit.search.study import Study

    _run(Study(options.folder), options)


def _run(study: "Study", options: argparse.Namespace) -> None:
    from lingen_kit.search.engine import Engine
    from lingen_kit.search.progress import Progress

    if options.backend == "ray":
        from lingen_kit.search.ray_tune import run_on_ray

        run_on_ray(study, _verbs(), MODULES, options.workers, options.threads or 1, options.gpus)
        _conclude(study)
        return
    workers = options.workers or max(1, (os.cpu_count() or 1) // 2)
    threads = options.threads or max(1, (os.cpu_count() or 1) // workers)
    size = study.search.space.size()
    print(
        f"{study.folder}: {study.search.trials} trials of {'endless' if size == float('inf') else f'{int(size):,}'} "
        f"candidates, {workers} at a time with {threads} thread{'s' * (threads > 1)} each"
    )
    with Progress(study) as progress:
        engine = Engine(study, _verbs(), workers, threads, on_change=progress.changed)
        try:
            engine.run()
        except KeyboardInterrupt:
            print(f"\nstopped; to go on: python -m lingen_kit search resume {study.folder}", file=sys.stderr)
            raise
    _conclude(study)


def _conclude(study: "Study") -> None:
    """Say what was found; whoever ends last has it all."""
    from lingen_kit.search.export import choose

    if any(record.state == "running" for record in study.records()):
        print(f"other processes still work on {study.folder}; then: python -m lingen_kit search report {study.folder}")
        return
    _write_report(study)
    _write_config(study, choose(study, None), None)


def _begin_parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="""Search for an architecture: draw candidates from a space of options of `fit`, leave out those
that cost too much before they are trained, train the others for a while, and rank them. A search that
was stopped or killed is gone on with by `search resume FOLDER`; `search report FOLDER` writes its tables,
plots and page; `search export FOLDER` writes a candidate as a config that `fit` trains.""",
        epilog="""example:
  python -m lingen_kit search --config experiments/search/quick.yaml
  python -m lingen_kit search resume runs/search/quick
  python -m lingen_kit search report runs/search/quick
  python -m lingen_kit search export runs/search/quick --trial 7 --out mine.yaml""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", required=True, type=Path, metavar="FILE", help="YAML of the search: docs/search.md")
    add("--name", metavar="NAME", help="its folder is runs/search/NAME (default: the name of the file)")
    add("--trials", type=positive, metavar="N", help="candidates to train (default: as the YAML says)")
    _add_machine(parser)
    return parser


def _add_machine(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--backend", choices=("processes", "ray"), default="processes", help="ray spreads the trainings over a cluster")
    add("--gpus", type=number(float, "number of GPUs, such as 1 or 0.5", least=0), default=0, help="of each, with ray")
    add("--workers", type=positive, metavar="N", help="trainings at a time on this machine (default: half the cores)")
    add("--threads", type=positive, metavar="N", help="threads of each on the CPU (default: cores over workers)")


def _report(verb: str, arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="Write leaderboard.csv, plots and report.html of a search, which may still go on, into its folder.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the search, runs/search/NAME")
    options = parser.parse_args(arguments)
    from lingen_kit.search.study import Study

    _write_report(Study(options.folder))


def _write_report(study: "Study") -> None:
    from lingen_kit.search.report import LEADERBOARD, PAGE, write_report

    print("\n".join(write_report(study)))
    print(f"\nleaderboard  {study.folder / LEADERBOARD}\nreport       {study.folder / PAGE}")


def _export(verb: str, arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="Write a candidate of a search as a config that `fit` trains as it is.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="folder of the search, runs/search/NAME")
    add(
        "--trial",
        type=number(int, "number of a trial, such as 7", least=0),
        metavar="N",
        help="default: the recommended",
    )
    add("--out", type=Path, metavar="FILE", help="default: best.yaml, or trial_N.yaml, in the folder")
    add("--as_searched", action="store_true", help="with the search's own overrides, such as its short training")
    options = parser.parse_args(arguments)
    _prepare()
    from lingen_kit.search.export import choose
    from lingen_kit.search.study import Study

    study = Study(options.folder)
    record = choose(study, options.trial)
    _write_config(study, record, options.out, as_searched=options.as_searched)


def _write_config(study: "Study", record: "Record", out: Path | None, *, as_searched: bool = False) -> None:
    from lingen_kit.search.export import BEST, choose, export

    name = BEST if record.number == choose(study, None).number else f"trial_{record.number}.yaml"
    path = out or study.folder / name
    export(study, record, path, dump, as_searched=as_searched)
    print(f"trial {record.number:<6} {path}")
