"""Measure, or compute, what docs/reproduction.md says of the paper's claims.

    python -m benchmarks.reproduction.measure            # all parts: about 15 minutes on 2 idle cores
    python -m benchmarks.reproduction.measure scans      # one of them

Each part writes one JSON file into docs/results/reproduction, with the machine and the versions that gave it. Times are
medians of calls that take turns. What is trained (ablations, adaptation) is not measured here: see
experiments/ablations and adaptation.py.
"""

import argparse
import ctypes
import json
import math
import platform
import time
from collections.abc import Callable, Mapping
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import torch

from eval.aggregation import custom_quality, quality, totals
from eval.leaderboard import leaderboard
from lingen_kit.analysis.adjacency import mean_distances
from lingen_kit.analysis.bench import FixedText, Setup, device_name, make_call, on_meta, plan, video_of_grid
from lingen_kit.analysis.measure import medians, ratio, take_turns
from lingen_kit.config import build_pipeline, read_config
from lingen_kit.scans import Grid, Hilbert, Morton, RotaryMajor, Scan, Snake, Zigzag

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results" / "reproduction"
EXPERIMENTS = ROOT / "experiments"

SECONDS_17: Grid = (34, 32, 32)
"""Tokens of 512p videos of 17 seconds: 34,816."""

LENGTHS: list[Grid] = [(1, 8, 8), (1, 16, 16), *((frames, 32, 32) for frames in (1, 2, 4, 9, 17, 34, 68))]

ABLATION = ["ablations/base.yaml"]
VARIANTS = ["without_tesa", "without_rms", "zigzag", "mamba", "without_ma", "without_review", "hilbert"]
DIT = [*ABLATION, "ablations/dit_equal_parameters.yaml"]


def adjacency() -> dict[str, Any]:
    """Fig. 1 of the supplement: the mean over adjacent tokens of their least distance within k layers, in a 32-cube."""
    layers = [1, 2, 3, 4, 8]
    # Snake is the zigzag of the supplement's figure: one continuous line, its axes in the order of rotary-major's.
    scans: dict[str, Scan] = {
        "rotary-major": RotaryMajor(),
        "zigzag": Snake(),
        "hilbert": Hilbert(),
        "morton": Morton(),
    }
    return {
        "grid": [32, 32, 32],
        "layers": layers,
        **{
            pairs: {name: mean_distances(scan, (32, 32, 32), layers, pairs) for name, scan in scans.items()}
            for pairs in ("face", "cube")
        },
    }


def tables() -> dict[str, Any]:
    """Tables 1 to 4 of the supplement: each printed total against the one that follows from its own columns.

    `as_headed` is what follows for Quality if the columns are what the supplement's headers call them.
    """
    rows = []
    for suite in ("long", "standard", "custom"):
        for row in leaderboard(suite):
            if suite == "custom":
                made = {"quality_score": custom_quality(row.figures)}
            elif row.figures["object_class"] is None:  # printed without its semantic figures
                made = {"quality_score": quality(row.figures)}
            else:
                made = totals(row.figures)
            for name, value in made.items():
                printed = row.figures[name]
                if printed is not None:
                    rows.append(
                        {"table": row.table, "model": row.model, "total": name, "printed": printed, "made": value}
                    )
            if row.table in (1, 2) or row.model == "LinGen 256p":
                score = custom_quality if suite == "custom" else quality
                rows[-len(made)]["as_headed"] = score(_as_headed(row.figures))
    return {"rows": rows}


def _as_headed(figures: Mapping[str, float | None]) -> dict[str, float | None]:
    """Figures of eval/leaderboards.csv under the headers that the supplement prints above them."""
    headers = ("aesthetic_quality", "imaging_quality", "dynamic_degree")
    columns = ("dynamic_degree", "aesthetic_quality", "imaging_quality")
    return {**figures, **{header: figures[column] for header, column in zip(headers, columns, strict=True)}}


def flops() -> dict[str, Any]:
    """FLOPs of LinGen-4B against DiT-4B by formula, whole models and mixers alone, at the paper's sizes."""
    models = {name: _options(f"paper/{name}_4b.yaml") for name in ("lingen", "dit")}
    pipelines = {name: on_meta(options) for name, options in models.items()}
    rows = []
    for (height, width), frames in product(((16, 16), (32, 32), (32, 56)), (34, 68, 136)):
        grid = (frames, height, width)
        denoisers = {name: pipeline.denoiser for name, pipeline in pipelines.items()}
        latents = tuple(n * patch for n, patch in zip(grid, denoisers["dit"].patch, strict=True))
        whole = {name: d.flops(latents, 256) for name, d in denoisers.items()}
        mixer = {name: sum(b.mixer.flops(grid) for b in d.blocks) for name, d in denoisers.items()}
        branch = sum(b.mixer.ma.flops(grid) for b in denoisers["lingen"].blocks)
        rows.append(
            {"grid": list(grid), "tokens": frames * height * width, "whole": whole, "mixer": mixer, "ma": branch}
        )
    parameters = {name: sum(p.numel() for p in pipeline.denoiser.parameters()) for name, pipeline in pipelines.items()}
    return {"parameters": parameters, "rows": rows}


@torch.no_grad()
def equations() -> dict[str, Any]:
    """Eq. 1 to 3 against PyTorch's counter on the kit's own modules: one layer of width 256 over 512 tokens.

    The counter sees matrix products and convolutions. Of the recurrence of Eq. 3 that is the product with C; the other
    half of the first term writes to the state, element by element. The kit's chunks do all of it by products.
    """
    from torch.utils.flop_counter import FlopCounterMode

    from lingen_kit.mixers import Mamba2
    from lingen_kit.ops.conv import causal_conv1d
    from lingen_kit.ops.naive.ssd import mamba_chunk_scan_combined as recurrence
    from lingen_kit.ops.ssd import mamba_chunk_scan_combined as chunks

    d, n = 256, 512
    layer = Mamba2(d, 0, bidirectional=True)
    e, k, state, heads = layer.inner // d, layer.conv_size, layer.state_size, layer.heads

    def counted(call: Callable[[], object]) -> int:
        with FlopCounterMode(display=False) as counter:
            call()
        return counter.get_total_flops()

    tokens, inner = torch.randn(1, n, d), torch.randn(1, n, layer.inner)
    taps = layer.conv1d.weight.squeeze(1)[: layer.inner]
    b, c = torch.randn(2, 1, n, 1, state)
    read = inner.unflatten(-1, (heads, -1)), torch.rand(1, n, heads), -torch.rand(heads), b, c
    return {
        "tokens": n,
        "dim": d,
        "rows": [
            {
                "equation": "Eq. 1, its explicit terms",
                "formula": 6 * e * n * d**2 + 2 * heads * n * d + 4 * n * state * d,  # E d / d_h is the number of heads
                "counted": counted(lambda: (layer.in_proj(tokens), layer.out_proj(inner))),
            },
            {
                "equation": "Eq. 2",
                "formula": 2 * e * k * (n + k - 1) * d,
                "counted": counted(lambda: causal_conv1d(inner, taps)),
            },
            {
                "equation": "Eq. 3, reading the state: half of its first term",
                "formula": 2 * e * n * state * d,
                "counted": counted(lambda: recurrence(*read)),
                "in_chunks": counted(lambda: chunks(*read, chunk_size=256, backend="torch")),
            },
        ],
    }


def schedule() -> dict[str, Any]:
    """Table 5: what each stage takes on H100s at an assumed rate, and the rate that the paper's days mean."""
    from lingen_kit.analysis.devices import find_device
    from lingen_kit.analysis.memory import Activations
    from lingen_kit.analysis.plan import plan_stage
    from lingen_kit.commands.plan import read_training
    from lingen_kit.stages import read_stages

    rows, activations = [], Activations()
    for stage in read_stages([f"--config={EXPERIMENTS / 'paper/lingen_4b.yaml'}"]) or []:
        task, training = read_training(stage.words, stage.name, stage.paper_h100_days, gpu=True)
        planned = plan_stage(task, training, find_device("H100"), mfu=0.4, shards=8, activations=activations)
        rows.append(
            {
                "stage": stage.name,
                "steps": training.steps,
                "paper_days": stage.paper_h100_days,
                "days": planned.gpu_days,
                "paper_mfu": planned.paper_mfu,
            }
        )
    return {"mfu": 0.4, "rows": rows}


@torch.no_grad()
def scans() -> dict[str, Any]:
    """What it costs to bring 34,816 tokens into a scan's order and back, in three readings, mean over four layers.

    `as views`: without copies where the order allows it, which is all that rotary-major asks for, and less than any
    kernel here can read. `alone`: what the scan itself does. `in memory`: until tokens lie one behind the other, as
    kernels want to read them, on the way out and on the way back.
    """
    dim, layers = 128, range(4)
    x, sequence = torch.randn(1, *SECONDS_17, dim), torch.randn(1, 34 * 32 * 32, dim)
    kinds: dict[str, Scan] = {"rotary-major": RotaryMajor(), "zigzag": Zigzag(), "hilbert": Hilbert()}

    def alone(scan: Scan) -> None:
        for layer in layers:
            scan.unflatten(scan.flatten(x, layer), SECONDS_17, layer)

    def in_memory(scan: Scan) -> None:
        for layer in layers:
            scan.flatten(x, layer).contiguous()
            scan.unflatten(sequence, SECONDS_17, layer).contiguous()

    rotary = RotaryMajor()

    def as_views() -> None:
        for layer in layers:
            x.permute(0, *(axis + 1 for axis in rotary.axes(layer)), 4)
            rotary.unflatten(sequence, SECONDS_17, layer)

    zigzag = Zigzag()
    order = [(zigzag.index(SECONDS_17, layer), zigzag.index(SECONDS_17, layer).argsort()) for layer in layers]
    channels_first = torch.randn(1, 4 * dim, 34 * 32 * 32)

    def as_published() -> None:  # ZigMa indexes the projected tokens, channels first, and the output
        for index, inverse in order:
            channels_first[:, :, index].contiguous()
            sequence[:, inverse, :].contiguous()

    calls: dict[str, Callable[[], object]] = {"rotary-major as views": as_views, "zigzag as published": as_published}
    for name, scan in kinds.items():
        calls[f"{name} alone"] = lambda scan=scan: alone(scan)
        calls[f"{name} in memory"] = lambda scan=scan: in_memory(scan)
    seconds = take_turns(calls, 15)
    base = {reading: f"rotary-major {reading}" for reading in ("as views", "alone", "in memory")}
    # An index has no view: zigzag's least is what its scan does.
    gathers = {"as views": "alone", "alone": "alone", "in memory": "in memory"}
    return {
        "tokens": 34 * 32 * 32,
        "dim": dim,
        "seconds": {name: value / len(layers) for name, value in medians(seconds).items()},
        "ratios": {
            reading: {
                name: ratio(seconds, f"{name} {gathers[reading]}", base[reading]) for name in ("zigzag", "hilbert")
            }
            | {"zigzag as published": ratio(seconds, "zigzag as published", base[reading])}
            for reading in base
        },
    }


def variants() -> dict[str, Any]:
    """Table 2 of the paper: latency of a pass at 34,816 tokens with one part changed, beside the default."""
    calls = {"default": _forward(ABLATION, SECONDS_17)}
    calls |= {name: _forward([*ABLATION, f"ablations/{name}.yaml"], SECONDS_17) for name in VARIANTS}
    seconds = take_turns(calls, 5, warmup=1)
    return {
        "tokens": 34 * 32 * 32,
        "seconds": medians(seconds),
        "ratios": {name: ratio(seconds, name, "default") for name in calls},
        "paper": {  # seconds of 512p, 17 s: Table 2 of the paper
            "default": 102,
            "without_tesa": 94,
            "without_rms": 99,
            "zigzag": 144,
            "mamba": 127,
            "without_ma": 65,
            "without_review": 98,
        },
    }


def lengths() -> dict[str, Any]:
    """Latency of a pass over the number of tokens: LinGen against DiT of equal parameters, in turns at every length.

    At the longest, where DiT takes up to minutes, it is called once, between LinGen's calls.
    """
    _keep_memory()
    rows = []
    for grid in LENGTHS:
        tokens = math.prod(grid)
        calls = {"lingen": _forward(ABLATION, grid), "dit": _forward(DIT, grid)}
        if tokens < 20_000:
            seconds = _own_seconds(calls, 5)
        else:
            lingen = {"lingen": calls.pop("lingen")}
            before, seconds = _own_seconds(lingen, 3), _own_seconds(calls, 1, warmup=0)
            seconds["lingen"] = before["lingen"] + _own_seconds(lingen, 3)["lingen"]
        row = {"tokens": tokens, "calls": {name: len(values) for name, values in seconds.items()}}
        rows.append({**row, **medians(seconds)})
        print(rows[-1], flush=True)
    return {"rows": rows, "clock": _clock()[1]}


def sizes() -> dict[str, Any]:
    """Fig. 9: latency of a pass over the size of the model, at 8,704 tokens."""
    grid, rows = (34, 16, 16), []
    for dim, depth in ((32, 2), (64, 4), (128, 4), (192, 6), (256, 8)):
        changes = [f"--model.denoiser.dim={dim}", f"--model.denoiser.depth={depth}"]
        made = {"lingen": _point(ABLATION, grid, changes), "dit": _point(DIT, grid, changes)}
        calls = {name: _call(point, setup) for name, (point, setup) in made.items()}
        seconds = _own_seconds(calls, 3)
        parameters = {name: point.parameters for name, (point, _) in made.items()}
        rows.append({"dim": dim, "depth": depth, "parameters": parameters, "seconds": medians(seconds)})
        print(rows[-1], flush=True)
    return {"tokens": 34 * 16 * 16, "rows": rows, "clock": _clock()[1]}


def _clock() -> tuple[Callable[[], float], str]:
    """The processor's own time where one thread works: over minutes others take their turns on the core."""
    if torch.get_num_threads() == 1:
        return time.process_time, "processor time of one thread"
    return time.perf_counter, "wall clock"


def _keep_memory() -> None:
    """Have glibc keep what is freed for the next call, as the CUDA allocator does.

    Else every call of a long sequence gets its memory from the system anew, page by page: a seventh of LinGen's time
    at 69,632 tokens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            mallopt(parameter, 2**31 - 1)


def _own_seconds(calls: Mapping[str, Callable[[], object]], repeats: int, warmup: int = 1) -> dict[str, list[float]]:
    """Seconds of each call, in turns, by `_clock`."""
    return take_turns(calls, repeats, warmup=warmup, clock=_clock()[0])


def _options(*files: str, changes: list[str] | None = None) -> dict[str, Any]:
    return read_config([EXPERIMENTS / file for file in files], changes or [])


def _point(files: list[str], grid: Grid, changes: list[str] | None = None) -> tuple[Any, Setup]:
    options = _options(*files, changes=changes)
    setup = Setup(threads=torch.get_num_threads(), text_tokens=32)
    return plan("", "", options, video_of_grid(options, grid), setup), setup


def _call(point: Any, setup: Setup) -> Callable[[], object]:
    torch.manual_seed(0)
    pipeline = build_pipeline(point.options)
    pipeline.text_encoder = FixedText(pipeline.text_encoder.dim, setup.text_tokens)
    return make_call(pipeline, point, setup, point.latents, "forward")


def _forward(files: list[str], grid: Grid) -> Callable[[], object]:
    return _call(*_point(files, grid))


PARTS = {
    part.__name__: part for part in (adjacency, tables, flops, equations, schedule, scans, variants, lengths, sizes)
}


def made(threads: str) -> dict[str, Any]:
    """What results were made with: the machine, with so many threads, versions and the day."""
    return {
        "machine": f"{device_name('cpu')}, {threads}, {platform.system()}",
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "date": date.today().isoformat(),
    }


def main() -> None:
    """Run the parts that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; choose out of {', '.join(PARTS)}")
    torch.set_num_threads(arguments.threads)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in arguments.parts or PARTS:
        print(name, flush=True)
        content = {"made": made(f"{arguments.threads} threads"), **PARTS[name]()}
        (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
