"""`bench`: how the cost of architectures grows with the number of tokens, or with the size of the model."""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from lingen_kit.commands.options import device, positive

if TYPE_CHECKING:
    from lingen_kit.analysis.bench import Point, Setup

Grid = tuple[int, int, int]
LONGER = (1, 2, 4, 8)
"""Times the frames of the config, where no sizes are given."""


class Config(NamedTuple):
    """A config as the command line names it."""

    name: str
    files: list[str]


def main(verb: str, arguments: list[str]) -> None:
    """Measure the points that the table does not have yet, and write table, fits and figure."""
    parser = _parser(verb)
    options, rest = parser.parse_known_args(arguments)
    options.overrides = _overrides(rest, parser.error)
    _check(options, parser.error)

    import torch  # after the options are known to be good: importing it takes seconds

    from lingen_kit.analysis.bench import KEY, VALUES, Setup, check_dtype, measure_all
    from lingen_kit.analysis.bench_report import HEADER, LEGEND, make_line, summarize, table_line
    from lingen_kit.analysis.ledger import Ledger
    from lingen_kit.analysis.plots import plot_scaling

    where = device(options.device)
    setup = Setup(
        mode=options.mode,
        dtype=options.dtype or ("bf16" if where.startswith("cuda") else "fp32"),
        device=where,
        threads=options.threads or torch.get_num_threads(),
        batch_size=options.batch_size,
        repeats=options.repeats,
        text_tokens=options.text_tokens,
        steps=options.steps,
        guidance=options.guidance,
    )
    check_dtype(setup.device, setup.dtype)
    axis = "parameters" if len(options.size) > 1 else "tokens"
    # A stable sort: the configs take turns, so that a run cut short can be compared already.
    points = sorted(_points(options, setup), key=lambda point: getattr(point, axis))
    names = [config.name for config in options.config]
    out = options.out or Path("bench") / f"{'-'.join(names)}-{options.mode}"
    out.mkdir(parents=True, exist_ok=True)  # before anything is measured that could not be kept
    ledger = Ledger(out / "bench.csv", KEY, VALUES)

    made = setup.provenance()
    title = f"{setup.mode}, batch {setup.batch_size}, {setup.dtype}"
    machine = f"{made['device_name']}, {setup.threads} thread{'s' * (setup.threads > 1)}, torch {made['torch']}"
    print(f"{title}, {machine}\n{LEGEND}\n\n{HEADER}", flush=True)
    progress = _Progress(len(points))
    measured, kept = [], 0
    try:
        for point, row, old in measure_all(points, setup, ledger, on_start=progress.start):
            progress.clear()
            print(table_line(point, row) + ("  (kept)" if old else ""), flush=True)
            measured.append((point, row))
            kept += old
    except KeyboardInterrupt:
        progress.clear()
        print(f"\ninterrupted: {len(measured)} of {len(points)} points are in {ledger.path}; the same command goes on")
        raise
    if kept:
        print(f"\n{kept} of {len(points)} points kept from an earlier run: name another --out after changing code")

    lines = [
        make_line(name, [(getattr(point, axis), row) for point, row in measured if point.config == name])
        for name in names
    ]
    summary = summarize(lines, axis)
    figure = out / "bench.png"
    plot_scaling(
        lines,
        figure,
        title=f"{' and '.join(names)}: {title}",
        subtitle=" | ".join([f"{machine}, {setup.text_tokens} text tokens", *options.overrides]),
        axis=f"{axis} of the denoiser" if axis == "parameters" else f"{axis} of a video",
        crossings=summary.crossings,
    )
    print("\n" + "\n".join([*summary.sentences, "", f"table   {ledger.path}", f"figure  {figure}"]))


def _points(options: argparse.Namespace, setup: "Setup") -> "list[Point]":
    """Every config at every size of the model and of the video."""
    from lingen_kit.analysis.bench import grid_of_tokens, plan, video_of_grid
    from lingen_kit.config import read_config

    points = []
    overrides = " ".join(word.removeprefix("--model.") for word in options.overrides)
    for name, files in options.config:
        for size in options.size or [""]:
            words = [f"--model.denoiser.{assignment}" for assignment in size.split(",") if assignment]
            model = read_config(files, [*options.overrides, *words])
            if options.video:
                videos = options.video
            elif options.grid:
                videos = [video_of_grid(model, grid) for grid in options.grid]
            elif options.tokens:
                videos = [video_of_grid(model, grid_of_tokens(model, tokens)) for tokens in options.tokens]
            else:
                factors = (1,) if len(options.size) > 1 else LONGER
                videos = [(factor * model["frames"], model["height"], model["width"]) for factor in factors]
            points += [plan(name, size, model, video, setup, overrides) for video in dict.fromkeys(videos)]
    return points


class _Progress:
    """Says on stderr what runs now; on a terminal in a line whose place the result takes."""

    def __init__(self, total: int) -> None:
        self.total, self.transient = total, sys.stderr.isatty()

    def start(self, place: int, point: "Point") -> None:
        words = f"[{place + 1}/{self.total}] {point.config} {point.size}".strip() + f", {point.tokens} tokens ..."
        print(words, end="" if self.transient else "\n", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.transient:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _check(options: argparse.Namespace, fail: Callable[[str], NoReturn]) -> None:
    """Refuse options that do not go together."""
    if options.mode != "sample" and (options.steps is not None or options.guidance is not None):
        fail("--steps and --guidance need --mode sample")
    videos = options.grid or options.video or options.tokens or []
    if len(options.size) > 1 and len(videos) > 1:
        fail("several --size ask for cost over parameters, several video sizes for cost over tokens: choose one")
    names = [config.name for config in options.config]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        fail(f"two configs are named {twice}; tell them apart with --config NAME=FILE")


def _overrides(words: list[str], fail: Callable[[str], NoReturn]) -> list[str]:
    """Read what argparse does not know: `--model.KEY VALUE` or `--model.KEY=VALUE`."""
    overrides, left = [], iter(words)
    for word in left:
        if not word.startswith("--model."):
            fail(f"unknown option {word}; an option of the model is given as --model.KEY VALUE")
        value = "" if "=" in word else next(left, None)
        if value is None:
            fail(f"{word} needs a value")
        overrides.append(word if "=" in word else f"{word}={value}")
    return overrides


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="""Measure how latency, memory and FLOPs of configs grow with the tokens of the video (--tokens,
--grid or --video) or with the size of the model (several --size). Writes bench.csv, a row a
measurement, and bench.png. Run again with the same --out, it measures what is missing. Any option of
the model may be given as in `fit`: --model.denoiser.depth 8.""",
        epilog="""example:
  python -m lingen_kit bench --config lingen=experiments/quickstart.yaml \\
      --config dit=experiments/quickstart.yaml,experiments/models/dit.yaml --tokens 64 256 1024 4096""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--config",
        action="append",
        required=True,
        type=_config,
        metavar="[NAME=]FILE[,FILE...]",
        help="YAML files as `fit` takes them, each stacked on those before it; repeat to compare",
    )
    videos = parser.add_mutually_exclusive_group()
    videos.add_argument(
        "--tokens",
        nargs="+",
        type=positive,
        metavar="N",
        help="tokens of a video: frames of the config's height and width, as many as make N tokens",
    )
    videos.add_argument("--grid", nargs="+", type=_grid, metavar="TxHxW", help="tokens along time, height and width")
    videos.add_argument(
        "--video",
        nargs="+",
        type=_grid,
        metavar="TxHxW",
        help="frames, height and width in pixels (default: the config's own, and 2, 4 and 8 times its frames)",
    )
    add(
        "--size",
        action="append",
        default=[],
        type=_size,
        metavar="KEY=VALUE[,KEY=VALUE...]",
        help="options of the denoiser, such as dim=512,depth=8; repeat for cost over parameters",
    )
    add(
        "--mode",
        choices=("forward", "train", "sample"),
        default="forward",
        help="one forward pass of the denoiser; that, loss and backward pass; or sampler and decoder (default forward)",
    )
    add("--steps", type=positive, help="solver steps of --mode sample (default: the config's)")
    add("--guidance", type=float, help="guidance scale of --mode sample; 1 halves the passes (default: the config's)")
    add("--batch_size", type=positive, default=1, help="videos at once (default 1)")
    add("--text_tokens", type=positive, default=256, help="text tokens that the denoiser looks at (default 256)")
    add("--dtype", choices=("fp32", "bf16"), help="bf16 is autocast (default bf16 on CUDA, fp32 on a CPU)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    add("--threads", type=positive, help="CPU threads (default: torch's own choice)")
    add("--repeats", type=positive, default=5, help="timed calls of each point (default 5)")
    add("--out", type=Path, metavar="FOLDER", help="folder of table and figure (default bench/NAMES-MODE)")
    return parser


def _config(text: str) -> Config:
    name, named, files = text.partition("=")
    paths = (files if named else name).split(",")
    if not all(paths):
        raise argparse.ArgumentTypeError(f"{text!r} names no file somewhere; write [NAME=]FILE[,FILE...]")
    name = name if named else "-".join(Path(path).stem for path in paths)
    if not re.fullmatch(r"[\w.+-]+", name):
        raise argparse.ArgumentTypeError(f"{name!r} is no name: use letters, digits and . + - _")
    return Config(name, paths)


def _grid(text: str) -> Grid:
    sizes = [int(size) for size in re.split("[x,]", text) if size.isdecimal()]
    if len(sizes) != 3 or not re.fullmatch(r"\d+[x,]\d+[x,]\d+", text) or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be three sizes of at least 1, such as 8x16x16")
    return sizes[0], sizes[1], sizes[2]


def _size(text: str) -> str:
    if not re.fullmatch(r"[\w.]+=[^,=]+(,[\w.]+=[^,=]+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be options of the denoiser, such as dim=512,depth=8")
    return text
