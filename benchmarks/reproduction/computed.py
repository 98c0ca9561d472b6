"""What follows from formulas, counters and printed tables: no time is measured."""

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import torch

from benchmarks.reproduction.setting import EXPERIMENTS, options_of
from eval.aggregation import custom_quality, quality, totals
from eval.leaderboard import leaderboard
from lingen_kit.analysis.adjacency import mean_distances
from lingen_kit.analysis.bench import on_meta
from lingen_kit.scans import Hilbert, Morton, RotaryMajor, Scan, Snake


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
    models = {name: options_of(f"paper/{name}_4b.yaml") for name in ("lingen", "dit")}
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
