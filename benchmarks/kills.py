"""A run of two stages that SIGKILL hits at random moments, and in the middle of writing checkpoints, loses nothing.

Every run is killed a few times on its way and resumed with `fit --ckpt_path last`. All its processes die at once, two
loader workers among them: every other time at a random moment, else after a part of a checkpoint was written. After
each kill the last checkpoint must be readable; at the end weights, averages, states of the optimizer and the ledger
(a hash of the samples of each step) must equal those of a run that nobody disturbed.

    python benchmarks/kills.py               # 20 kills, about 5 minutes
    python benchmarks/kills.py --seed 1
"""

import argparse
import hashlib
import io
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from lingen_kit.checkpoint import read_checkpoint
from lingen_kit.cli import main as lingen_kit
from lingen_kit.tasks import TextToVideo

CONFIG = """
data:
  class_path: lingen_kit.data.MovingShapes
  init_args: {frames: 4, height: 16, width: 16, batch_size: 4, validation_size: 2, num_workers: 2, image_ratio: 0.2}
model:
  class_path: lingen_kit.tasks.TextToVideo
  init_args:
    denoiser:
      class_path: lingen_kit.models.Denoiser
      init_args: {dim: 32, depth: 2, patch: [1, 4, 4], mixer: lingen_kit.mixers.MATE}
    text_encoder: {class_path: lingen_kit.models.WordEncoder, init_args: {dim: 16}}
    optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 1e-2}}
    warmup_steps: 2
    caption_dropout: 0.3
trainer: {max_steps: STEPS, val_check_interval: 10, check_val_every_n_epoch: null, log_every_n_steps: 1}
checkpoint: {every_n_train_steps: 3}
stages:
  - name: short
  - name: long
    data: {init_args: {frames: 8}}
"""
STEPS = 30  # of each stage
STAGES = ("1-short", "2-long")
KILLS_OF_A_RUN = 4


def main() -> None:
    """Kill and compare until there were enough kills."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="How often processes are killed.")
    parser.add_argument("--seed", type=int, default=0, help="Of the moments.")
    options = parser.parse_args()
    chance, kills, runs = random.Random(options.seed), 0, 0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "small.yaml").write_text(CONFIG.replace("STEPS", str(STEPS)))
        began = time.monotonic()
        Child(root, "whole", resume=False).wait()
        undisturbed = time.monotonic() - began
        whole = outcome(root, "whole")
        print(f"undisturbed: {len(whole['ledger'])} steps in {undisturbed:.0f} s")
        while kills < options.kills:
            runs += 1
            label, here = f"run{runs}", 0
            while here < min(KILLS_OF_A_RUN, options.kills - kills) and not is_done(root, label):
                in_save = chance.random() if (kills + here) % 2 else None
                child = Child(root, label, resume=has_checkpoint(root, label), in_save=in_save, chance=chance)
                if not child.kill(chance.uniform(0, undisturbed / 2)):
                    break  # it came to its end before
                here += 1
                for path in checkpoints(root, label):
                    read_checkpoint(path)
            if not is_done(root, label):
                Child(root, label, resume=has_checkpoint(root, label)).wait()
            kills += here
            found = outcome(root, label)
            unequal = [part for part in whole if found[part] != whole[part]]
            if unequal:
                sys.exit(f"{label}, killed {here} times, differs in {', '.join(unequal)}")
            print(f"{label}: killed {here} times, equal in {', '.join(whole)}", flush=True)
    print(f"{kills} kills in {runs} runs: all ended with the bits of the undisturbed run")


class Child:
    """A forked `fit` in a process group of its own, with what it imports already there.

    Args:
        root: Where the config is.
        label: Name of the run.
        resume: Whether to go on from its last checkpoint.
        in_save: Share of a checkpoint's bytes after which the child kills its group; None for never.
        chance: Picks the checkpoint.
    """

    def __init__(
        self, root: Path, label: str, *, resume: bool, in_save: float | None = None, chance: random.Random | None = None
    ) -> None:
        """Start."""
        which = chance.randrange(1, 9) if chance and in_save is not None else 0
        self.log, self.in_save = root / f"{label}.log", in_save
        self.pid = os.fork()
        if self.pid:
            return
        try:
            os.setsid()
            os.chdir(root)
            file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 1)
            os.dup2(file, 2)
            keep_ledger(root / f"{label}.jsonl")
            if in_save is not None:
                die_in_save(which, in_save)
            words = ["fit", "--config", "small.yaml", "--name", label]
            lingen_kit([*words, "--ckpt_path", "last"] if resume else words)
            code = 0
        except BaseException:
            traceback.print_exc()
            code = 1
        os._exit(code)

    def wait(self) -> None:
        """Wait for the end.

        Raises:
            RuntimeError: If it failed.
        """
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if code:
            raise RuntimeError(f"fit ended with {code}:\n{self.log.read_text()[-3000:]}")

    def kill(self, seconds: float) -> bool:
        """Kill all its processes after so long, or let it kill itself; whether it was still running."""
        if self.in_save is None:
            time.sleep(seconds)
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                return False
            os.killpg(self.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if code > 0:
            raise RuntimeError(f"fit ended with {code}:\n{self.log.read_text()[-3000:]}")
        return code == -signal.SIGKILL


def keep_ledger(path: Path) -> None:
    """Have every training step append a hash of its samples to a file."""
    train = TextToVideo.training_step

    def step(task: TextToVideo, batch: Any, batch_idx: int) -> torch.Tensor:
        stage = Path(task.trainer.logger.log_dir).name  # type: ignore[union-attr, arg-type]
        samples = hashlib.sha256(batch["video"].numpy().tobytes() + repr(batch["caption"]).encode()).hexdigest()
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([stage, task.global_step, samples]) + "\n")
        return train(task, batch, batch_idx)

    TextToVideo.training_step = step  # type: ignore[method-assign, assignment]


def die_in_save(which: int, share: float) -> None:
    """Have the `which`-th checkpoint end after a share of its bytes, and with it all processes of the group."""
    save, left = torch.save, iter(range(which - 1))

    def dying(content: Any, file: Any) -> None:
        if next(left, None) is not None:
            save(content, file)
            return
        whole = io.BytesIO()
        save(content, whole)
        file.write(whole.getvalue()[: int(share * whole.tell())])
        file.flush()
        os.killpg(os.getpgrp(), signal.SIGKILL)

    torch.save = dying  # type: ignore[assignment]


def checkpoints(root: Path, label: str) -> list[Path]:
    """The last checkpoint of each stage that has one."""
    folders = sorted((root / "runs" / label).glob("version_*"))  # one for each start before a first checkpoint
    found = [folder / stage / "checkpoints" / "last.ckpt" for folder in folders for stage in STAGES]
    return [path for path in found if path.exists()]


def has_checkpoint(root: Path, label: str) -> bool:
    """Whether there is something to go on from; a run that died before its first checkpoint starts again."""
    return bool(checkpoints(root, label))


def is_done(root: Path, label: str) -> bool:
    """Whether the last step of the last stage is saved."""
    found = [path for path in checkpoints(root, label) if path.parent.parent.name == STAGES[-1]]
    return any(read_checkpoint(path)["global_step"] == STEPS for path in found)


def outcome(root: Path, label: str) -> dict[str, Any]:
    """What a run ended with, comparable by its bytes; the last entry of a step counts, as resuming repeats some."""
    lines = (root / f"{label}.jsonl").read_text(encoding="utf-8").splitlines()
    ledger = {(stage, step): samples for stage, step, samples in map(json.loads, lines)}
    result: dict[str, Any] = {"ledger": ledger}
    contents = {path.parent.parent.name: read_checkpoint(path) for path in checkpoints(root, label)}
    for part in ("state_dict", "current_model_state", "optimizer_states", "global_step"):
        result[part] = {stage: list(flat(content[part])) for stage, content in contents.items()}
    return result


def flat(value: Any) -> Iterator[Any]:
    """Plain values and the bytes of tensors, in order."""
    if isinstance(value, dict):
        for key in value:
            yield key
            yield from flat(value[key])
    elif isinstance(value, list | tuple):
        for part in value:
            yield from flat(part)
    elif isinstance(value, torch.Tensor):
        yield value.cpu().contiguous().numpy().tobytes()
    else:
        yield value


if __name__ == "__main__":
    main()
