"""`plan`: what a training costs before it starts: parameters, FLOPs, memory, time and GPU-days of each stage."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingen_kit.commands.options import number, positive

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from lingen_kit.analysis.memory import Task
    from lingen_kit.analysis.plan import Plan, Training
    from lingen_kit.analysis.plan_step import Measured
    from lingen_kit.commands.train import TrainCLI

CHOICES = ("H100", "H200", "A100", "4090", "cpu")  # `analysis.devices` knows them; importing it takes seconds


def main(verb: str, arguments: list[str]) -> None:
    """Plan every stage of a config, print it, and check it with real steps if asked to."""
    parser = _parser(verb)
    options, words = parser.parse_known_args(arguments)
    words = [f"--config={path}" for path in options.config] + words

    from lingen_kit.analysis.devices import find_device
    from lingen_kit.analysis.memory import Activations
    from lingen_kit.analysis.plan import plan_stage
    from lingen_kit.analysis.plan_report import report
    from lingen_kit.stages import read_stages

    device = find_device(options.device)
    stages = [(stage.name, stage.words, stage.paper_h100_days) for stage in read_stages(words) or []]
    stages = stages or [("-".join(path.stem for path in options.config), words, None)]
    names = [name for name, _, _ in stages]
    unknown = [name for name in options.stage if name not in names]
    if unknown:
        parser.error(f"there is no stage {unknown[0]}; choose out of {', '.join(names)}")
    plans, settings = [], {"mfu": options.mfu, "shards": options.shards, "text_tokens": options.text_tokens}
    activations = Activations()
    for name, stage, days in stages:
        if not options.stage or name in options.stage:
            task, training = read_training(stage, name, days, gpu=options.device != "cpu")
            if options.devices:
                training = replace(training, devices=options.devices)
            plans.append((stage, task, plan_stage(task, training, device, activations=activations, **settings)))
    print("\n".join(report([plan for *_, plan in plans], device, options.mfu, options.shards)))
    columns = [plan.columns() for *_, plan in plans]
    if options.measure:
        print()
        for column, (stage, task, plan) in zip(columns, plans, strict=True):
            column["measured"] = _measure(stage, task, plan, options.text_tokens)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        assumed = {"device": device._asdict(), "mfu": options.mfu, "shards": options.shards}
        options.json.write_text(json.dumps({**assumed, "stages": columns}, indent=2) + "\n", encoding="utf-8")


def read_training(
    words: list[str],
    name: str,
    paper_h100_days: float | None,
    *,
    gpu: bool,
    device: str = "meta",
    size: Mapping[str, int] | None = None,
) -> "tuple[Task, Training]":
    """Read what `fit` would train, with its own parser, and build the task.

    Args:
        words: The command line of `fit`.
        name: Name of the stage.
        paper_h100_days: What it took in the paper.
        gpu: Whether it trains on GPUs, where a precision that is left open is bf16-mixed.
        device: Where its weights are; `meta` holds none.
        size: Frames, height and width of the videos that the task is built for, where they are not those of the data.

    Raises:
        ValueError: If the config is wrong, or trains something else than a text-to-video model.
    """
    import torch
    from jsonargparse import ArgumentParser
    from lightning.pytorch import LightningModule

    from lingen_kit.analysis.plan import Training
    from lingen_kit.parse_errors import condense
    from lingen_kit.tasks import TextToVideo

    config = parse_fit(words)
    for key, value in (size or {}).items():
        config.model.init_args[key] = value
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model")
    try:
        with torch.device(device):
            task = parser.instantiate(parser.parse_object({"model": config.model})).model
    except ValueError as error:
        raise ValueError(condense(str(error))) from error
    if not isinstance(task, TextToVideo):
        raise ValueError(f"plan knows what lingen_kit.tasks.TextToVideo costs, not {type(task).__name__}")
    return task, Training(name=name, paper_h100_days=paper_h100_days, **_settings(config, gpu=gpu))


def parse_fit(words: list[str]) -> "Namespace":
    """Parse the words of `fit` with its own parser, and build nothing.

    Raises:
        ValueError: If a key or value is wrong; the message names it.
    """
    return _parsed(words).config["fit"]


def dump_fit(words: list[str]) -> str:
    """The YAML of the config that the words of `fit` make, without what it would take by default.

    Raises:
        ValueError: If a key or value is wrong; the message names it.
    """
    cli = _parsed(words)
    return cli._parser("fit").dump(cli.config["fit"], skip_default=True, skip_unset=False, skip_link_targets=True)


def _parsed(words: list[str]) -> "TrainCLI":
    """What `fit` has parsed and not built.

    Raises:
        ValueError: If a key or value is wrong; the message names it.
    """
    from jsonargparse import set_parsing_settings
    from lightning.pytorch import LightningDataModule, LightningModule
    from lightning.pytorch.cli import LightningCLI

    from lingen_kit.commands.parsing import PlainErrorParser
    from lingen_kit.commands.train import TrainCLI

    class PlanCLI(TrainCLI):
        """Parses what `fit` takes, and builds nothing."""

        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            return {"fit": LightningCLI.subcommands()["fit"] | {"weights_only"}}

        def _set_seed(self) -> None:
            """Nothing is drawn."""

        def instantiate_classes(self) -> None:
            """Nothing is built."""

        def after_instantiate_classes(self) -> None:
            """Nothing is about to run."""

        def _run_subcommand(self, subcommand: str) -> None:
            """Nothing runs."""

    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    mode = {"parser_mode": "omegaconf+"}
    cli = PlanCLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=None,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        parser_class=PlainErrorParser,
        parser_kwargs={"prog": "python -m lingen_kit plan", **mode, "fit": dict(mode)},
        args=["fit", *words],
    )
    return cli


def _settings(config: Any, *, gpu: bool) -> "dict[str, Any]":
    """What a training takes from data, trainer and average."""
    from lingen_kit.data import CachedLatents
    from lingen_kit.data.buckets import tokens_in

    module, _, kind = config.data.class_path.rpartition(".")
    data, trainer = config.data.init_args, config.trainer
    batch_size = data.batch_size
    if data.batch_tokens is not None:
        batch_size = max(1, data.batch_tokens // tokens_in((data.frames, data.height, data.width), data.token_size))
    devices = trainer.devices
    on_a_node = len(devices) if isinstance(devices, list) else int(devices) if str(devices).isdigit() else 1
    precision = str(trainer.precision or ("bf16-mixed" if gpu else "32-true"))
    return {
        "batch_size": batch_size,
        "devices": on_a_node * trainer.num_nodes,
        "accumulate": trainer.accumulate_grad_batches,
        "steps": trainer.max_steps if trainer.max_steps > 0 else None,
        "precision": {"32": "32-true", "64": "64-true"}.get(precision, precision),
        "average": config.ema.decay > 0,
        "cached": issubclass(getattr(import_module(module), kind), CachedLatents),
    }


def _measure(words: list[str], task: "Task", plan: "Plan", text_tokens: int) -> dict[str, Any]:
    """Print a real step beside its plan; the numbers of both."""
    import torch

    from lingen_kit.analysis.devices import DEVICES, machine_memory
    from lingen_kit.analysis.measure import ChildFailed, in_child
    from lingen_kit.analysis.plan import plan_stage
    from lingen_kit.analysis.plan_report import compare

    training = replace(plan.training, devices=1, precision="32-true")
    memory = plan_stage(task, training, DEVICES["H100"], text_tokens=text_tokens).memory
    memory = replace(memory, encoders=0, batch=0)  # the step starts from latents and text tokens
    free = machine_memory("MemAvailable")
    if memory.total > free:
        raise ValueError(
            f"{training.name}: a step needs {memory.total:,} bytes and {free:,} are free; lower batch_size"
        )
    try:
        measured = in_child(measure_here, words, training, text_tokens, threads=torch.get_num_threads())
    except ChildFailed as error:
        raise ValueError(f"{training.name} cannot be measured: {error}") from error
    print(compare(training.name, memory, plan, measured), flush=True)
    return {**measured._asdict(), "planned_bytes": memory.total}


def measure_here(words: list[str], training: "Training", text_tokens: int) -> "Measured":
    """Make real steps in this process, which should be a fresh one."""
    from lingen_kit.analysis.plan_step import measure_step

    task, _ = read_training(words, training.name, None, gpu=False)
    return measure_step(task, training, text_tokens)


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="""Say what a training costs before it starts: parameters, tokens, FLOPs, memory by part, time and
GPU-days, for every stage of the config. Nothing is downloaded, read or allocated. Any option of `fit`
may be given: --data.batch_size 4, --stages.NAME.trainer.max_steps 1000.""",
        epilog="""example:
  python -m lingen_kit plan --config experiments/quickstart.yaml --device cpu --measure
  python -m lingen_kit plan --config experiments/paper/lingen_4b.yaml --device H100 --shards 8""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", action="append", required=True, type=Path, metavar="FILE", help="YAML as `fit` takes it; repeat")
    add("--device", choices=CHOICES, default="H100", help="what it trains on; cpu is this machine (default H100)")
    add("--devices", type=positive, metavar="N", help="how many train together (default: the trainer's)")
    add("--shards", type=positive, default=1, metavar="N", help="devices that share weights and states (default 1)")
    add(
        "--mfu",
        type=number(float, "share, such as 0.4", least=0.01, most=1),
        default=0.4,
        help="share of the device's rate of matrix products that training reaches (default 0.4)",
    )
    add("--text_tokens", type=positive, default=256, help="text tokens of a caption, at most (default 256)")
    add("--stage", action="append", default=[], metavar="NAME", help="plan this stage alone; repeat for several")
    add("--measure", action="store_true", help="make a real step of each in fp32 on this CPU, and compare")
    add("--json", type=Path, metavar="FILE", help="write all numbers")
    return parser
