"""Data and encoders of a training config, for the verbs that prepare what it will read."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lingen_kit.data.base import VideoDataModule


def overrides_of(words: Sequence[str]) -> list[str]:
    """Dotted overrides such as `--data.root DIR`, each as one word.

    Raises:
        ValueError: If a word belongs to none.
    """
    joined: list[str] = []
    for word in words:
        if word.startswith("--"):
            joined.append(word)
        elif joined and "=" not in joined[-1]:
            joined[-1] += f"={word}"
        else:
            raise ValueError(f"{word!r} belongs to no option; see --help")
    for word in joined:
        if not re.match(r"--(data|model|seed_everything|trainer)\b", word):
            raise ValueError(f"{word} is no option; see --help. Overrides of the config begin with --data. or --model.")
    return joined


def data_module(paths: Sequence[str | Path], overrides: Sequence[str] = ()) -> "VideoDataModule":
    """Build the data module of a config, as `fit` would.

    Args:
        paths: YAML files as `fit --config` takes them, each over those before it.
        overrides: Words such as `--data.root=clips`; they win over the files.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a key or value is wrong; the message names it.
    """
    from jsonargparse import ArgumentError, set_parsing_settings
    from omegaconf.errors import OmegaConfBaseException

    from lingen_kit.config import NullParser, read_sections, unread
    from lingen_kit.data.base import VideoDataModule
    from lingen_kit.parse_errors import condense

    sections = [read_sections(Path(path)) for path in paths]
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    parser = NullParser(exit_on_error=False, parser_mode="omegaconf+")
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(VideoDataModule, "data", required=True)
    # What is not the data is here for interpolation alone, and not looked into.
    for name in sorted({"seed_everything", "model", "trainer"}.union(*sections) - {"data"}):
        parser.add_argument(f"--{name}", type=unread)
    words = [f"--config={path}" for path in paths]
    words += [f"--data.seed={_seed(sections, overrides)}"]
    words += [word for word in overrides if word.startswith("--data")]
    try:
        config = parser.parse_args(words)
        module: VideoDataModule = parser.instantiate(config).data
    except ArgumentError as error:
        raise ValueError(f"{','.join(map(str, paths))}: {condense(str(error))}") from error
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{','.join(map(str, paths))}: an interpolation cannot be resolved: {reason}") from error
    except ValueError as error:
        raise ValueError(condense(str(error))) from error
    return module


def _seed(sections: Sequence[dict[str, Any]], overrides: Sequence[str]) -> int:
    """The seed that `fit` hands to the data."""
    given = [section["seed_everything"] for section in sections if "seed_everything" in section]
    given += [word.partition("=")[2] for word in overrides if word.startswith("--seed_everything=")]
    return int(given[-1]) if given else 0
