"""`fit`, `validate`, `test` and `predict`: Lightning's command line over the kit's tasks and data.

`fit --config C.yaml` writes to `runs/<name>/version_<n>/`; `fit --config C.yaml --ckpt_path last` continues the newest
version in place. A config with `stages` is trained by `commands.curriculum`, stage by stage.
"""

import logging
import shutil
import sys
import warnings
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Namespace, set_parsing_settings
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn
from omegaconf.errors import OmegaConfBaseException

from callbacks.checkpoint import AtomicCheckpointIO, Checkpoint, RunConfig
from callbacks.ema import EMA
from callbacks.guard import Guard
from callbacks.interrupt import Interrupt
from callbacks.metrics_csv import MetricsCSV
from callbacks.progress import Progress
from callbacks.start_from import StartFrom
from callbacks.write_videos import WriteVideos
from lingen_kit import runs
from lingen_kit.checkpoint import changed_options, check_fits, read_checkpoint
from lingen_kit.commands.parsing import PlainErrorParser
from lingen_kit.data.base import VideoDataModule
from lingen_kit.data.moving_shapes import MovingShapes
from lingen_kit.models.weights import weights_follow
from lingen_kit.parse_errors import condense
from lingen_kit.stages import read_stages
from lingen_kit.tasks import Autoencoding, TextToVideo

COMPARED = ("seed_everything", "model", "data", "trainer", "ema")
"""Sections that make another training when they change."""

FIXED = ("model.optimizer.class_path", "model.trainable")
"""Options that a training cannot change on its way: they are what the optimizer's state is of."""


def main(verb: str, arguments: list[str]) -> None:
    """Run one of the four verbs."""
    # Lightning 2.6 asks PyTorch for a name that it has renamed.
    warnings.filterwarnings("ignore", message="`isinstance\\(treespec, LeafSpec\\)`", category=FutureWarning)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_news)
    mode = {"parser_mode": "omegaconf+"}  # resolves interpolations once, after files and flags are merged
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)

    def build(words: list[str] | Namespace, kind: type[TrainCLI] = TrainCLI, folder: str | None = None) -> TrainCLI:
        class OneVerbCLI(kind):  # type: ignore[valid-type,misc]
            """Builds the parser of the verb that was called and not those of the other three."""

            stage_folder = folder

            @staticmethod
            def subcommands() -> dict[str, set[str]]:
                return {verb: LightningCLI.subcommands()[verb] | {"weights_only"}}

        return OneVerbCLI(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=RunConfig,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            trainer_defaults={
                "use_distributed_sampler": False,  # the data modules share their samples out themselves
                "enable_model_summary": False,  # one line says it, see `after_instantiate_classes`
                "callbacks": [Interrupt()],
            },
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # a checkpoint carries its whole configuration instead
            parser_class=PlainErrorParser,
            parser_kwargs={"prog": "python -m lingen_kit", **mode, verb: dict(mode)},
            args=[verb, *words] if isinstance(words, list) else words,
        )

    stages = read_stages(arguments)
    if stages is None:
        build(arguments)
    elif verb == "fit":
        from lingen_kit.commands.curriculum import fit_stages  # which builds on this module

        fit_stages(stages, build)
    else:
        raise ValueError(
            f"{verb} takes the config of one stage, and this one has {len(stages)}: give config.yaml of the stage's "
            f"folder, runs/NAME/version_N/{stages[-1].folder}, and its checkpoint with --ckpt_path"
        )


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out advertisements and the devices that there are not."""
    return not record.getMessage().startswith(("💡", "TPU available: False", "GPU available: False"))


class TrainCLI(LightningCLI):
    """Lightning's command line with the kit's run folders, links and callbacks.

    Attributes:
        stage_folder: Where a stage writes to, within the folder of the run's name; None for a run without stages.
        reserved: The folder that was made for this run.
    """

    stage_folder: str | None = None
    reserved: Path | None = None

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run's name and the callbacks of every run, and link what must agree."""
        parser.add_argument("--name", type=str | None, help="Name of the run; that of the config files if null.")
        if "fit" in self.subcommands():
            parser.add_argument(
                "--start_from",
                type=str | None,
                help="Checkpoint whose weights, average and optimizer state training starts from, at step 0; for a "
                "stage also the name of an earlier one.",
            )
        parser.add_lightning_class_args(EMA, "ema")
        parser.add_lightning_class_args(Guard, "guard")
        parser.add_lightning_class_args(Checkpoint, "checkpoint")
        parser.add_lightning_class_args(Progress, "progress")
        for name in ("frames", "height", "width", "fps"):
            parser.link_arguments(f"data.init_args.{name}", f"model.init_args.{name}")
        for part in ("model", "data"):
            parser.link_arguments("seed_everything", f"{part}.init_args.seed", compute_fn=int)
        parser.link_arguments("trainer.max_steps", "model.init_args.schedule_steps")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the words of the verb, whatever those of the process are; what is parsed already is taken as it is."""
        if isinstance(args, Namespace):
            self.config = args
            return
        assert isinstance(args, list)
        try:
            self.config = parser.parse_args(args)
        except OmegaConfBaseException as error:
            raise ValueError(
                f"an interpolation cannot be resolved: {str(error).splitlines()[0]}. frames, height, width and fps of "
                "the data and max_steps of the trainer are copied to the model and must be plain values"
            ) from error

    def instantiate_classes(self) -> None:
        """Build model, data and trainer; an error of one of them is reported without the whole config around it."""
        try:
            self.build_parts()
            self.trainer = self.instantiate_trainer()
        except ValueError as error:
            raise ValueError(condense(str(error))) from error

    def build_parts(self) -> None:
        """Build model, data and callbacks."""
        # From either checkpoint the weights of all parts follow.
        follow = any(self._get(self.config, name) is not None for name in ("ckpt_path", "start_from"))
        with weights_follow() if follow else nullcontext():
            self.config_init = self.parser.instantiate(self.config)
        self.datamodule = self._get(self.config_init, "data")
        self.model = self._get(self.config_init, "model")

    def _parse_ckpt_path(self) -> None:
        """Lightning would look for hyperparameters in the checkpoint here; ours are in the config."""

    def after_instantiate_classes(self) -> None:
        """Say what is about to run, and warn of what would crawl."""
        parameters = sum(p.numel() for p in self.model.parameters())
        rank_zero_info(f"{type(self.model).__name__}: {parameters / 1e6:.1f} million parameters")
        if self.trainer.precision.startswith("bf16") and isinstance(self.trainer.accelerator, CPUAccelerator):
            rank_zero_warn(
                f"trainer.precision {self.trainer.precision}: matrix products in bf16 are over 100 times slower than "
                "in fp32 on many CPUs; use trainer.precision 32-true there"
            )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Fill in what the config leaves open: bf16 on a GPU, checkpoints that survive a full disk, the run folder."""
        trainer = self._get(self.config_init, "trainer")
        if trainer["val_check_interval"] == 0:
            raise ValueError("trainer.val_check_interval 0 is no interval; give steps, or limit_val_batches 0 for none")
        if trainer["precision"] is None and trainer["accelerator"] in ("auto", "gpu", "cuda"):
            kwargs["precision"] = "bf16-mixed" if torch.cuda.is_available() else None
        if not trainer["plugins"]:
            kwargs["plugins"] = [AtomicCheckpointIO()]
        self.run_name = self._run_name()
        resumed = self._resolve_last()
        self._check_checkpoint()
        start_from = self._get(self.config_init, "start_from")
        if start_from is not None and self._get(self.config_init, "ckpt_path") is None:
            start = StartFrom(start_from)
            start.check(self.model)
            trainer["callbacks"] = [start, *(trainer["callbacks"] or [])]
        # For config.yaml, which is to run as it is: from the start, and under the same name.
        self.config[self.subcommand]["name"] = self.run_name
        self.config[self.subcommand]["ckpt_path"] = None
        if self.subcommand == "fit" and trainer["logger"] in (None, True):
            kwargs["logger"] = self._loggers(resumed)
        elif self.stage_folder:  # its folder is ours, whatever else logs
            others = trainer["logger"] if isinstance(trainer["logger"], list) else [trainer["logger"]]
            kwargs["logger"] = [*self._loggers(resumed), *others]
        return super().instantiate_trainer(**kwargs)

    def _run_name(self) -> str:
        files = self._get(self.config, "config") or ["run"]
        name = self._get(self.config, "name") or "-".join(Path(str(file)).stem for file in files)
        if name != Path(name).name:
            raise ValueError(f"--name {name!r} must be a plain name, without folders")
        return name

    def _resolve_last(self) -> int | None:
        """Put the newest checkpoint of this run in the place of `--ckpt_path last`; the version that it is in."""
        if self._get(self.config, "ckpt_path") != "last":
            return None
        version = runs.latest_resumable(self.run_name)
        last = runs.last(runs.folder(self.run_name, version))
        self.config_init[self.subcommand]["ckpt_path"] = str(last)
        return version

    def _loggers(self, version: int | None) -> list[Logger]:
        """TensorBoard and CSV in the folder of a version of the run, a new one if None."""
        if version is None and self.stage_folder is None:
            first = getattr(rank_zero_only, "rank", 0) == 0
            version = runs.next_version(self.run_name, reserve=first)
            self.reserved = runs.folder(self.run_name, version) if first else None
        place = self.stage_folder or version
        board = TensorBoardLogger(runs.root(), name=self.run_name, version=place, default_hp_metric=False)
        return [board, MetricsCSV(Path(board.log_dir) / "metrics.csv")]

    def _check_checkpoint(self) -> None:
        """Refuse a damaged checkpoint, or one of another model, before anything starts; name what has changed."""
        path = self._get(self.config_init, "ckpt_path")
        if path is None:
            if self.subcommand != "fit":
                raise ValueError(f"{self.subcommand} needs a checkpoint to measure: --ckpt_path FILE, or last")
            return
        if path in ("best", "hpc", "registry"):  # Lightning's own words, which it resolves later
            return
        content = read_checkpoint(path)
        check_fits(content["state_dict"], path, self.model)
        dump = self._parser(self.subcommand).dump(
            self.config[self.subcommand], skip_unset=False, skip_link_targets=False
        )
        max_steps = self._get(self.config, "trainer")["max_steps"]
        if self.subcommand == "fit" and 0 <= max_steps <= content["global_step"]:
            raise ValueError(
                f"checkpoint {path} is at step {content['global_step']} already and trainer.max_steps is {max_steps}: "
                "nothing is left to train; raise trainer.max_steps to go on"
            )
        sections = COMPARED if self.subcommand == "fit" else ("model",)
        changed = changed_options(content, yaml.safe_load(dump), sections)
        fixed = next((option for option in changed if option.startswith(FIXED)), None)
        if fixed and self.subcommand == "fit":
            raise ValueError(
                f"checkpoint {path} cannot be resumed with another {fixed.partition(':')[0]} ({fixed}); to start from "
                "its weights anew, use --start_from in place of --ckpt_path"
            )
        if changed:
            rank_zero_warn(f"checkpoint {path} was trained with other options:\n  " + "\n  ".join(changed))

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Leave no run folder behind where nothing is trained; what is measured is printed."""
        if self.subcommand != "fit":
            config["logger"] = config["logger"] or False
            self.save_config_callback = None
        if self.subcommand == "predict":
            callbacks = [*callbacks, WriteVideos(Path("predictions") / self.run_name)]
        return super()._instantiate_trainer(config, callbacks)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Read checkpoints as data only: no pickled code is executed."""
        return {**super()._prepare_subcommand_kwargs(subcommand), "weights_only": True}

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the verb; a run that fails before it begins leaves no folder behind, unless a report is in it."""
        try:
            super()._run_subcommand(subcommand)
        except BaseException:
            if self.reserved and all(path.name.startswith("events.") for path in self.reserved.iterdir()):
                shutil.rmtree(self.reserved)
                with suppress(OSError):  # the folder of an older run of that name
                    self.reserved.parent.rmdir()
            raise

    def before_fit(self) -> None:
        """Have the files that cannot be used named in the run folder."""
        log_dir = self.trainer.log_dir  # asks all ranks
        if log_dir is not None and isinstance(self.datamodule, VideoDataModule):
            self.datamodule.keep_report(Path(log_dir))

    def after_fit(self) -> None:
        """Say where everything is and what to try next."""
        log_dir = self.trainer.log_dir  # asks all ranks
        if log_dir is None or not self.trainer.is_global_zero:
            return
        folder = Path(log_dir)
        last = folder / runs.CHECKPOINTS / runs.LAST
        summary = self.datamodule.summary() if isinstance(self.datamodule, VideoDataModule) else None
        print(f"\nrun folder   {folder}")
        for label, path in (("checkpoint", last), ("samples", folder / "samples"), ("metrics", folder / "metrics.csv")):
            if path.exists():
                print(f"{label:12} {path}")
        if summary:
            print(f"data         {summary}")
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        stopped = next((c.received for c in callbacks if isinstance(c, Interrupt)), None)
        if stopped is not None:
            print(f"\nstopped by {stopped.name} at step {self.trainer.global_step}; to go on, repeat the command with")
            print(f"  --name {self.run_name} --ckpt_path last")
            sys.exit(128 + stopped)
        if self.stage_folder is not None:
            return
        print("\nwhat to try next:")
        if isinstance(self.model, Autoencoding):
            print(f"  fit --config ... --model.autoencoder lingen_kit.models.TAE --model.autoencoder.weights {last}")
        elif isinstance(self.model, TextToVideo):
            print(f'  python -m lingen_kit sample --ckpt {last} --prompt "{self._example_prompt()}"')
            if isinstance(self.datamodule, MovingShapes):
                print(f"  python -m lingen_kit evaluate --ckpt {last} --suite ShapeBench")
        print(f"  tensorboard --logdir {runs.root()}")

    def _example_prompt(self) -> str:
        """A caption of the validation data."""
        dataset = self.datamodule.validation_dataset() if isinstance(self.datamodule, VideoDataModule) else None
        return dataset[0]["caption"].replace('"', "'") if dataset is not None else "..."
