"""Fig. 10 of the paper in miniature: who adapts faster to twice the height and width, LinGen or DiT?

    python -m benchmarks.reproduction.adaptation runs/search/ablations     # about 8 minutes on one core

Starts from the trained models of the ablation grid: LinGen, and DiT with its parameters, each with every seed. Both
go on at 64 x 64 pixels, four times the tokens, for a few steps. What counts is `excess`: the mean of the validation
loss over all looks, from step 0 on, in multiples of the loss before. How far it falls would not do: a model that
carries more over, or has adapted by the first look, has less to fall.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.reproduction.setting import EXPERIMENTS, RESULTS, made
from lingen_kit import runs
from lingen_kit.search.records import folder_of, read_metrics, read_records
from lingen_kit.search.training import run_folder

STEPS, EVERY, SIZE = 64, 8, 64
ROWS = {"lingen": "lingen", "dit": "dit_equal_parameters"}
FIGURE = "validation/loss"
SHORT_AVERAGE = "--ema.decay=0.9"  # the base's would still be half the old weights at the end
RATE, NO_RATE = "--model.optimizer.lr=1.0e-3", "--model.optimizer.lr=1.0e-12"


def adapt(row: str, checkpoint: Path, seed: str) -> list[tuple[int, float]]:
    """Go on from a checkpoint at the larger size; steps and validation losses there."""
    name = f"adaptation_{row}_{seed}"
    configs = [EXPERIMENTS / "ablations" / "base.yaml"]
    if row != "lingen":
        configs.append(EXPERIMENTS / "ablations" / f"{row}.yaml")
    words = [f"--config={path}" for path in configs]
    words += [f"--start_from={checkpoint}", f"--seed_everything={seed}"]
    words += [f"--data.height={SIZE}", f"--data.width={SIZE}", "--data.batch_size=4", "--data.validation_size=32"]
    words += [f"--trainer.max_steps={STEPS}", f"--trainer.val_check_interval={EVERY}", "--model.warmup_steps=4"]
    words += [RATE, SHORT_AVERAGE]
    # Lightning takes its first look after a step: for step 0, one that changes nothing.
    untouched = _fit(f"{name}_untouched", [*words, "--trainer.max_steps=1", "--trainer.val_check_interval=1", NO_RATE])
    return [(0, untouched[-1][1]), *((step + 1, loss) for step, loss in _fit(name, words))]


def _fit(name: str, words: list[str]) -> list[tuple[int, float]]:
    """Train; the steps before the looks, counted from 0, and the losses."""
    subprocess.run([sys.executable, "-m", "lingen_kit", "fit", *words, f"--name={name}"], check=True)
    return read_metrics(runs.folder(name, runs.versions(name)[-1]) / "metrics.csv")[FIGURE]


def main() -> None:
    """Adapt every seed of both models, and write what their losses did."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study", type=Path, help="folder of the ablation grid, runs/search/ablations")
    study: Path = parser.parse_args().study
    records = {record.params["row"]: record for record in read_records(study)}
    content: dict[str, object] = {
        "made": made(f"{torch.get_num_threads()} threads"),
        "steps": STEPS,
        "on": f"0.7 million parameters, from 32 x 32 to {SIZE} x {SIZE} pixels",
    }
    for model, row in ROWS.items():
        curves, before = [], []
        for seed in records[row].results:
            folder = run_folder(folder_of(study, records[row].number), f"seed_{seed}")
            before.append(read_metrics(folder / "metrics.csv")[FIGURE][-1][1])
            curves.append(adapt(row, folder / "checkpoints" / "last.ckpt", seed))
        excess = [statistics.fmean(y for _, y in curve) / loss for curve, loss in zip(curves, before, strict=True)]
        content["seeds"], content["curve"] = len(curves), [step for step, _ in curves[0]]
        content[model] = {
            "before": before,
            "losses": [[loss for _, loss in curve] for curve in curves],
            "excess": excess,
            "curve": [statistics.fmean(point[1] for point in points) for points in zip(*curves, strict=True)],
        }
    (RESULTS / "adaptation.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
