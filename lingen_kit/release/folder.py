"""The folder of an exported model, written and read.

`config.json` has class path and options of the model and says what wrote it, `model.safetensors` has its weights, the
autoencoder's among them but none of networks that are frozen, `README.md` is the model card, and `samples.png` is a
contact sheet, if training made one.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from lingen_kit import __version__
from lingen_kit.files import replacing
from lingen_kit.models.weights import FILE

CONFIG, CARD, SHEET = "config.json", "README.md", "samples.png"

FORMAT = 1
"""Of the folder; it rises when older kits could not read what is written."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Release(NamedTuple):
    """All that an exported model's folder holds but the weights.

    Attributes:
        config: Content of `config.json`: `format_version`, `lingen_kit_version`, `class_path`, `init_args`, `weights`
            (`ema` or `raw`), `dtype` and `step`.
        card: The model card.
        sheet: The contact sheet, a PNG; None if there is none.
    """

    config: dict[str, Any]
    card: str
    sheet: bytes | None


def about(
    class_path: str, init_args: dict[str, Any], *, weights: str, dtype: str, step: int, data: Any = None
) -> dict[str, Any]:
    """Content of `config.json`; `data` is what the training config says of the data, without its folders."""
    return {
        "format_version": FORMAT,
        "lingen_kit_version": __version__,
        "class_path": class_path,
        "init_args": init_args,
        "weights": weights,
        "dtype": dtype,
        "step": step,
        "data": data,
    }


def check_target(folder: str | Path, overwrite: bool = False) -> None:
    """Refuse a folder that an export must not be written to.

    Raises:
        ValueError: If it is a file, holds another library's model, or holds anything and is not to be overwritten.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    ours = _is_ours(folder)
    if overwrite and not ours and any((folder / name).exists() for name in (CONFIG, FILE)):
        raise ValueError(f"{folder} holds a model that is no export of lingen_kit; name another folder")
    if not overwrite:
        raise ValueError(
            f"{folder} {'holds an exported model' if ours else 'is no export and not empty'}; name another folder, or "
            f"give --overwrite (in Python overwrite=True), which writes over {CONFIG}, {FILE}, {CARD} and {SHEET} "
            "there and leaves other files alone"
        )


def write_release(folder: str | Path, release: Release, weights: Mapping[str, Tensor]) -> None:
    """Write all files, or none if one of them cannot be written.

    The same model gives the same bytes.
    """
    folder = Path(folder)
    with ExitStack() as files:  # moved into place only when all are written, the configuration last
        beside = {
            name: files.enter_context(replacing(folder / name))
            for name in (CONFIG, FILE, CARD, *([SHEET] if release.sheet else []))
        }
        text = json.dumps(release.config, indent=2, ensure_ascii=False) + "\n"
        beside[CONFIG].write_text(text, encoding="utf-8")
        beside[CARD].write_text(release.card, encoding="utf-8")
        if release.sheet:
            beside[SHEET].write_bytes(release.sheet)
        save_file(_apart(cast(weights, DTYPES[release.config["dtype"]])), beside[FILE], metadata={"format": "pt"})
    if not release.sheet:
        (folder / SHEET).unlink(missing_ok=True)  # of another model that was here before


def read_release(folder: str | Path) -> Release:
    """Read all but the weights.

    Raises:
        FileNotFoundError: If there is no such folder, or it has no `config.json`.
        ValueError: If that file is damaged, of another library or of a newer kit.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"model {folder}: there is no such folder")
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"model {folder}: the folder has no {CONFIG}; `python -m lingen_kit export` writes one")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"model {folder}: {CONFIG} is damaged ({error}); export the model anew") from error
    if not _describes(config):
        raise ValueError(f"model {folder}: {CONFIG} is not of an export of lingen_kit but of another library")
    if config["format_version"] > FORMAT:
        raise ValueError(
            f"model {folder}: {CONFIG} is of format {config['format_version']}, written by lingen_kit "
            f"{config.get('lingen_kit_version')}; this is lingen_kit {__version__}, which knows formats up to "
            f"{FORMAT}: install a newer one"
        )
    missing = [name for name in ("class_path", "init_args", "dtype") if name not in config]
    if missing or config["dtype"] not in DTYPES or not isinstance(config["init_args"], dict):
        raise ValueError(f"model {folder}: {CONFIG} lacks {', '.join(missing) or 'sound values'}; export it anew")
    card, sheet = folder / CARD, folder / SHEET
    return Release(
        config,
        card.read_text(encoding="utf-8") if card.is_file() else "",
        sheet.read_bytes() if sheet.is_file() else None,
    )


def cast(weights: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights with matrices in another dtype; vectors, such as norms and decay rates, are small and stay."""
    return {
        name: value.to(dtype) if value.is_floating_point() and value.ndim > 1 else value
        for name, value in weights.items()
    }


def _apart(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with no memory in common, as safetensors wants them: tied ones are written twice."""
    seen: set[int] = set()
    apart = {}
    for name, value in weights.items():
        place = value.untyped_storage().data_ptr()
        value = value.detach().cpu().contiguous()
        apart[name] = value.clone() if place in seen else value
        seen.add(place)
    return apart


def _is_ours(folder: Path) -> bool:
    try:
        return _describes(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False


def _describes(config: Any) -> bool:
    return isinstance(config, dict) and isinstance(config.get("format_version"), int) and "lingen_kit_version" in config
