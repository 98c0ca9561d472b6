"""What the search needs of the command line, without a model: a training that ends at once, well or badly.

Words say how: `--loss` is where the loss ends, `--fate` what happens instead. Trainings are told apart by files beside
their logs, so a test can see how often each was begun.
"""

import os
import signal
import time
from types import SimpleNamespace

import torch

from lingen_kit import runs

STEPS = (10, 20, 30)


def options(words: list[str]) -> dict[str, str]:
    return dict(word.removeprefix("--").split("=", 1) for word in words)


def fit(verb: str, words: list[str]) -> None:
    given = options(words)
    fate, name = given.get("model.fate", "well"), given["name"]
    with (runs.root() / f"{name}.begun").open("a") as file:
        file.write("begun\n")
    if fate == "value_error":
        raise ValueError("model.width 7 is no good: choose 8")
    if fate == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fate == "memory":
        os.kill(os.getpid(), signal.SIGKILL)
    if fate == "bug":
        raise ZeroDivisionError("a bug")
    folder = runs.folder(name, 0)
    folder.mkdir(parents=True, exist_ok=True)
    loss = float(given.get("model.loss", "1")) + 0.01 * int(given["seed_everything"])
    loss += float(given.get("model.longer", "0"))
    with (folder / "metrics.csv").open("w") as file:
        file.write("step,name,value\n")
        for step in STEPS:
            value = float("nan") if fate == "diverge" else loss + 10 / step
            file.write(f"{step},validation/loss,{value}\n")
            file.flush()
            time.sleep(float(given.get("model.seconds", "0")) / len(STEPS))
        file.write(f"30,other/figure,{loss}\n")


def read(words: list[str], device: str, size: dict[str, int]) -> tuple[SimpleNamespace, None]:
    given = options(words)
    width = int(given.get("model.width", "4"))
    if width == 13:
        raise ValueError("width 13 brings bad luck")
    pipeline = SimpleNamespace(
        frames=1,
        height=1,
        width=1,
        autoencoder=SimpleNamespace(latent_size=lambda size: size),
        denoiser=SimpleNamespace(flops=lambda size, length: 2 * width),
    )
    parameters = [torch.nn.Parameter(torch.zeros(width))]
    return SimpleNamespace(pipeline=pipeline, parameters=lambda: parameters), None


def parse(words: list[str]) -> None:
    known = ("config", "seed_everything", "model.loss", "model.fate", "model.width", "model.seconds", "model.longer")
    for key in options(words):
        if key not in known:
            raise ValueError(f"{key} is unknown; choose out of {', '.join(known)}")
