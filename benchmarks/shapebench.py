"""Whether ShapeBench's judges can be trusted, and how fast they are: a measurement, not a test.

Run `python benchmarks/shapebench.py` from the root of the repository. It writes `docs/results/shapebench-judges.md` and
`docs/images/shapebench_faults.png`. A judge is any function from `(T, H, W, 3)` uint8 frames to a `SceneObservation`;
another one is added by its path: `--judge network=eval.shapes.judge.network_observe`.
"""

import argparse
import platform
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from eval.shapes.dimensions import DIMENSIONS
from eval.shapes.faults import FAULTS
from eval.shapes.observation import Judge
from eval.shapes.validation import FaultTable, clean_accuracy, clips_of, fault_table, seconds_a_clip

ROOT = Path(__file__).parents[1]
SIZES = {"8 frames of 32x32": dict(frames=8, side=32), "16 frames of 64x64": dict(frames=16, side=64)}
WORDS = ("objects", "background", "color", "shape", "size", "action", "all")
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def cpu() -> str:
    """The processor's name, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def judge_of(text: str) -> tuple[str, Judge]:
    """Read `name=package.module.function`."""
    name, _, path = text.partition("=")
    module, _, function = path.rpartition(".")
    if not (name and module):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no judge; write for example formulas=eval.shapes.observe.observe"
        )
    return name, getattr(import_module(module), function)


def accuracy_table(judges: Mapping[str, Judge], clips: int) -> list[str]:
    """Rows of shares of right words, one for each judge, size and number of objects."""
    rows = [f"| judge | clips | objects in each | {' | '.join(WORDS)} |", "|---" * (3 + len(WORDS)) + "|"]
    for size, options in SIZES.items():
        for objects in (1, 2, 3):
            chosen = clips_of(clips, objects=objects, seed=101, **options)
            for name, judge in judges.items():
                shares = clean_accuracy(judge, chosen)
                cells = " | ".join(f"{100 * shares[word]:.1f}%" for word in WORDS)
                rows.append(f"| {name} | {clips}, {size} | {objects} | {cells} |")
                print(rows[-1], flush=True)
    return rows


def fault_rows(name: str, table: FaultTable) -> list[str]:
    """Each fault with the dimensions that it must lower."""
    rows = [f"| {name}: fault | must lower | {' | '.join(f'{s:g}' for s in table.strengths)} | falls |"]
    rows.append("|---" * (len(table.strengths) + 3) + "|")
    broken = table.broken()
    for fault in table.means:
        for dimension in FAULTS[fault].lowers:
            cells = " | ".join(f"{value:.3f}" for value in table.course(fault, dimension))
            verdict = "no" if any(line.startswith(f"{fault}: {dimension} ") for line in broken) else "yes"
            rows.append(f"| {fault} | {dimension.replace('_', ' ')} | {cells} | {verdict} |")
    return rows


def full_rows(name: str, table: FaultTable) -> list[str]:
    """Every dimension at every fault's full strength."""
    plain = [dimension.removeprefix("shapebench/") for dimension in DIMENSIONS]
    rows = [f"| {name}: at full strength | {' | '.join(word.replace('_', ' ') for word in plain)} |"]
    rows.append("|---" * (len(plain) + 1) + "|")
    for fault, means in table.means.items():
        values = [means[dimension][-1] for dimension in DIMENSIONS]
        rows.append(f"| {fault} | {' | '.join('-' if v is None else f'{v:.2f}' for v in values)} |")
    return rows


def picture(tables: Mapping[str, FaultTable], path: Path) -> None:
    """Small multiples: one panel a fault, what it must lower in color, all else in gray; one line style a judge."""
    columns = 4
    rows = -(-len(FAULTS) // columns)
    figure = Figure(figsize=(13, 2.75 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True)
    colors = ("#0b62b0", "#c2410c", "#1b6e3c")
    for axes, (fault, kind) in zip(panels.flat, FAULTS.items(), strict=False):
        for table, style in zip(tables.values(), ("-", "--", ":"), strict=False):
            for dimension in DIMENSIONS:
                values = table.means[fault][dimension]
                if None not in values:
                    axes.plot(table.strengths, values, color="#c9ced6", lw=0.8, ls=style, zorder=1)
            for name, color in zip(kind.lowers, colors, strict=False):
                values = table.course(fault, name)
                label = name.replace("_", " ") if style == "-" else None
                axes.plot(
                    table.strengths, values, color=color, lw=2, ls=style, marker="o", ms=3.5, label=label, zorder=3
                )
        axes.set_title(fault, loc="left", fontsize=11, fontweight="bold")
        axes.legend(loc="lower left", fontsize=8, frameon=False)
        axes.set_ylim(-0.03, 1.05)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels.flat[len(FAULTS) :]:
        axes.set_visible(False)
    styles = ", ".join(f"{name}: {style}" for name, style in zip(tables, ("solid", "dashed", "dotted"), strict=False))
    figure.supxlabel("strength of the fault", fontsize=11)
    figure.supylabel("mean score", fontsize=11)
    figure.suptitle(f"What a fault must lower (color) and all other dimensions (gray). {styles}", fontsize=12)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", action="append", type=judge_of, help="name=package.module.function; may be repeated")
    parser.add_argument("--clean", type=int, default=300, help="perfect clips for each row of the first table")
    parser.add_argument("--clips", type=int, default=12, help="clips with faults for each number of objects")
    parser.add_argument("--timed", type=int, default=500, help="clips for the speed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    timed = [clip for n in (1, 2, 3) for clip in clips_of(-(-options.timed // 3), objects=n, seed=102)]
    judges = dict([judge_of("formulas=eval.shapes.observe.observe"), *(options.judge or [])])
    lines = [
        "# ShapeBench's judges",
        "",
        "`python " + " ".join(["benchmarks/shapebench.py", *sys.argv[1:]]) + "`; perfect clips are drawn from",
        "combinations of words that training never shows, faults are put into them by `eval/shapes/faults.py`.",
        f"Measured on {cpu()}, Python {platform.python_version()}, numpy {np.__version__}.",
        "",
        "## Right words on perfect clips",
        "",
        *accuracy_table(judges, options.clean),
        "",
        "## Speed",
        "",
        f"| judge | seconds a clip, one thread, {len(timed)} clips of 8x32x32, 1 to 3 objects |",
        "|---|---|",
    ]
    for name, judge in judges.items():
        lines.append(f"| {name} | {seconds_a_clip(judge, timed):.3f} |")
        print(lines[-1], flush=True)
    clips = [clip for n in (1, 2, 3) for clip in clips_of(options.clips, objects=n, seed=103)]
    tables: dict[str, FaultTable] = {}
    lines += [
        "",
        "## Faults",
        "",
        f"Mean over {len(clips)} clips of 8x32x32, 1 to 3 objects, by strength of the fault.",
        "",
    ]
    lines += ["![faults](../images/shapebench_faults.png)", ""]
    for name, judge in judges.items():
        tables[name] = fault_table(judge, clips, STRENGTHS, progress=lambda line: print(line, flush=True))
        lines += [*fault_rows(name, tables[name]), "", *full_rows(name, tables[name]), ""]
    (ROOT / "docs" / "results").mkdir(parents=True, exist_ok=True)
    (ROOT / "docs" / "results" / "shapebench-judges.md").write_text("\n".join(lines))
    picture(tables, ROOT / "docs" / "images" / "shapebench_faults.png")


if __name__ == "__main__":
    main()
