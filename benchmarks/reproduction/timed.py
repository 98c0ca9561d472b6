"""What takes time: scans, one part of a model changed, lengths, sizes; medians of calls that take turns."""

import ctypes
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.reproduction.setting import options_of
from lingen_kit.analysis.bench import FixedText, Setup, make_call, plan, video_of_grid
from lingen_kit.analysis.measure import medians, ratio, take_turns
from lingen_kit.config import build_pipeline
from lingen_kit.scans import Grid, Hilbert, RotaryMajor, Scan, Zigzag

SECONDS_17: Grid = (34, 32, 32)
"""Tokens of 512p videos of 17 seconds: 34,816."""

LENGTHS: list[Grid] = [(1, 8, 8), (1, 16, 16), *((frames, 32, 32) for frames in (1, 2, 4, 9, 17, 34, 68))]

ABLATION = ["ablations/base.yaml"]

VARIANTS = ["without_tesa", "without_rms", "zigzag", "mamba", "without_ma", "without_review", "hilbert"]

DIT = [*ABLATION, "ablations/dit_equal_parameters.yaml"]


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


def _point(files: list[str], grid: Grid, changes: list[str] | None = None) -> tuple[Any, Setup]:
    options = options_of(*files, changes=changes)
    setup = Setup(threads=torch.get_num_threads(), text_tokens=32)
    return plan("", "", options, video_of_grid(options, grid), setup), setup


def _call(point: Any, setup: Setup) -> Callable[[], object]:
    torch.manual_seed(0)
    pipeline = build_pipeline(point.options)
    pipeline.text_encoder = FixedText(pipeline.text_encoder.dim, setup.text_tokens)
    return make_call(pipeline, point, setup, point.latents, "forward")


def _forward(files: list[str], grid: Grid) -> Callable[[], object]:
    return _call(*_point(files, grid))
