"""`fit` with stages: one after the other in one process, each with a trainer and a folder of its own.

All stages are parsed and their models built on the meta device before the first one trains, so that a mistake in the
last shows at once. Which stages are done is read off their checkpoints alone, whose step says how far they came: so a
run goes on wherever it was cut off, also between two stages.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from callbacks.start_from import StartFrom
from lingen_kit import runs
from lingen_kit.checkpoint import check_fits, differences, read_checkpoint, resize_tables
from lingen_kit.commands.train import COMPARED, TrainCLI
from lingen_kit.files import replacing
from lingen_kit.parse_errors import condense
from lingen_kit.stages import Stage, join_stages

Build = Callable[..., TrainCLI]
"""Builds a command line from its words or what was parsed of them, its class, and the folder of its run."""


class CheckCLI(TrainCLI):
    """Parses a stage and builds it on the meta device, where billions of parameters take no memory; trains nothing."""

    def _set_seed(self) -> None:
        """Nothing is drawn."""

    def instantiate_classes(self) -> None:
        """Build model, data and callbacks, and no trainer."""
        self.run_name = self._run_name()
        try:
            with torch.device("meta"):
                self.build_parts()
        except ValueError as error:
            raise ValueError(condense(str(error))) from error

    def after_instantiate_classes(self) -> None:
        """Nothing is about to run."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing runs."""

    @cached_property
    def options(self) -> dict[str, Any]:
        """The stage's whole configuration as plain data, without what belongs to the run."""
        dump = self._parser(self.subcommand).dump(self.config[self.subcommand], skip_unset=False)
        return {key: value for key, value in yaml.safe_load(dump).items() if key not in ("name", "ckpt_path")}


def fit_stages(stages: list[Stage], build: Build) -> None:
    """Train the stages that are not done yet.

    Raises:
        ValueError: If a stage is wrong, does not fit the one before, or stops early; the message names the stage.
    """
    checked = check_stages(stages, build)
    options = [cli.options for cli in checked]
    name, resume = checked[0].run_name, checked[0]._get(checked[0].config, "ckpt_path")
    if resume not in (None, "last"):
        raise ValueError(
            f"--ckpt_path {resume}: a run with stages is resumed by --ckpt_path last; for the weights of a file alone "
            "use --start_from"
        )
    starts = _starts(stages, options)
    configs = [cli.config for cli in checked]
    del checked
    version = runs.latest_resumable(name, stages=True) if resume else None
    first, checkpoint = (0, None) if version is None else _where(runs.folder(name, version), stages, options)
    print_table(stages, options, first)

    for i in range(first, len(stages)):
        stage, start = stages[i], starts[i]
        if isinstance(start, int):
            assert version is not None
            start = str(runs.last(runs.folder(name, version) / stages[start].folder))
        configs[i]["fit"].update(Namespace(ckpt_path=checkpoint and str(checkpoint), start_from=start))
        rank_zero_info(f"\nstage {i + 1} of {len(stages)}: {stage.name}")
        if version is None:
            version = runs.next_version(name, reserve=_is_first())
        if i == first:
            _write_config(runs.folder(name, version), stages, options)
        with _named(stage):
            cli = build(configs[i], folder=f"version_{version}/{stage.folder}")
            trainer = cli.trainer
            if trainer.global_step < trainer.max_steps:
                raise ValueError(
                    f"it stopped at step {trainer.global_step} of {trainer.max_steps}, and the next stage starts only "
                    f"when it is done: go on with --name {name} --ckpt_path last"
                )
        version = runs.version_of(Path(str(trainer.log_dir)))  # rank 0 has chosen it for all
        checkpoint = None
        del cli, trainer  # with its model, before the next one is built
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    assert version is not None
    _print_folders(stages, runs.folder(name, version))


@contextmanager
def _named(stage: Stage) -> Iterator[None]:
    """What goes wrong within it carries the name of the stage."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"stage {stage.name}: {error}") from error


def _starts(stages: list[Stage], options: list[dict[str, Any]]) -> list[int | str | None]:
    """What each stage starts from: the place of an earlier one, a file, or nothing."""
    names = [stage.name for stage in stages]
    starts: list[int | str | None] = []
    for i, config in enumerate(options):
        wanted = config["start_from"]
        if wanted in names[:i]:
            starts.append(names.index(wanted))
        elif wanted in names:
            raise ValueError(f"stage {names[i]}: start_from {wanted} is no earlier stage")
        else:
            starts.append(wanted or (i - 1 if i else None))
    return starts


def check_stages(stages: list[Stage], build: Build) -> list[CheckCLI]:
    """Build all stages, and refuse what would end the run in a later one.

    Raises:
        ValueError: If a stage is wrong, or does not fit the one that it starts from; the message names it.
    """
    checked = []
    for stage in stages:
        with _named(stage):
            checked.append(cast(CheckCLI, build(stage.words, CheckCLI)))
    starts = _starts(stages, [cli.options for cli in checked])
    for stage, cli, start in zip(stages, checked, starts, strict=True):
        trainer = cli.options["trainer"]
        with _named(stage):
            if trainer["max_steps"] < 1:
                raise ValueError(f"trainer.max_steps {trainer['max_steps']} must say when the stage is done")
            if trainer["fast_dev_run"] or trainer["logger"] is False:
                raise ValueError(
                    "without a run folder (trainer.fast_dev_run, trainer.logger false) no stage can start from "
                    "another; for a quick try use --trainer.max_steps 1"
                )
            if isinstance(start, int):
                weights = resize_tables(checked[start].model.state_dict(), cli.model)
                check_fits(weights, f"of stage {stages[start].name}", cli.model)
            elif start is not None:
                StartFrom(start).check(cli.model)
    return checked


def _where(folder: Path, stages: list[Stage], options: list[dict[str, Any]]) -> tuple[int, Path | None]:
    """Which stage to go on with, and its checkpoint if it has one; what changed in the stages before is named.

    Raises:
        ValueError: If stages that have begun are not those of the config, or all are done.
    """
    begun = {
        int(number): (path.parents[1], name)
        for path in folder.glob(f"*/{runs.CHECKPOINTS}/{runs.LAST}")
        for number, _, name in [path.parents[1].name.partition("-")]
        if number.isdecimal()
    }
    for number, (path, name) in sorted(begun.items()):
        here = stages[number - 1].name if number <= len(stages) else "no stage"
        if here != name:
            raise ValueError(
                f"{path} was trained as stage {number}, {name}, and in this config that is {here}: stages that have "
                "begun cannot change their place or name; start a new run, with --start_from for its weights"
            )
    current = max(begun) - 1
    checkpoint = runs.last(folder / stages[current].folder)
    done = read_checkpoint(checkpoint)["global_step"] >= options[current]["trainer"]["max_steps"]
    for number in sorted(begun) if done else sorted(begun)[:-1]:
        stored = begun[number][0] / "config.yaml"
        then = yaml.safe_load(stored.read_text(encoding="utf-8")) if stored.is_file() else {}
        now = {name: options[number - 1].get(name) for name in COMPARED}
        changed = differences({name: then.get(name) for name in COMPARED}, now) if then else []
        if changed:
            rank_zero_warn(
                f"stage {stages[number - 1].name} is done; what changed since has no effect:\n  " + "\n  ".join(changed)
            )
    if not done:
        return current, checkpoint
    if current + 1 == len(stages):
        raise ValueError(f"all {len(stages)} stages in {folder} are done: nothing is left to train")
    return current + 1, None


def _write_config(folder: Path, stages: list[Stage], options: list[dict[str, Any]]) -> None:
    """Write a config of all stages that runs as it is."""
    if not _is_first():
        return
    joined = join_stages({stage.name: config for stage, config in zip(stages, options, strict=True)})
    for entry, stage in zip(joined["stages"], stages, strict=True):
        entry |= {} if stage.paper_h100_days is None else {"paper_h100_days": stage.paper_h100_days}
    with replacing(folder / "config.yaml") as beside:
        beside.write_text(yaml.safe_dump(joined, sort_keys=False, allow_unicode=True), encoding="utf-8")


def print_table(stages: list[Stage], options: list[dict[str, Any]], done: int = 0) -> None:
    """Say what is about to be trained, a line a stage."""
    rows = [("", "stage", "frames x height x width", "fps", "steps", "batch", "")]
    for i, (stage, config) in enumerate(zip(stages, options, strict=True)):
        data, trainer = config["data"]["init_args"], config["trainer"]
        size = "x".join(str(data.get(side, "?")) for side in ("frames", "height", "width"))
        batch = f"{data['batch_tokens']} tokens" if data.get("batch_tokens") else str(data.get("batch_size", "?"))
        times = (trainer["devices"], trainer["num_nodes"], trainer["accumulate_grad_batches"])
        batch += "".join(f" x {number}" for number in times if isinstance(number, int) and number > 1)
        steps, note = str(trainer["max_steps"]), "done" if i < done else ""
        rows.append((str(stage.number), stage.name, size, str(data.get("fps", "?")), steps, batch, note))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        rank_zero_info("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _is_first() -> bool:
    """Whether this process speaks and writes for all ranks."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _print_folders(stages: list[Stage], folder: Path) -> None:
    if not _is_first():
        return
    print(f"\nall stages are done, each in a folder of {folder}:")
    for stage in stages:
        print(f"  {runs.last(folder / stage.folder)}")
    print("\nwhat to try next:")
    print(f'  python -m lingen_kit sample --ckpt {runs.last(folder / stages[-1].folder)} --prompt "..."')
    print(f"  tensorboard --logdir {folder}")
