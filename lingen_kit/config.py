"""A model from YAML files without the trainer: several files stacked, dotted overrides, interpolation, checked types.

Lightning's command line hands its files to jsonargparse, and so does this module, with the training task's options cut
down to those of the pipeline inside it. So `model.denoiser` means here what it means to `fit`, and nothing imports
Lightning, which costs several times the import of torch.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jsonargparse import ArgumentError, set_parsing_settings
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lingen_kit.models import Autoencoder, PixelSpace, TextEncoder, WordEncoder
from lingen_kit.parse_errors import ExplainingParser, condense
from lingen_kit.pipeline import TextToVideoPipeline

SIZES = {"frames": 8, "height": 32, "width": 32, "fps": 8.0}
"""Options that the model takes from the data, as `fit` links them, with the defaults of the kit's data modules."""

OF_IMAGES = ("lingen_kit.data.ImageFolder", "lingen_kit.data.TorchvisionImages")
"""The kit's data modules whose clips have one frame by default."""

TRAINING = (
    *("optimizer", "trainable", "warmup_steps", "schedule_steps", "final_lr_ratio", "caption_dropout"),
    *("context_parallel", "compile", "seed"),
)
"""Options of the training task that no pipeline has."""

_NONE = re.compile(r"^(--[\w.]+)=None$")
_MODEL = "model.init_args"  # where the files hold the task's options; the command line leaves `init_args` out


class NullParser(ExplainingParser):
    """Reads `--key=None` as null: that is how jsonargparse hands a null on to the parser of a class."""

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:  # type: ignore[override]
        """Parse the words of a command line."""
        if args is not None:
            args = [_NONE.sub(r"\1=null", word) for word in args]
        return super().parse_args(args, *rest, **options)


def read_config(paths: Iterable[str | Path], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Stack the files of a training run, each over those before it, and read the pipeline's options off them.

    Args:
        paths: YAML files as `fit --config` takes them.
        overrides: Words such as `--model.denoiser.dim=512`, as `fit` takes them; they win over the files.

    Returns:
        The arguments of `TextToVideoPipeline`, every default and interpolation resolved, as plain data.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a file is no YAML mapping, or a key or value is wrong; the message names it.
    """
    models, others = [], []
    for path in paths:
        sections = read_sections(Path(path))
        models.append(_pipeline_options(sections.pop("model", {}), path))
        others.append(sections)
    # What is not the model is here for interpolation and the sizes alone: merged, and not looked into.
    other: dict[str, Any] = OmegaConf.to_container(OmegaConf.merge(*others))  # type: ignore[assignment]
    data = other.get("data")
    data = data if isinstance(data, dict) else {"class_path": data}  # a class path alone
    sizes = SIZES | ({"frames": 1} if data.get("class_path") in OF_IMAGES else {})
    sizes |= {name: value for name, value in data.get("init_args", {}).items() if name in SIZES}

    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    parser = NullParser(exit_on_error=False, parser_mode="omegaconf+")
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(TextToVideoPipeline, _MODEL)
    for section in other:
        parser.add_argument(f"--{section}", type=unread)
    words = [f"--config={yaml.safe_dump(part)}" for part in (*models, other)]
    words += [f"--{_MODEL}.{name}={value}" for name, value in sizes.items()]
    words += [re.sub(r"^--model\.", f"--{_MODEL}.", word) for word in overrides]
    try:
        config = parser.parse_args(words)
    except ArgumentError as error:
        raise ValueError(f"{_named(paths)}: {_plain(str(error))}") from error
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{_named(paths)}: an interpolation cannot be resolved: {reason}") from error
    return yaml.safe_load(parser.dump(config, skip_unset=False))["model"]["init_args"]


def build_pipeline(options: Mapping[str, Any]) -> TextToVideoPipeline:
    """Build a pipeline from its arguments as plain data, with the types checked as `fit` does.

    Raises:
        ValueError: If an option is wrong; the message names it.
    """
    parser = NullParser(exit_on_error=False)
    parser.add_class_arguments(TextToVideoPipeline, "model")
    try:
        config = parser.parse_object({"model": dict(options)})
        return parser.instantiate(config).model
    except ArgumentError as error:
        raise ValueError(_plain(str(error))) from error
    except TypeError as error:
        if "abstract" not in str(error):
            raise
        raise ValueError(f"{error}: a mixer has forward(x) and flops(grid), see CONTRIBUTING.md") from error


class Encoders(NamedTuple):
    """The parts of a pipeline that stand between data and denoiser."""

    autoencoder: Autoencoder
    text_encoder: TextEncoder


def build_encoders(options: Mapping[str, Any]) -> Encoders:
    """Build the encoders of a pipeline alone, from its arguments as plain data: a denoiser may be far larger.

    Raises:
        ValueError: If an option is wrong; the message names it.
    """
    parser = NullParser(exit_on_error=False)
    parser.add_function_arguments(_encoders, "model")
    try:
        config = parser.parse_object({"model": {name: options.get(name) for name in Encoders._fields}})
        parts = parser.instantiate(config).model
    except ArgumentError as error:
        raise ValueError(_plain(str(error))) from error
    return _encoders(**parts)


def _encoders(autoencoder: Autoencoder | None = None, text_encoder: TextEncoder | None = None) -> Encoders:
    """What a pipeline takes where they are not given."""
    return Encoders(autoencoder or PixelSpace(), text_encoder or WordEncoder())


def read_sections(
    path: Path,
    needs: str = "the key model, as experiments/quickstart.yaml is",
    loader: type[yaml.SafeLoader] = yaml.SafeLoader,
) -> dict[str, Any]:
    """The sections of a config file: model, data, trainer and so on.

    Args:
        path: The file.
        needs: What a mapping must have, for the message about a file that is none.
        loader: What takes its words for values.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is no YAML mapping.
    """
    if not path.is_file():
        raise FileNotFoundError(f"config {path} {'is a folder' if path.is_dir() else 'does not exist'}")
    try:
        sections = yaml.load(path.read_text(encoding="utf-8"), loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"config {path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(sections, dict):
        raise ValueError(f"config {path} must be a mapping with {needs}")
    return sections


def _pipeline_options(model: Any, path: str | Path) -> dict[str, Any]:
    """The model's section of one file, without what only training needs."""
    if not isinstance(model, dict) or not isinstance(model.get("init_args", {}), dict):
        raise ValueError(f"config {path}: model must hold class_path and init_args, not {model!r}")
    wrong = sorted(set(model) - {"class_path", "init_args"})
    if wrong:
        raise ValueError(f"config {path}: model.{wrong[0]} is unknown; choose out of class_path, init_args")
    options = {name: value for name, value in model.get("init_args", {}).items() if name not in TRAINING}
    choices = [name for name in signature(TextToVideoPipeline.__init__).parameters if name != "self"]
    unknown = [name for name in options if name not in choices]
    if unknown:
        raise ValueError(f"config {path}: model.{unknown[0]} is unknown; choose out of {', '.join(choices)}")
    return {"model": {"init_args": options}}


def unread(value: object) -> object:
    """Type of a section that is not ours: jsonargparse would import the classes that it names."""
    return value


def _plain(message: str) -> str:
    return condense(message).replace(_MODEL, "model")


def _named(paths: Iterable[str | Path]) -> str:
    return ",".join(map(str, paths))
