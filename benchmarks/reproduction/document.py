"""Rebuild docs/reproduction.md and its plots from the results that are shipped.

    python -m benchmarks.reproduction.document       # seconds; nothing is measured

What measures them anew is `benchmarks.reproduction.measure`, and, for what is trained, `adaptation` and the ablations.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.reproduction.claim import Claim, Results
from benchmarks.reproduction.claims import claims
from benchmarks.reproduction.cost_claims import GPU
from benchmarks.reproduction.quality_claims import read_ablations
from benchmarks.reproduction.setting import ROOT

RESULTS = ROOT / "docs" / "results"
PAGE = ROOT / "docs" / "reproduction.md"
PICTURES = ROOT / "docs" / "images" / "reproduction"
PARTS = ("adjacency", "tables", "flops", "equations", "schedule", "scans", "variants", "lengths", "sizes", "adaptation")

BLUE, ORANGE, GRAY, INK, GRID = "#0072B2", "#D55E00", "#8A919C", "#333333", "#E3E5E9"
COLORS = (BLUE, ORANGE, "#009E73", "#CC79A7")
MEANING = {
    "reproduced": "the claim holds here, as it is",
    "reproduced in shape": "it holds at a laptop's scale, under one of two readings, or in a part of it",
    "not reproduced": "what was measured here says otherwise, or cannot tell",
    "needs hardware": "nothing short of the paper's machines and data can say",
    "needs people": "only human raters can say",
    "not measured": "the kit has what measures it; no result is shipped yet",
}


def read_results(folder: Path = RESULTS) -> Results:
    """Everything that is shipped; None for what is not."""
    results: Results = {}
    for part in PARTS:
        path = folder / "reproduction" / f"{part}.json"
        results[part] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    with (folder / GPU / "bench.csv").open(encoding="utf-8", newline="") as file:
        results["gpu"] = list(csv.DictReader(file))
    rows = read_ablations(folder / "ablations" / "leaderboard.csv")
    made = folder / "ablations" / "made.json"
    if rows is not None:
        told = json.loads(made.read_text(encoding="utf-8"))
        results["curves"] = told["curves"]
        for row in rows.values():
            row["on"] = f"0.7 million parameters, 256 tokens, {told['steps']} steps; {told['machine']}"
    results["ablations"] = rows
    return results


def document(results: Results) -> str:
    """The page."""
    made = claims(results)
    lines = [
        "# The paper's claims, reproduced",
        "",
        "What LinGen's paper and supplement claim, what was measured here, and what follows. Each verdict is what",
        "a rule in `benchmarks/reproduction` makes of the numbers in `docs/results`; `make reproduction`",
        "rebuilds this page from them. The models here are small, and trained on a closed world of moving shapes:",
        "what they show is the shape of a claim, not its size.",
        "",
        "| verdict | means | claims |",
        "|---|---|---|",
    ]
    for verdict, meaning in MEANING.items():
        count = sum(claim.verdict == verdict for claim in made)
        if count:
            lines.append(f"| {verdict} | {meaning} | {count} |")
    lines += ["", "| where | claimed | measured here | on | verdict |", "|---|---|---|---|---|"]
    lines += [f"| {c.source} | {c.claimed} | {c.measured} | {c.on} | **{c.verdict}** |" for c in made]
    lines += ["", "## Commands", ""]
    commands: dict[str, list[str]] = {}
    for claim in made:
        commands.setdefault(claim.command, []).append(claim.claimed)
    for command, told in commands.items():
        lines += [f"- {'; '.join(told)}:", "", f"      {command}", ""]
    lines += _flops_table(results)
    if results["ablations"] is not None:
        lines += _ablations_table(results)
    lines += ["## Plots", ""]
    for claim in made:
        if claim.picture and claim.verdict != "not measured":
            lines += [
                f"{claim.source}: {claim.claimed}.",
                "",
                f"![{claim.claimed}](images/reproduction/{claim.picture})",
                "",
            ]
    return "\n".join(lines).rstrip() + "\n"


def _flops_table(results: Results) -> list[str]:
    lines = [
        "## FLOPs of DiT-4B over those of LinGen-4B",
        "",
        "By formula, a pass of the denoiser with 256 text tokens; 16 frames a second, a patch of 2 x 2 latents.",
        "",
        "| video | tokens | attention over MA branches | mixers | whole model |",
        "|---|---|---|---|---|",
    ]
    seconds = {34: 17, 68: 34, 136: 68}
    for row in results["flops"]["rows"]:
        frames, height, width = row["grid"]
        ratios = {what: row[what]["dit"] / row[what]["lingen"] for what in ("mixer", "whole")}
        size = f"{16 * height} x {16 * width}, {seconds[frames]} s"
        branch = row["mixer"]["dit"] / row["ma"]
        cells = " | ".join(f"{value:.2f}" for value in (branch, ratios["mixer"], ratios["whole"]))
        lines.append(f"| {size} | {row['tokens']:,} | {cells} |")
    return [*lines, ""]


def _ablations_table(results: Results) -> list[str]:
    rows = results["ablations"]
    shown = {
        "validation/loss": "validation loss",
        "shapebench/overall_consistency": "overall consistency",
        "shapebench/subject_consistency": "subject consistency",
        "shapebench/quality_score": "Quality",
    }
    lines = [
        "## Ablations",
        "",
        "Mean and standard error over the seeds; a difference of less than two standard errors of it is none. The",
        "validation loss of mixed_world is of its own, wider world.",
        "[Curves, samples and all figures](results/ablations/README.md).",
        "",
        f"| row | parameters | seeds | {' | '.join(shown.values())} |",
        f"|---|---|---|{'---|' * len(shown)}",
    ]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["validation/loss"][0]):
        figures = [f"{row[f][0]:.4f} ± {row[f][1]:.4f}" if f in row else "" for f in shown]
        lines.append(f"| {name} | {row['parameters']:,} | {row['seeds']} | {' | '.join(figures)} |")
    return [*lines, ""]


def draw(results: Results, folder: Path = PICTURES) -> None:
    """The plots."""
    folder.mkdir(parents=True, exist_ok=True)
    _adjacency(results, folder / "adjacency.png")
    _flops(results, folder / "flops.png")
    for name, plot in (("variants", _variants), ("lengths", _lengths), ("sizes", _sizes), ("adaptation", _adaptation)):
        if results[name] is not None:
            plot(results, folder / f"{name}.png")
    if results["ablations"] is not None:
        _ablations(results, folder / "ablations.png")


def _adjacency(results: Results, path: Path) -> None:
    figure, panels = _figure(2, 8.4, 3.4)
    found = results["adjacency"]
    for panel, (pairs, title) in zip(
        panels, (("face", "tokens that share a face"), ("cube", "2x2x2 cubes")), strict=True
    ):
        for i, (color, (name, values)) in enumerate(zip(COLORS, found[pairs].items(), strict=True)):
            # Where two curves are one, the first shows as a rim around the second.
            size = {"linewidth": 4.5, "markersize": 8} if i == 0 else {"linewidth": 1.5, "markersize": 4}
            panel.plot(found["layers"], values, color=color, marker="o", label=name, **size)
        panel.set(xlabel="layers k", title=title, yscale="log")
    panels[0].set_ylabel("d_k (tokens)")
    panels[1].legend(frameon=False, fontsize=8)
    _save(figure, path)


def _flops(results: Results, path: Path) -> None:
    figure, (panel,) = _figure(1, 5.6, 3.4)
    rows = sorted(results["flops"]["rows"], key=lambda row: row["tokens"])
    lines = {
        "attention over MA branches": [row["mixer"]["dit"] / row["ma"] for row in rows],
        "mixers alone": [row["mixer"]["dit"] / row["mixer"]["lingen"] for row in rows],
        "whole model": [row["whole"]["dit"] / row["whole"]["lingen"] for row in rows],
    }
    for color, (label, values) in zip(COLORS, lines.items(), strict=False):
        panel.plot([row["tokens"] for row in rows], values, color=color, marker="o", markersize=4, label=label)
    for height, words in ((1, "no saving"), (15, "claimed")):
        panel.axhline(height, color=GRAY, linewidth=1, linestyle=(0, (4, 3)))
        panel.annotate(words, (0.99, height), xycoords=("axes fraction", "data"), xytext=(0, 3), ha="right",
                       textcoords="offset points", fontsize=8, color=INK)  # fmt: skip
    panel.set(xscale="log", yscale="log", xlabel="tokens", ylabel="FLOPs, DiT-4B over LinGen-4B")
    panel.legend(frameon=False, fontsize=8)
    _save(figure, path)


def _variants(results: Results, path: Path) -> None:
    found = results["variants"]
    names = sorted(found["paper"], key=lambda name: found["paper"][name])
    figure, (panel,) = _figure(1, 6.4, 3.6)
    places = range(len(names))
    theirs = [found["paper"][name] / found["paper"]["default"] for name in names]
    panel.barh([p + 0.2 for p in places], theirs, height=0.38, color=GRAY, label="paper, 4 billion parameters, H100")
    panel.barh([p - 0.2 for p in places], [found["ratios"][n] for n in names], height=0.38, color=BLUE, label="here")
    panel.set_yticks(list(places), [name.replace("_", " ") for name in names])
    panel.axvline(1, color=INK, linewidth=1)
    panel.set_xlabel("latency over the default's, 34,816 tokens")
    panel.legend(frameon=False, fontsize=8, loc="lower right")
    _save(figure, path)


def _lengths(results: Results, path: Path) -> None:
    figure, (panel,) = _figure(1, 5.6, 3.6)
    rows = results["lengths"]["rows"]
    for color, name, label in ((BLUE, "lingen", "LinGen"), (ORANGE, "dit", "DiT")):
        panel.plot(
            [r["tokens"] for r in rows], [r[name] for r in rows], color=color, marker="o", markersize=4, label=label
        )
    panel.set(xscale="log", yscale="log", xlabel="tokens", ylabel="seconds of a pass")
    panel.legend(frameon=False, fontsize=8)
    _save(figure, path)


def _sizes(results: Results, path: Path) -> None:
    figure, (panel,) = _figure(1, 5.6, 3.6)
    rows = results["sizes"]["rows"]
    for color, name, label in ((BLUE, "lingen", "LinGen"), (ORANGE, "dit", "DiT")):
        xs = [row["parameters"][name] / 1e6 for row in rows]
        panel.plot(xs, [row["seconds"][name] for row in rows], color=color, marker="o", markersize=4, label=label)
    panel.set(xlabel="million parameters", ylabel=f"seconds of a pass, {results['sizes']['tokens']:,} tokens")
    panel.legend(frameon=False, fontsize=8)
    _save(figure, path)


def _ablations(results: Results, path: Path) -> None:
    figure, (left, right) = _figure(2, 10.4, 4.2)
    rows = {name: row for name, row in results["ablations"].items() if name not in ("mixed_world",)}
    order = sorted(rows, key=lambda name: -rows[name]["validation/loss"][0])
    means, errors = zip(*(rows[name]["validation/loss"] for name in order), strict=True)
    colors = [BLUE if name == "lingen" else ORANGE if name.startswith("dit") else GRAY for name in order]
    left.errorbar(
        means, range(len(order)), xerr=[2 * e for e in errors], fmt="none", ecolor=INK, elinewidth=1, capsize=2
    )
    left.scatter(means, range(len(order)), color=colors, zorder=3, s=24)
    left.set_yticks(range(len(order)), [name.replace("_", " ") for name in order], fontsize=8)
    left.set_xlabel("validation loss (bars: two standard errors)")
    shown = ("lingen", "without_tesa", "without_rms", "without_both")
    for color, name in zip(COLORS, [name for name in shown if name in results["curves"]], strict=False):
        curve = results["curves"][name]
        right.plot(curve["steps"], curve["mean"], color=color, marker="o", markersize=3, label=name.replace("_", " "))
    right.set(xlabel="step", ylabel="validation loss", yscale="log")
    right.legend(frameon=False, fontsize=8)
    _save(figure, path)


def _adaptation(results: Results, path: Path) -> None:
    figure, (panel,) = _figure(1, 5.6, 3.6)
    found = results["adaptation"]
    for color, name, label in ((BLUE, "lingen", "LinGen"), (ORANGE, "dit", "DiT")):
        panel.plot(found["curve"], found[name]["curve"], color=color, marker="o", markersize=4, label=label)
    panel.set(xlabel="steps at the higher resolution", ylabel="validation loss there")
    panel.legend(frameon=False, fontsize=8)
    _save(figure, path)


def _figure(panels: int, width: float, height: float) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    for panel in axes:
        panel.grid(True, color=GRID, linewidth=0.8)
        panel.set_axisbelow(True)
        panel.tick_params(colors=INK, labelsize=8)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> None:
    """Write the page and its plots."""
    results = read_results()
    draw(results)
    PAGE.write_text(document(results), encoding="utf-8")
    made: list[Claim] = claims(results)
    for claim in made:
        print(f"{claim.verdict:20} {claim.source}: {claim.claimed}")
    print(f"\n{PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
