"""What a candidate costs before it is trained: parameters, FLOPs, memory of a step, latency beside the base's.

Runs in a process of its own, where torch may start as many threads as it likes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import torch

from lingen_kit.analysis.bench import FixedText
from lingen_kit.analysis.devices import DEVICES
from lingen_kit.analysis.measure import medians, ratio, take_turns
from lingen_kit.analysis.memory import Task
from lingen_kit.analysis.plan import Training, plan_stage
from lingen_kit.pipeline import TextToVideoPipeline
from lingen_kit.search.dimensions import word
from lingen_kit.search.settings import Budget

Bounds = Mapping[str, tuple[float, float]]
Size = Mapping[str, int]
"""Frames, height and width of a video; what is not given is that of the config's own videos."""


class Read(Protocol):
    """Reads the words of `fit` and builds the task that they train."""

    def __call__(self, words: list[str], device: str, size: Size) -> tuple[Task, Training]:
        """The task, on `device` (`meta` holds no weights), for videos of a size, and what else the words say."""


TEXT_TOKENS = 32
_LEAST, _MOST, _SECONDS = 3, 15, 10.0  # passes of each that are timed, and how long they may take if they are many


class Costs(NamedTuple):
    """What a candidate costs.

    Attributes:
        values: By name, see `settings.COSTS`.
        solved: The value of that option; None if there is none.
    """

    values: dict[str, float]
    solved: int | None = None


def costs_of(
    read: Read,
    base: Sequence[str],
    words: Sequence[str],
    wanted: Sequence[str],
    budget: Budget | None = None,
    bounds: Bounds | None = None,
    size: Size | None = None,
) -> Costs:
    """Tell the costs of a candidate.

    Args:
        read: Reads the words of `fit`.
        base: What `fit` is given for the base.
        words: What it is given for the candidate.
        wanted: Costs to tell.
        budget: What to solve for.
        bounds: Least and greatest value of some of them; a candidate that is out by what can be counted is not timed.
        size: Of the video that a pass is over; of that of training by default.

    Raises:
        ValueError: If the candidate cannot be built, or none is within the budget.
    """
    words, solved, size = list(words), None, size or {}
    if budget is not None:
        solved = _solve(read, words, budget, size)
        words.append(word(budget.key, solved))
    values = _counted(read, words, size)
    if bounds and out_of(bounds, values):
        return Costs(values, solved)
    if "memory" in wanted:
        task, training = read(words, "meta", {})
        step = replace(training, devices=1)
        values["memory"] = plan_stage(task, step, DEVICES["H100"], text_tokens=TEXT_TOKENS).memory.total
    if {"latency", "relative_latency"} & set(wanted):
        lines = {"candidate": words, "base": list(base)}
        calls = {name: _forward(read(line, "cpu", size)[0]) for name, line in lines.items()}
        once = sum(sum(times) for times in take_turns(calls, 1, warmup=1).values())
        seconds = take_turns(calls, max(_LEAST, min(_MOST, int(_SECONDS / once))), warmup=1)
        values["latency"] = medians(seconds)["candidate"]
        values["relative_latency"] = ratio(seconds, "candidate", "base")
    return Costs({name: values[name] for name in wanted}, solved)


def out_of(bounds: Bounds, values: Mapping[str, float]) -> str | None:
    """The first cost that is out of its bounds, None if none is; costs that are not known are in."""
    return next(
        (name for name, (low, high) in bounds.items() if name in values and not low <= values[name] <= high), None
    )


def _latents(pipeline: TextToVideoPipeline) -> tuple[int, int, int]:
    return pipeline.autoencoder.latent_size((pipeline.frames, pipeline.height, pipeline.width))


def _counted(read: Read, words: list[str], size: Size) -> dict[str, float]:
    task, _ = read(words, "meta", {})
    passing = read(words, "meta", size)[0] if size else task  # a larger video has larger tables of positions
    return {
        "parameters": sum(p.numel() for p in task.parameters() if p.requires_grad),  # type: ignore[attr-defined]
        "flops": passing.pipeline.denoiser.flops(_latents(passing.pipeline), TEXT_TOKENS),
    }


def _solve(read: Read, words: list[str], budget: Budget, size: Size) -> int:
    """The largest multiple of the step within the budget; costs grow with it."""

    def within(multiple: int) -> bool:
        try:
            counted = _counted(read, [*words, word(budget.key, multiple * budget.step)], size)
        except ValueError:
            if multiple > 1:
                return False  # such as a width that no head divides
            raise
        return counted[budget.cost] <= budget.most

    if not within(1):
        least = _counted(read, [*words, word(budget.key, budget.step)], size)[budget.cost]
        raise ValueError(
            f"budget: even {budget.key} {budget.step} has {least:.3g} {budget.cost}, above {budget.most:.3g}"
        )
    low, high = 1, budget.high // budget.step + 1  # within(low) holds, within(high) is not asked
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if within(middle) else (low, middle)
    return low * budget.step


def _forward(task: Task) -> Callable[[], object]:
    """One pass of the denoiser over one video of its size, with the weights that training starts from."""
    pipeline: TextToVideoPipeline = task.pipeline
    pipeline.text_encoder = FixedText(pipeline.text_encoder.dim, TEXT_TOKENS)
    denoiser = pipeline.denoiser
    text, mask = pipeline.text_encoder(["a prompt"])
    noisy = torch.randn(1, denoiser.channels, *_latents(pipeline))  # (B, C, F, Y, X)
    t = torch.full((1,), 0.5)

    def call() -> Any:
        with torch.no_grad():
            return denoiser(noisy, t, text, mask)

    return call
