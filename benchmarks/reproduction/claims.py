"""The paper's claims, and what follows for each from the shipped results: a number, a rule, a verdict.

Nothing is judged by hand: a verdict is what the rule in the code says of the numbers in docs/results.
"""

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lingen_kit.analysis.scaling import crossings, fit_power_law
from lingen_kit.search.proxy import kendall_tau

Verdict = Literal[
    "reproduced", "reproduced in shape", "not reproduced", "needs hardware", "needs people", "not measured"
]
Results = dict[str, Any]

FASTER = 10
"""Times that rotary-major's rearrangement must be cheaper than zigzag's: 15 in the paper's Table 2."""

LINEAR, QUADRATIC = 1.05, 1.6
"""Greatest exponent of latency over tokens for LinGen, least for DiT."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and what became of it here.

    Attributes:
        source: Where the paper has it.
        claimed: What it says.
        measured: What was measured or computed here.
        on: What it was measured on.
        command: What measures it again.
        verdict: What the rule says.
        picture: A plot of it, in docs/images/reproduction.
    """

    source: str
    claimed: str
    measured: str
    on: str
    command: str
    verdict: Verdict
    picture: str | None = None


MEASURE = "python -m benchmarks.reproduction.measure"
ABLATIONS = "python -m lingen_kit search --config experiments/ablations/grid.yaml --name ablations"


def claims(results: Results) -> list[Claim]:
    """All claims, in the order of the paper. `results` holds the JSON of every part, None where there is none."""
    return [make(results) for make in _CLAIMS]


def _adjacency(results: Results) -> Claim:
    found = results["adjacency"]

    def gap(pairs: str) -> float:
        curves = found[pairs]
        return max(abs(a - b) for a, b in zip(curves["rotary-major"], curves["zigzag"], strict=True))

    agree = [gap(pairs) < 0.005 for pairs in ("face", "cube")]
    face, cube = found["face"]["rotary-major"], found["cube"]
    at = found["layers"].index(4)
    verdict: Verdict = ("not reproduced", "reproduced in shape", "reproduced")[sum(agree)]
    return Claim(
        "supplement, Sec. A, Fig. 1",
        "rotary-major scan has the same d_k as zigzag (32 x 32 x 32 tokens)",
        f"the same to two decimals if adjacent means sharing a face: {', '.join(f'{d:.2f}' for d in face[:3])} for "
        "k = 1, 2, 3. "
        f"Over all pairs of a 2x2x2 cube, not: {cube['rotary-major'][at]:.1f} against {cube['zigzag'][at]:.1f} for "
        "k = 4",
        "computed",
        f"{MEASURE} adjacency",
        verdict,
        "adjacency.png",
    )


def _tables(results: Results) -> Claim:
    rows = results["tables"]["rows"]
    worst = max(rows, key=lambda row: abs(row["printed"] - row["made"]))
    off = 100 * abs(worst["printed"] - worst["made"])
    return Claim(
        "supplement, Tables 1 to 4",
        "Quality, Semantic and Total Scores of 28 rows on VBench, VBench-Long and VBench-Custom",
        f"the arithmetic: {len(rows)} printed totals follow from their own columns to {off:.3f} points (the "
        "furthest is "
        f"{worst['model']}, Table {worst['table']}), once the last three quality columns of Tables 1 and 2 are put "
        "under their "
        "right headers. The figures themselves need the trained model and VBench's networks",
        "computed",
        f"{MEASURE} tables",
        "reproduced in shape" if off < 0.02 else "not reproduced",
    )


def _equations(results: Results) -> Claim:
    found = results["flops"]["projections"]
    exact = found["equation"] == found["counted"]
    return Claim(
        "supplement, Eq. 1 to 3",
        "FLOPs of a bidirectional Mamba2 layer: its projections, convolution and state space model",
        f"Eq. 1 gives {found['equation']:,} for the projections of a layer of width 256 over 1,024 tokens, a "
        "counter on the "
        f"module {found['counted']:,}. Eq. 2 and 3 are the formulas that `plan` and `bench` use, tested against "
        "counted ones",
        "computed",
        f"{MEASURE} flops",
        "reproduced" if exact else "not reproduced",
    )


def _flops(results: Results) -> Claim:
    rows = results["flops"]["rows"]
    minute = [row for row in rows if row["grid"][0] == 136 and row["grid"][1] >= 32]

    def best(what: str) -> float:
        return max(row[what]["dit"] / row[what]["lingen"] for row in minute)

    short = rows[0]["whole"]["dit"] / rows[0]["whole"]["lingen"]
    whole, mixer = best("whole"), best("mixer")
    verdict: Verdict = "reproduced" if whole >= 15 else "reproduced in shape" if mixer >= 15 else "not reproduced"
    return Claim(
        "main paper, abstract",
        "up to 15x fewer FLOPs than DiT at 512p, 68 s",
        f"whole model {whole:.1f}x, mixers alone {mixer:.1f}x at 512 x 896; at 256p, 17 s {short:.2f}x: no saving. "
        "Review pooling, "
        "window and wiring are our reading",
        "computed by formula at 4 billion parameters",
        f"{MEASURE} flops",
        verdict,
        "flops.png",
    )


def _latency(results: Results) -> Claim:
    return Claim(
        "main paper, abstract",
        "11.5x less latency than DiT at 512p, 68 s (139,264 tokens), on an H100",
        "LinGen-4B grows as tokens^0.99, but in plain torch DiT-4B was the faster one at all sizes measured, 8,704 "
        "to 69,632 "
        "tokens; 139,264 were not measured",
        "H100, docs/results/gpu-nvidia-h100-80gb-hbm3",
        "make gpu-report",
        "needs hardware",
    )


def _lengths(results: Results) -> Claim:
    claimed = "LinGen's cost is linear in the number of tokens, DiT's quadratic"
    command = f"{MEASURE} lengths"
    found = results.get("lengths")
    if found is None:
        return Claim("main paper", claimed, "", "", command, "not measured")
    rows = [row for row in found["rows"] if row["tokens"] >= 4096]
    lingen, dit = ([(row["tokens"], row[name]) for row in rows] for name in ("lingen", "dit"))
    a, b = fit_power_law(lingen).exponent, fit_power_law(dit).exponent
    every = [[(row["tokens"], row[name]) for row in found["rows"]] for name in ("lingen", "dit")]
    crossing = next((c.size for c in crossings(*every) if c.first_is_cheaper_after), None)
    last = found["rows"][-1]
    linear = a <= LINEAR and b >= QUADRATIC and crossing is not None
    below = (
        f"LinGen is the faster one from {crossing:,.0f} tokens on" if crossing else "LinGen is nowhere the faster one"
    )
    return Claim(
        "main paper",
        claimed,
        f"latency grows as tokens^{a:.2f} against tokens^{b:.2f} from 4,096 tokens on; {below}, "
        f"{last['dit'] / last['lingen']:.1f}x at "
        f"{last['tokens']:,}",
        f"a pair of 0.7 million parameters, {found['made']['machine']}",
        command,
        "reproduced in shape" if linear else "not reproduced",
        "lengths.png",
    )


def _scans(results: Results) -> Claim:
    claimed = (
        "rotary-major's rearrangement costs 15 times less than zigzag's (34,816 tokens: 3 s against 45 s of a sample)"
    )
    command, found = f"{MEASURE} scans", results.get("scans")
    if found is None:
        return Claim("main paper, Table 2", claimed, "", "", command, "not measured")
    ratios = found["ratios"]
    alone, in_memory = ratios["alone"]["zigzag"], ratios["in memory"]["zigzag"]
    published = ratios["in memory"]["zigzag as published"]
    verdict: Verdict = (
        "reproduced"
        if in_memory >= FASTER
        else "reproduced in shape"
        if max(alone, published) >= FASTER
        else "not reproduced"
    )
    return Claim(
        "main paper, Table 2",
        claimed,
        f"{alone:.1f}x less by what the scan itself does, {in_memory:.1f}x less until tokens lie in order in "
        "memory, with this kit's "
        f"own gather for zigzag; {published:.1f}x less than zigzag gathered as ZigMa's code does it",
        f"width {found['dim']}, fp32, {found['made']['machine']}",
        command,
        verdict,
    )


def _variants(results: Results) -> Claim:
    claimed = (
        "512p, 17 s: 102 s; w/o TESA 94, w/o rotary-major 99, with zigzag 144, with Mamba 127, w/o MA branch 65, "
        "w/o review 98"
    )
    command, found = f"{MEASURE} variants", results.get("variants")
    if found is None:
        return Claim("main paper, Table 2", claimed, "", "", command, "not measured")
    names = [name for name in found["paper"] if name != "default"]
    ours, theirs = [found["ratios"][n] for n in names], [found["paper"][n] / found["paper"]["default"] for n in names]
    tau = kendall_tau(ours, theirs)
    worst = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    told = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in zip(names, ours, strict=True))
    verdict: Verdict = "reproduced" if worst <= 0.05 else "reproduced in shape" if tau >= 0.6 else "not reproduced"
    return Claim(
        "main paper, Table 2",
        claimed,
        f"as multiples of the default's latency: {told}. Kendall's tau with the paper's order {tau:.2f}",
        f"0.7 million parameters, 34,816 tokens, {found['made']['machine']}",
        command,
        verdict,
        "variants.png",
    )


def _sizes(results: Results) -> Claim:
    claimed = "LinGen's latency grows more slowly with the size of the model than DiT's"
    command, found = f"{MEASURE} sizes", results.get("sizes")
    if found is None:
        return Claim("supplement, Fig. 9", claimed, "", "", command, "not measured")
    first, last = found["rows"][0], found["rows"][-1]

    def slope(name: str) -> float:
        more = last["parameters"][name] - first["parameters"][name]
        return (last["seconds"][name] - first["seconds"][name]) / more * 1e6

    lingen, dit = slope("lingen"), slope("dit")
    return Claim(
        "supplement, Fig. 9",
        claimed,
        f"{lingen:.2f} s more for a million parameters more, against {dit:.2f} s, at {found['tokens']:,} tokens",
        f"{first['parameters']['lingen'] / 1e6:.1f} to {last['parameters']['lingen'] / 1e6:.1f} million parameters, "
        f"{found['made']['machine']}",
        command,
        "reproduced in shape" if lingen < dit else "not reproduced",
        "sizes.png",
    )


def _ablation(results: Results) -> Claim:
    claimed = "loss at 256p: without both TESA and rotary-major is the worst; rotary-major about equals zigzag"
    rows = results.get("ablations")
    needed = ("lingen", "without_tesa", "without_rms", "without_both", "zigzag")
    if rows is None or any(name not in rows for name in needed):
        return Claim("main paper, Fig. 11", claimed, "", "", ABLATIONS, "not measured")
    loss = {name: rows[name]["validation/loss"] for name in needed}
    told = ", ".join(f"{name.replace('_', ' ')} {mean:.4f} ± {error:.4f}" for name, (mean, error) in loss.items())
    four = ("lingen", "without_tesa", "without_rms")
    worst = all(_above(loss["without_both"], loss[name]) for name in four)
    equal = not _above(loss["zigzag"], loss["lingen"]) and not _above(loss["lingen"], loss["zigzag"])
    highest = all(loss["without_both"][0] > loss[name][0] for name in four)
    verdict: Verdict = "reproduced in shape" if worst and equal else "not reproduced"
    clear = "clearly" if worst else "not clearly" if highest else "not"
    return Claim(
        "main paper, Fig. 11",
        claimed,
        f"{told} (mean and standard error of {rows['lingen']['seeds']} seeds). Without both is {clear} the worst; "
        f"zigzag and rotary-major {'cannot be told apart' if equal else 'differ'}",
        rows["lingen"]["on"],
        ABLATIONS,
        verdict,
        "ablations.png",
    )


def _recipe(
    name: str, other: str, claimed: str, figure: str, better: Callable[..., bool]
) -> Callable[[Results], Claim]:
    def make(results: Results) -> Claim:
        rows = results.get("ablations")
        if rows is None or name not in rows or other not in rows:
            return Claim("supplement, Sec. D, E.3", claimed, "", "", ABLATIONS, "not measured")
        ours, base = rows[name][figure], rows[other][figure]
        clear = _above(ours, base) if better is _above else _above(base, ours)
        name_of = figure.rpartition("/")[2].replace("_", " ")
        told = f"{name_of} {ours[0]:.3f} ± {ours[1]:.3f} with, {base[0]:.3f} ± {base[1]:.3f} without"
        verdict: Verdict = "reproduced in shape" if clear else "not reproduced"
        return Claim(
            "supplement, Sec. D, E.3",
            claimed,
            f"{told} ({rows[name]['seeds']} seeds)",
            rows[name]["on"],
            ABLATIONS,
            verdict,
        )

    return make


def _above(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether a mean is above another by more than twice the standard error of their difference."""
    return a[0] - b[0] > 2 * math.hypot(a[1], b[1])


def _adaptation(results: Results) -> Claim:
    claimed = "LinGen adapts faster than DiT from 256p to 512p"
    command, found = "python -m benchmarks.reproduction.adaptation", results.get("adaptation")
    if found is None:
        return Claim("main paper, Fig. 10", claimed, "", "", command, "not measured")
    gain = {name: found[name]["gain"] for name in ("lingen", "dit")}
    told = ", ".join(f"{name} {mean:.4f} ± {error:.4f}" for name, (mean, error) in gain.items())
    verdict: Verdict = "reproduced in shape" if _above(gain["lingen"], gain["dit"]) else "not reproduced"
    return Claim(
        "main paper, Fig. 10",
        claimed,
        f"loss that {found['steps']} steps at twice the height and width take off: {told} ({found['seeds']} seeds)",
        f"{found['on']}, {found['made']['machine']}",
        command,
        verdict,
        "adaptation.png",
    )


def _schedule(results: Results) -> Claim:
    rows = [row for row in results["schedule"]["rows"] if row["paper_days"]]
    rates = [row["paper_mfu"] for row in rows]
    told = ", ".join(f"{row['stage'].replace('_', ' ')} {row['paper_mfu']:.0%}" for row in rows)
    return Claim(
        "supplement, Table 5",
        f"five stages, {sum(row['paper_days'] for row in rows):,} H100-days",
        "the recipe runs, in miniature, from images to quality tuning. By FLOPs, the paper's days mean these "
        "shares of an H100's "
        f"rate: {told}: {'plausible' if all(0.03 < rate < 0.6 for rate in rates) else 'implausible'} for all stages",
        "computed by formula",
        "python -m lingen_kit plan --config experiments/paper/lingen_4b.yaml --shards 8",
        "needs hardware",
    )


def _people(results: Results) -> Claim:
    return Claim(
        "main paper; supplement, Fig. 8",
        "people prefer LinGen's videos to DiT's in 75.6% of the comparisons, and to open models' by a large margin",
        "nothing. `arena` asks people, blind and in random order, and computes win rates; simulated raters are no "
        "evidence",
        "",
        "python -m lingen_kit arena lingen/ dit/ --prompts prompts.txt",
        "needs people",
    )


def _resolutions(results: Results) -> Claim:
    rows = {row["model"]: row for row in results["tables"]["rows"] if row["table"] == 4}
    low, high = (next((row for name, row in rows.items() if size in name), None) for size in ("256p", "512p"))
    told = (
        f"the printed scores follow from their columns: {high['made']:.2%} and {low['made']:.2%}"
        if low and high
        else ""
    )
    return Claim(
        "supplement, Table 4",
        "512p and 256p videos have nearly the same VBench-Custom score, while 88.4% of people prefer 512p",
        told,
        "computed",
        f"{MEASURE} tables",
        "needs people",
    )


_CLAIMS: list[Callable[[Results], Claim]] = [
    _adjacency,
    _equations,
    _flops,
    _latency,
    _lengths,
    _scans,
    _variants,
    _sizes,
    _ablation,
    _adaptation,
    _recipe(
        "hybrid_images",
        "lingen",
        "images among the videos improve consistency",
        "shapebench/subject_consistency",
        _above,
    ),
    _recipe(
        "quality_tuning",
        "mixed_world",
        "tuning on a few chosen clips at the end makes better videos",
        "shapebench/overall_consistency",
        _above,
    ),
    _schedule,
    _tables,
    _resolutions,
    _people,
]


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
