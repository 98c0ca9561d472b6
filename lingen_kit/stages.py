"""Stages of a curriculum: several trainings in one config, each starting from the weights of the one before.

A config with `stages:` is a base and what each stage lays over it (LinGen, supplement, Table 5):

    data: {class_path: lingen_kit.data.MovingShapes}
    stages:
      - name: images
        data: {init_args: {frames: 1}}
        trainer: {max_steps: 1000}
      - name: videos
        data: {init_args: {frames: 8}}
        trainer: {max_steps: 500}

A stage is laid over the base, not over the stage before it, so each is a config that could be trained alone. This
module takes such configs apart and puts them together again; it imports neither torch nor Lightning.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

SECTIONS = ("model", "data", "trainer", "ema", "checkpoint", "progress", "seed_everything", "start_from")
"""What a stage may lay over the base."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Stage:
    """One stage: a training that could run alone.

    Attributes:
        number: Its place, from 1.
        name: What the config calls it.
        layers: The sections of the config files, then the stage's own; each lies over those before it.
        flags: Words of the command line that hold for the stage; they win over all layers.
        paper_h100_days: What the stage took in the paper, for comparison; None if unknown.
    """

    number: int
    name: str
    layers: tuple[dict[str, Any], ...]
    flags: tuple[str, ...] = ()
    paper_h100_days: float | None = None

    @property
    def folder(self) -> str:
        """Its folder within that of the run."""
        return f"{self.number}-{self.name}"

    @property
    def words(self) -> list[str]:
        """The command line that trains the stage alone."""
        return [*(f"--config={yaml.safe_dump(layer, sort_keys=False)}" for layer in self.layers), *self.flags]


def read_stages(words: Sequence[str]) -> list[Stage] | None:
    """The stages that a command line asks for: `--config` files, and flags that are laid over every stage.

    `--stages.NAME.trainer.max_steps 10` is a flag for one stage alone.

    Args:
        words: The command line after the verb.

    Returns:
        The stages in order, None if no config file has any.

    Raises:
        FileNotFoundError: If one of several config files does not exist.
        ValueError: If the stages are no list of sections with distinct names, or a flag is for one that there is not.
    """
    paths, flags = _split(words)
    if not any(re.search(r"^stages\s*:", _text(path), re.MULTILINE) for path in paths):
        for flag in flags:
            if flag.startswith("--stages."):
                raise ValueError(f"{flag}: no config has stages")
        return None
    layers = [_load(path) for path in paths]
    entries = [layer.pop("stages") for layer in layers if "stages" in layer][-1]
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"stages must be a list of at least one stage, not {entries!r}")
    names = [_name_of(entry) for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two stages have the name {twice!r}; each needs its own")
    common, own = _sort_flags(flags, names)
    named = any(layer.get("name") for layer in layers)
    run_name = () if named else (f"--name={'-'.join(path.stem for path in paths)}",)
    stages = []
    for number, (name, entry) in enumerate(zip(names, entries, strict=True), 1):
        days, sections = _sections_of(name, entry)
        # Where the whole run starts from is where its first stage does.
        below = [layer if number == 1 else _without(layer, "start_from") for layer in layers]
        for_all = common if number == 1 else _drop_flag(common, "--start_from")
        stages.append(Stage(number, name, (*below, sections), (*run_name, *for_all, *own[name]), days))
    return stages


def join_stages(configs: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """One config out of those of several stages, by name: what is equal in all of them, and a list of the rest."""
    common = _common(list(configs.values()))
    return {**common, "stages": [{"name": name, **_beyond(config, common)} for name, config in configs.items()]}


def _split(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Config files and all other words of a command line."""
    paths, others = [], []
    rest = iter(words)
    for word in rest:
        if word in ("--config", "-c"):
            paths.append(Path(next(rest, "")))
        elif word.startswith("--config="):
            paths.append(Path(word.removeprefix("--config=")))
        else:
            others.append(word)
    return paths, others


def _text(path: Path) -> str:
    """What is in a file; nothing where it cannot be read, which the parser of the config will complain of."""
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _load(path: Path) -> dict[str, Any]:
    """The sections of a file, interpolations as they stand: they are resolved when all is merged."""
    if not path.is_file():
        raise FileNotFoundError(f"config {path} {'is a folder' if path.is_dir() else 'does not exist'}")
    try:
        sections = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"config {path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(sections, dict):
        raise ValueError(f"config {path} must be a mapping of sections such as model, data and trainer")
    return sections  # type: ignore[return-value]  # keys that are no words are refused by the parser


def _name_of(entry: Any) -> str:
    name = str(entry.get("name", "")) if isinstance(entry, dict) else ""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"a stage is a mapping with a name of letters, digits, _ and -, such as {{name: 256p_images, trainer: "
            f"{{max_steps: 1000}}}}, not {entry!r}"
        )
    return name


def _sections_of(name: str, entry: dict[str, Any]) -> tuple[float | None, dict[str, Any]]:
    """What the paper spent on a stage, and the sections that it lays over the base."""
    sections = {key: value for key, value in entry.items() if key not in ("name", "paper_h100_days")}
    unknown = [key for key in sections if key not in SECTIONS]
    if unknown:
        choices = ", ".join(("name", "paper_h100_days", *SECTIONS))
        raise ValueError(f"stage {name}: {unknown[0]!r} is unknown; choose out of {choices}")
    days = entry.get("paper_h100_days")
    if days is not None and not isinstance(days, int | float):
        raise ValueError(f"stage {name}: paper_h100_days {days!r} is no number")
    return days, sections


def _sort_flags(flags: Sequence[str], names: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Flags for all stages, and those for each."""
    common: list[str] = []
    own: dict[str, list[str]] = {name: [] for name in names}
    rest = iter(flags)
    for flag in rest:
        if not flag.startswith("--stages."):
            common.append(flag)
            continue
        name, _, key = flag.removeprefix("--stages.").partition(".")
        if name not in own or not key:
            raise ValueError(f"{flag}: write --stages.NAME.KEY VALUE, where NAME is one of {', '.join(names)}")
        own[name].append(f"--{key}")
        if "=" not in key:
            own[name] += [value for value in [next(rest, None)] if value is not None]
    return common, own


def _drop_flag(flags: Sequence[str], name: str) -> list[str]:
    """All flags but one that takes a value."""
    kept: list[str] = []
    rest = iter(flags)
    for flag in rest:
        if flag == name:
            next(rest, None)
        elif not flag.startswith(f"{name}="):
            kept.append(flag)
    return kept


def _without(sections: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in sections.items() if name != key}


def _common(values: list[dict[str, Any]]) -> dict[str, Any]:
    """What several mappings agree on; options of different classes have nothing in common."""
    first, *others = values
    common: dict[str, Any] = {}
    for key, value in first.items():
        if not all(key in other for other in others):
            continue
        alternatives = [value, *(other[key] for other in others)]
        if all(alternative == value for alternative in alternatives):
            common[key] = value
        elif (
            all(isinstance(alternative, dict) for alternative in alternatives)
            and len({alternative.get("class_path") for alternative in alternatives}) == 1
        ):
            common[key] = _common(alternatives)
    return common


def _beyond(config: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    """What a mapping has that is not common; a class path is said again beside its options."""
    beyond = {}
    for key, value in config.items():
        if key not in common:
            beyond[key] = value
        elif value != common[key]:
            beyond[key] = _beyond(value, common[key])
    if beyond and "class_path" in common:
        beyond = {"class_path": common["class_path"], **beyond}
    return beyond
