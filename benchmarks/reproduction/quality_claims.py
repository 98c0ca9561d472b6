"""Claims of how good models become: losses by ablation, recipe, adaptation, leaderboards, people."""

import csv
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.reproduction.claim import MEASURE, Claim, Results, Verdict, above

ABLATIONS = "python -m lingen_kit search --config experiments/ablations/grid.yaml --name ablations"


def ablation(results: Results) -> Claim:
    """Fig. 11: whether the loss without both parts is above all others."""
    claimed = "without both TESA and rotary-major the loss is the worst"
    loss, on, seeds = _losses(results, "lingen", "without_tesa", "without_rms", "without_both")
    if not loss:
        return Claim("main paper, Fig. 11", claimed, "", "", ABLATIONS, "not measured")
    others = [value for name, value in loss.items() if name != "without_both"]
    worst = all(above(loss["without_both"], other) for other in others)
    return Claim(
        "main paper, Fig. 11",
        claimed,
        f"{_told(loss)} (mean and standard error of {seeds} seeds). Without both is "
        f"{'clearly' if worst else 'not clearly'} the worst; without TESA alone "
        f"{'is worse than LinGen' if above(loss['without_tesa'], loss['lingen']) else 'and LinGen do not differ'}",
        on,
        ABLATIONS,
        "reproduced in shape" if worst else "not reproduced",
        "ablations.png",
    )


def zigzag_loss(results: Results) -> Claim:
    """Fig. 11: whether the losses of two scans differ."""
    claimed = "rotary-major has about the loss of zigzag"
    loss, on, seeds = _losses(results, "lingen", "zigzag")
    if not loss:
        return Claim("main paper, Fig. 11", claimed, "", "", ABLATIONS, "not measured")
    better, worse = above(loss["zigzag"], loss["lingen"]), above(loss["lingen"], loss["zigzag"])
    found = (
        "rotary-major is the better one" if better else "zigzag is the better one" if worse else "they do not differ"
    )
    return Claim(
        "main paper, Fig. 11",
        claimed,
        f"{_told(loss)} (mean and standard error of {seeds} seeds): {found}",
        on,
        ABLATIONS,
        "not reproduced" if better or worse else "reproduced in shape",
    )


def _losses(results: Results, *names: str) -> tuple[dict[str, tuple[float, float]], str, int]:
    """Validation losses of rows of the ablations, on what, and how many seeds; empty if one is missing."""
    rows = results.get("ablations") or {}
    if any(name not in rows for name in names):
        return {}, "", 0
    first = rows[names[0]]
    return {name: rows[name]["validation/loss"] for name in names}, first["on"], first["seeds"]


def _told(loss: dict[str, tuple[float, float]]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {mean:.4f} ± {error:.4f}" for name, (mean, error) in loss.items())


def recipe(name: str, other: str, claimed: str, figure: str) -> Callable[[Results], Claim]:
    """That a row of the ablations has more of a figure than its control."""

    def make(results: Results) -> Claim:
        rows = results.get("ablations")
        if rows is None or name not in rows or other not in rows:
            return Claim("supplement, Sec. D, E.3", claimed, "", "", ABLATIONS, "not measured")
        ours, base = rows[name][figure], rows[other][figure]
        name_of = figure.rpartition("/")[2].replace("_", " ")
        told = f"{name_of} {ours[0]:.3f} ± {ours[1]:.3f} with, {base[0]:.3f} ± {base[1]:.3f} without"
        verdict: Verdict = "reproduced in shape" if above(ours, base) else "not reproduced"
        return Claim(
            "supplement, Sec. D, E.3",
            claimed,
            f"{told} ({rows[name]['seeds']} seeds)",
            rows[name]["on"],
            ABLATIONS,
            verdict,
        )

    return make


def adaptation(results: Results) -> Claim:
    """Fig. 10: whose loss falls faster at a higher resolution."""
    claimed = "LinGen adapts faster than DiT from 256p to 512p"
    command, found = "python -m benchmarks.reproduction.adaptation runs/search/ablations", results.get("adaptation")
    if found is None:
        return Claim("main paper, Fig. 10", claimed, "", "", command, "not measured")
    excess = {name: found[name]["excess"] for name in ("lingen", "dit")}
    told = ", ".join(f"{name} {statistics.fmean(values):.2f}" for name, values in excess.items())
    # A seed's validation clips are the same for both models, and some are harder than others: so, seed by seed.
    more = [dit - lingen for dit, lingen in zip(excess["dit"], excess["lingen"], strict=True)]
    mean, error = statistics.fmean(more), statistics.stdev(more) / math.sqrt(len(more))
    ends = ", ".join(
        f"{name} from {found[name]['curve'][0]:.4f} to {found[name]['curve'][-1]:.4f}" for name in ("lingen", "dit")
    )
    verdict: Verdict = "reproduced in shape" if mean > 2 * error else "not reproduced"
    return Claim(
        "main paper, Fig. 10",
        claimed,
        f"mean validation loss over the first {found['steps']} steps at twice the height and width, in multiples of "
        f"the loss before: {told}; seed by seed, on the same clips, DiT's is higher by {mean:.3f} ± {error:.3f} "
        f"({found['seeds']} seeds); losses: {ends}",
        f"{found['on']}, {found['made']['machine']}",
        command,
        verdict,
        "adaptation.png",
    )


def tables(results: Results) -> Claim:
    """Tables 1 to 4: whether printed totals follow from their columns."""
    rows = results["tables"]["rows"]
    worst = max(rows, key=lambda row: abs(row["printed"] - row["made"]))
    off = 100 * abs(worst["printed"] - worst["made"])
    models = {(row["table"], row["model"]) for row in rows}
    headed = max((row for row in rows if "as_headed" in row), key=lambda row: abs(row["printed"] - row["as_headed"]))
    return Claim(
        "supplement, Tables 1 to 4",
        "Quality, Semantic and Total Scores on VBench, VBench-Long and VBench-Custom",
        f"the arithmetic: {len(rows)} printed totals of {len(models)} rows follow from their own columns to "
        f"{off:.3f} points (the furthest: {worst['model']}, Table {worst['table']}), once the last three quality "
        "columns of Tables 1 and 2 and of the row of 256p have their right headers, Dynamic, Aesthetic, Imaging. "
        f"As printed, Quality is off by up to {100 * abs(headed['printed'] - headed['as_headed']):.1f} points "
        f"({headed['model']}, Table {headed['table']}). The figures themselves need the trained model and VBench's "
        "networks",
        "computed",
        f"{MEASURE} tables",
        "reproduced in shape" if off < 0.02 else "not reproduced",
    )


def resolutions(results: Results) -> Claim:
    """Table 4: what the scores say of two resolutions."""
    rows = {row["model"]: row for row in results["tables"]["rows"]}
    high, low = (100 * rows[f"LinGen {size}"]["made"] for size in ("512p", "256p"))
    return Claim(
        "supplement, Table 4",
        "512p and 256p videos have nearly the same VBench-Custom score, while 88.4% of people prefer 512p",
        f"the scores that follow from the printed columns, {high:.2f} and {low:.2f}, lie {abs(high - low):.2f} points "
        "apart; the preference was not measured",
        "computed",
        f"{MEASURE} tables",
        "needs people",
    )


def people(results: Results) -> Claim:
    """What only people can say."""
    return Claim(
        "main paper; supplement, Fig. 8",
        "people prefer LinGen's videos to DiT's in 75.6% of the comparisons, and to open models' by a large margin",
        "nothing. `arena` asks people, blind and in random order, and computes win rates; simulated raters are no "
        "evidence",
        "",
        "python -m lingen_kit arena lingen/ dit/ --prompts prompts.txt",
        "needs people",
    )


def read_ablations(path: Path) -> dict[str, Any] | None:
    """Means and standard errors of every figure of every row of the ablations' leaderboard."""
    if not path.is_file():
        return None
    rows: dict[str, Any] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            if line["state"] not in ("complete", "baseline"):
                continue
            figures = {
                name.removesuffix(" standard error"): (float(line[name.removesuffix(" standard error")]), float(value))
                for name, value in line.items()
                if name.endswith(" standard error") and value
            }
            rows[line["row"]] = {"seeds": int(line["seeds"]), "parameters": int(float(line["parameters"])), **figures}
    return rows
