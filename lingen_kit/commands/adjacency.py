"""`adjacency`: how near scans keep adjacent tokens over k layers, as in Fig. 1 of LinGen's supplement."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from lingen_kit.analysis.adjacency import Pairs
    from lingen_kit.scans import Scan

SCANS = ("Raster", "RotaryMajor", "RotaryMajor(orders=[thw, twh, hwt, wht])", "Snake")
READINGS: dict[Pairs, str] = {"face": "face-adjacent pairs", "cube": "all pairs of each 2x2x2 cube"}

Distances = dict[str, list[float]]  # by scan, one for each number of layers


def main(verb: str, arguments: list[str]) -> None:
    """Print a table for each reading of "adjacent"; write them as CSV and as a figure if asked to."""
    options = _parser(verb).parse_args(arguments)

    from lingen_kit.analysis.adjacency import mean_distances  # imports torch, which takes seconds

    scans = {text: parse_scan(text) for text in options.scan or SCANS}
    layers = sorted(set(options.layers))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)  # before anything is computed that could not be kept
    results = {
        pairs: {text: mean_distances(scan, tuple(options.grid), layers, pairs) for text, scan in scans.items()}
        for pairs in READINGS
    }
    size = "x".join(map(str, options.grid))
    print(f"mean over adjacent tokens of their smallest distance in the sequence within k layers, grid {size}")
    for pairs, distances in results.items():
        print(f"\n{_table(READINGS[pairs], distances, layers)}")
    if options.out:
        _write_csv(options.out / "adjacency.csv", results, layers)
        _write_figure(options.out / "adjacency.png", results, layers, f"T x H x W = {size}")
        print(f"\nadjacency.csv and adjacency.png in {options.out}")


def parse_scan(text: str) -> Scan:
    """Build a scan from `Name` or `Name(option=value, ...)`, values in YAML; a class path names scans of your own.

    Raises:
        ValueError: If there is no such scan, or it has no such option or value.
    """
    import inspect

    import yaml
    from jsonargparse import ArgumentError, ArgumentParser

    from lingen_kit.parse_errors import condense

    parts = re.fullmatch(r"\s*([\w.]+)\s*(?:\((.*)\))?\s*", text, re.DOTALL)
    if not parts:
        raise ValueError(f"--scan {text!r} is no NAME or NAME(option=value, ...), such as {SCANS[2]!r}")
    scan = _scan_class(parts[1])
    try:
        options = yaml.safe_load("{" + re.sub(r"(\w+)\s*=", r"\1: ", parts[2] or "") + "}")
    except yaml.YAMLError as error:
        raise ValueError(f"--scan {text!r}: write options as option=value, and lists in [brackets]") from error
    known = list(inspect.signature(scan).parameters)
    if unknown := [option for option in options if option not in known]:
        choices = f"its options are {', '.join(known)}" if known else "it has no options"
        raise ValueError(f"--scan {text!r}: {parts[1]} has no option {unknown[0]!r}; {choices}; lists go in [brackets]")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(scan, "scan", fail_untyped=False)
    try:
        return parser.instantiate(parser.parse_object({"scan": options})).scan
    except (ArgumentError, ValueError) as error:
        raise ValueError(f"--scan {text!r}: {' '.join(condense(str(error)).split())}") from error


def _scan_class(name: str) -> type[Scan]:
    from inspect import isabstract, isclass

    from lingen_kit import scans

    def is_scan(candidate: object) -> TypeGuard[type[Scan]]:
        return isclass(candidate) and issubclass(candidate, scans.Scan) and not isabstract(candidate)

    module, _, short = name.rpartition(".")
    try:
        found = getattr(import_module(module) if module else scans, short, None)
    except ImportError as error:
        raise ValueError(f"--scan {name}: {error}") from error
    if not is_scan(found):
        known = [each for each in scans.__all__ if is_scan(getattr(scans, each))]
        raise ValueError(f"--scan {name} is no scan; choose out of {', '.join(known)}, or name the path of a class")
    return found


def _table(title: str, distances: Distances, layers: Sequence[int]) -> str:
    width = max(map(len, [*READINGS.values(), *distances]))
    head = f"{title:{width}}" + "".join(f"{f'k={k}':>13}" for k in layers)
    return "\n".join([head, *(f"{s:{width}}" + "".join(f"{d:13.2f}" for d in row) for s, row in distances.items())])


def _write_csv(path: Path, results: dict[Pairs, Distances], layers: Sequence[int]) -> None:
    import csv

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["pairs", "scan", "layers", "distance"])
        for pairs, distances in results.items():
            writer.writerows([pairs, s, k, d] for s, row in distances.items() for k, d in zip(layers, row, strict=True))


def _write_figure(path: Path, results: dict[Pairs, Distances], layers: Sequence[int], title: str) -> None:
    """A panel for each reading, a line for each scan; earlier lines are wider, to show under those that hide them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.8), layout="constrained")
    axes = figure.subplots(1, len(results), sharey=True)
    for ax, (pairs, distances) in zip(axes, results.items(), strict=True):
        for i, (scan, row) in enumerate(distances.items()):
            width = 1.4 + 1.8 * (1 - i / len(distances))
            ax.plot(layers, row, label=scan, marker="osD^vP*X"[i % 8], markersize=3 + 1.5 * width, linewidth=width)
        ax.set_title(READINGS[pairs], fontsize=11)
        ax.set_xlabel("layers k")
        ax.set_xticks(layers)
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("mean distance in the sequence, $d_k$")
    figure.suptitle(f"How near scans keep adjacent tokens ({title})")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=150)


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="Mean over adjacent tokens of their smallest distance in the sequence within the first k layers "
        "(d_k in Fig. 1 of LinGen's supplement): how well a scan that changes from layer to layer keeps neighbors "
        "together. With no options: the supplement's grid, the raster, the rotary-major scan and a continuous zigzag, "
        "which is called Snake here.",
    )
    parser.add_argument(
        "--scan",
        action="append",
        metavar="NAME",
        help="a scan of lingen_kit.scans, such as Hilbert, or the path of a class of your own, with options if need "
        f"be: '{SCANS[2]}'; may be repeated (default: {'; '.join(SCANS)})",
    )
    parser.add_argument(
        "--grid",
        type=int,
        nargs=3,
        default=(32, 32, 32),
        metavar=("T", "H", "W"),
        help="tokens along time, height and width (default 32 32 32)",
    )
    parser.add_argument(
        "--layers", type=int, nargs="+", default=[1, 2, 3, 4, 8], metavar="K", help="layers (default 1 2 3 4 8)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for adjacency.csv and adjacency.png, which are written over if they are there (default: none)",
    )
    return parser
