"""What `fit` costs beside a bare PyTorch loop over the same model, data and optimizer.

    python benchmarks/trainer.py              # about two minutes on 2 idle cores
    python benchmarks/trainer.py --blocks 3   # a first look

The real command trains experiments/quickstart.yaml with all that it does at each step: the average of the weights,
logging, progress, seeded noise. After every few of its steps the bare loop takes as many on a copy of the model, so
that a slow spell of the machine hits both. Medians of steps; checkpoints and validation stay out of both.
"""

import argparse
import os
import statistics
import tempfile
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn.utils import clip_grad_norm_

from lingen_kit.data.loader import TrainingLoader
from lingen_kit.data.sampler import Schedule

CONFIG = Path(__file__).parents[1] / "experiments" / "quickstart.yaml"
BLOCK, WARM_UP = 20, 2  # steps of each in turn; steps of a turn that do not count


class TakeTurns(Callback):
    """After each block of the trainer's steps, runs as many in a bare loop, and keeps the seconds of both."""

    def __init__(self) -> None:
        """Nothing is timed yet."""
        self.fit: list[float] = []
        self.bare: list[float] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy what is trained before it changes."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        dataset = data.train_dataset()
        loader = TrainingLoader(dataset, Schedule(data.buckets(dataset), 1, data.seed), num_workers=data.num_workers)
        pl_module.trainer = None
        self.loop = BareLoop(deepcopy(pl_module), loader, trainer.gradient_clip_val)
        pl_module.trainer = trainer
        self.last, self.step = time.perf_counter(), 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        """Note the step's seconds; at the end of a block, let the other one run."""
        now = time.perf_counter()
        self.step += 1
        if self.step > WARM_UP:
            self.fit.append(now - self.last)
        if self.step == BLOCK:
            self.bare += self.loop.run(BLOCK)[WARM_UP:]
            self.step = 0
        self.last = time.perf_counter()


class BareLoop:
    """Training as one would write it in a script."""

    def __init__(self, task: Any, loader: TrainingLoader, clip: float) -> None:
        """Build the optimizer."""
        self.task, self.loader, self.clip = task, loader, clip
        both = task.configure_optimizers()
        self.optimizer, self.schedule = both["optimizer"], both["lr_scheduler"]["scheduler"]
        self.batches = iter(self.loader)

    def next_batch(self) -> Any:
        """The next batch, over as many passes as it takes."""
        batch = next(self.batches, None)
        if batch is None:
            self.batches = iter(self.loader)
            batch = next(self.batches)
        return batch

    def run(self, steps: int) -> list[float]:
        """Train for some steps; the seconds of each."""
        task, seconds = self.task, []
        for _ in range(steps):
            began = time.perf_counter()
            batch = self.next_batch()
            latents = task.encode(batch)
            noise, dropped = torch.randn_like(latents), torch.rand(len(latents)) < task.caption_dropout
            times = task.pipeline.objective.times(torch.rand(len(latents)).clamp(1e-5, 1 - 1e-5))
            loss = task.losses(latents, *task.encode_text(batch, dropped.tolist()), noise, times).mean()
            self.optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(task.parameters(), self.clip)
            self.optimizer.step()
            self.schedule.step()
            loss.item()
            seconds.append(time.perf_counter() - began)
        return seconds


def main() -> None:
    """Run `fit` in a folder of its own and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=10, help="Turns of each, of 20 steps.")
    blocks = parser.parse_args().blocks
    from lingen_kit.commands import train

    turns = TakeTurns()
    add = train.TrainCLI.instantiate_trainer

    def with_turns(cli: train.TrainCLI, **options: Any) -> Trainer:
        trainer = add(cli, **options)
        trainer.callbacks.append(turns)  # last: its time is not the other callbacks'
        return trainer

    train.TrainCLI.instantiate_trainer = with_turns  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        words = f"--config {CONFIG} --trainer.max_steps {blocks * BLOCK} --trainer.limit_val_batches 0".split()
        words += ["--trainer.callbacks", "null", "--checkpoint.every_n_train_steps", str(10**9)]
        train.main("fit", words)
    fit, bare = statistics.median(turns.fit), statistics.median(turns.bare)
    print(f"\nfit {fit * 1e3:.1f} ms a step, bare loop {bare * 1e3:.1f} ms: {fit / bare:.3f} (at most 1.08 wanted)")


if __name__ == "__main__":
    main()
