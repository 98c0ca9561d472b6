"""Training with videos that are split over ranks, through the real command line."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lingen_kit.checkpoint import read_checkpoint


def test_two_ranks_that_share_videos_train_what_one_rank_does(lingen: Callable, tiny: Path) -> None:
    """The same losses, the same weights but for the order of sums."""
    both = ["fit", "--config", str(tiny), "--data.validation_size", "4", "--model.denoiser.mixer", "MATE"]
    ranks = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--model.context_parallel", "2", "--name", "two"]
    ranks += ["--model.denoiser.checkpoint_every", "1"]  # blocks are computed again where the split has been left
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "lingen_kit", *both, *ranks]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=240)
    lingen(*both, "--name", "one")
    logged = {}
    for name in ("one", "two"):
        with Path(f"runs/{name}/version_0/metrics.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["name"].endswith("/loss")]
        logged[name] = {(row["step"], row["name"]): float(row["value"]) for row in rows}
    assert logged["two"] == pytest.approx(logged["one"], rel=1e-5)
    one, two = (read_checkpoint(f"runs/{name}/version_0/checkpoints/last.ckpt") for name in ("one", "two"))
    for key, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][key], value, rtol=1e-3, atol=1e-4)
