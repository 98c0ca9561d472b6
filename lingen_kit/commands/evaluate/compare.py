"""`evaluate compare`: several results side by side, prompts in rows and models in columns."""

import argparse
from pathlib import Path


def main(verb: str, arguments: list[str]) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="Put results of `evaluate` side by side on one page: their figures, with the differences to the"
        " first and their intervals, and their videos, prompts in rows and models in columns, playing in step.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder that `evaluate` wrote, or NAME=FOLDER")
    parser.add_argument(
        "--videos",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="folder of a run's videos, once for each run in their order (default: RUN/videos, where checkpoints' are)",
    )
    parser.add_argument("--out", type=Path, default=Path("comparison.html"), metavar="FILE", help="page to write")
    options = parser.parse_args(arguments)
    if len(options.runs) < 2:
        parser.error("give at least two runs to compare")
    if options.videos and len(options.videos) != len(options.runs):
        parser.error(
            f"--videos is given {len(options.videos)} times for {len(options.runs)} runs: give it once for each"
        )

    from eval.comparison import write_comparison
    from eval.run import read_scores

    runs = []
    for number, word in enumerate(options.runs):
        name, _, folder = word.rpartition("=")
        path = Path(folder)
        beside = options.videos[number] if options.videos else (path if path.is_dir() else path.parent) / "videos"
        runs.append((name or path.stem, read_scores(path), beside if beside.is_dir() else None))
    print(f"comparison  {write_comparison(runs, options.out)}")
