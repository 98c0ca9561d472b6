"""Training that is killed in the middle of an epoch and resumed sees the samples of an undisturbed run, in its order.

Files in buckets of several sizes with images among them, random stretches, crops and flips; SIGKILL at a step, then
resumed from the last checkpoint, for 0, 1 and 2 loader workers and 1 and 2 ranks (gloo). The ledger of a run holds,
for every step and place in the global batch, the file and a hash of the pixels.

    python benchmarks/data_resume.py
"""

import argparse
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np

STEPS, KILLED_AT, GLOBAL_BATCH = 24, 13, 4
SIZES = [(1, 32, 32), (4, 24, 40), (4, 32, 32), (8, 32, 32)]


def main() -> None:
    options = _parser().parse_args()
    if options.child:
        train(options)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_clips(folder / "clips")
        run(folder, "whole", workers=0, ranks=1)
        whole = read_ledger(folder / "whole")
        assert len(whole) == STEPS, f"the undisturbed run took {len(whole)} steps"
        print(f"samples of {STEPS} steps, killed at step {KILLED_AT} and resumed, against an undisturbed run")
        for ranks in (1, 2):
            for workers in (0, 1, 2):
                label = f"{ranks}-{workers}"
                run(folder, label, workers=workers, ranks=ranks, kill=True)
                run(folder, label, workers=workers, ranks=ranks)
                ledger = read_ledger(folder / label)
                equal = sum(ledger.get(step) == samples for step, samples in whole.items())
                print(f"  {ranks} rank(s), {workers} worker(s): {equal} of {STEPS} steps equal", flush=True)


def make_clips(folder: Path) -> None:
    """Eighteen videos of two shapes and lengths and three pictures, all different."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(21):
        height, width = ((48, 48), (36, 64))[number % 2]
        count = 1 if number >= 18 else (6, 20)[number // 2 % 2]
        noise = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        path = folder / (f"{number}.png" if count == 1 else f"{number}.mp4")
        with av.open(str(path), "w") as container:
            stream = container.add_stream("png" if count == 1 else "libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, height, "rgb24" if count == 1 else "yuv420p"
            for frame in range(count):
                image = np.resize(np.roll(noise, frame, axis=1).repeat(8, 0).repeat(8, 1), (height, width, 3))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
        path.with_suffix(".txt").write_text(f"clip {number}")


def run(folder: Path, label: str, *, workers: int, ranks: int, kill: bool = False) -> None:
    command = [sys.executable, __file__, "--child", "--folder", str(folder), "--label", label]
    command += ["--workers", str(workers), "--ranks", str(ranks)] + (["--kill"] if kill else [])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "MASTER_PORT": str(port), "LINGEN_KIT_CACHE": str(folder / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, start_new_session=True)
    if kill != bool(done.returncode):
        raise RuntimeError(f"{label} ended with {done.returncode}:\n{done.stderr[-3000:]}")


def read_ledger(folder: Path) -> dict[int, list[list[str]]]:
    """The samples of each step, rank after rank; the last entry of a step counts, as a resumed run repeats some."""
    entries: dict[tuple[int, int], list[list[str]]] = {}
    for path in folder.glob("ledger-*.jsonl"):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            entries[entry["step"], entry["rank"]] = entry["samples"]
    ledger: dict[int, list[list[str]]] = {}
    for (step, _), samples in sorted(entries.items()):
        ledger.setdefault(step, []).extend(samples)
    return ledger


def train(options: argparse.Namespace) -> None:
    """What a child process does: train a tiny model, write the ledger, and die where it is told to."""
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint

    from lingen_kit.data import Buckets, Hybrid

    out = options.folder / options.label
    out.mkdir(exist_ok=True)

    class Recorder(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 1)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            if options.kill and self.global_step == KILLED_AT:
                os.killpg(os.getpgrp(), signal.SIGKILL)  # all ranks and their workers
            hashes = [hashlib.blake2b(video.numpy().tobytes(), digest_size=8).hexdigest() for video in batch["video"]]
            samples = [[Path(source).name, digest] for source, digest in zip(batch["source"], hashes, strict=True)]
            entry = {"step": self.global_step, "rank": self.global_rank, "samples": samples}
            with (out / f"ledger-{self.global_rank}.jsonl").open("a") as file:
                file.write(json.dumps(entry) + "\n")
            return self.layer(batch["video"].mean((2, 3, 4))).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    clips = str(options.folder / "clips")
    data = Hybrid(
        videos=clips,
        images=clips,
        image_ratio=0.3,
        buckets=Buckets(sizes=SIZES),
        crop="random",
        flip=0.5,
        frames=8,
        height=32,
        width=40,
        fps=10.0,
        batch_size=GLOBAL_BATCH // options.ranks,
        num_workers=options.workers,
    )
    trainer = Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        devices=options.ranks,
        strategy="ddp" if options.ranks > 1 else "auto",
        limit_val_batches=0,
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ModelCheckpoint(out, filename="{step}", every_n_train_steps=5, save_last=True, save_top_k=-1)],
    )
    last = out / "last.ckpt"
    trainer.fit(Recorder(), datamodule=data, ckpt_path=last if last.is_file() else None, weights_only=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--label", help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--ranks", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--kill", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
