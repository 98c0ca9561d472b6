"""Fig. 10 of the paper in miniature: who adapts faster to twice the height and width, LinGen or DiT?

    python -m benchmarks.reproduction.adaptation runs/search/ablations     # about 8 minutes on one core

Starts from the trained models of the ablation grid: LinGen, and DiT with its parameters, each with every seed. Both
go on at 64 x 64 pixels, four times the tokens, for a few steps; what counts is how far the validation loss there falls.
"""

import argparse
import json
import math
import platform
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path

import torch

from benchmarks.reproduction.measure import EXPERIMENTS, RESULTS
from lingen_kit.analysis.bench import device_name
from lingen_kit.search.records import folder_of, read_metrics, read_records
from lingen_kit.search.training import run_folder

STEPS, EVERY, SIZE = 64, 8, 64
ROWS = {"lingen": "lingen", "dit": "dit_equal_parameters"}
FIGURE = "validation/loss"


def adapt(row: str, checkpoint: Path, seed: str) -> list[tuple[int, float]]:
    """Go on from a checkpoint at the larger size; steps and validation losses there."""
    name = f"adaptation_{row}_{seed}"
    configs = [EXPERIMENTS / "ablations" / "base.yaml"]
    if row != "lingen":
        configs.append(EXPERIMENTS / "ablations" / f"{row}.yaml")
    words = [f"--config={path}" for path in configs]
    words += [f"--start_from={checkpoint}", f"--name={name}", f"--seed_everything={seed}"]
    words += [f"--data.height={SIZE}", f"--data.width={SIZE}", "--data.batch_size=4", "--data.validation_size=32"]
    words += [f"--trainer.max_steps={STEPS}", f"--trainer.val_check_interval={EVERY}", "--model.warmup_steps=4"]
    words += ["--model.optimizer.lr=1.0e-3"]
    subprocess.run([sys.executable, "-m", "lingen_kit", "fit", *words], check=True)
    version = max(Path("runs", name).glob("version_*"), key=lambda path: int(path.name.removeprefix("version_")))
    return read_metrics(version / "metrics.csv")[FIGURE]


def main() -> None:
    """Adapt every seed of both models, and write what their losses did."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study", type=Path, help="folder of the ablation grid, runs/search/ablations")
    study: Path = parser.parse_args().study
    records = {record.params["row"]: record for record in read_records(study)}
    content: dict[str, object] = {
        "made": {
            "machine": f"{device_name('cpu')}, {torch.get_num_threads()} threads, {platform.system()}",
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
            "date": date.today().isoformat(),
        },
        "steps": STEPS - EVERY,
        "on": f"0.7 million parameters, from 32 x 32 to {SIZE} x {SIZE} pixels",
    }
    for model, row in ROWS.items():
        curves = []
        for seed in records[row].results:
            folder = run_folder(folder_of(study, records[row].number), f"seed_{seed}")
            curves.append(adapt(row, folder / "checkpoints" / "last.ckpt", seed))
        gains = [curve[0][1] - curve[-1][1] for curve in curves]
        content["seeds"], content["curve"] = len(curves), [step + 1 for step, _ in curves[0]]
        content[model] = {
            "gain": [statistics.fmean(gains), statistics.stdev(gains) / math.sqrt(len(gains))],
            "curve": [statistics.fmean(point[1] for point in points) for points in zip(*curves, strict=True)],
        }
    (RESULTS / "adaptation.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
