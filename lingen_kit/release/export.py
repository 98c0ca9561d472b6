"""From a checkpoint to a folder."""

from pathlib import Path
from typing import Literal

from lingen_kit.release.card import model_card
from lingen_kit.release.folder import Release, about, check_target, write_release
from lingen_kit.release.options import without_folders
from lingen_kit.release.run import read_sheet, run_folder
from lingen_kit.release.source import Source, read_source


def export(
    checkpoint: str | Path,
    folder: str | Path,
    *,
    weights: Literal["ema", "raw"] = "ema",
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32",
    license: str = "unknown",
    overwrite: bool = False,
) -> Source:
    """Write the model of a checkpoint, which need not fit into memory, to a folder that `Pipeline` reads.

    Args:
        checkpoint: Of a training run. Scores and samples are taken from the run's folder, if it still lies there.
        folder: Where to write to.
        weights: The average that the run was validated with, or the trained weights themselves.
        dtype: What matrices are stored in.
        license: For the model card, as the hub names it, such as `apache-2.0`.
        overwrite: Write over a model that is there.

    Returns:
        What was exported.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it cannot be read or holds no model of the kit's, or the folder is not to be written to.
    """
    folder = Path(folder)
    check_target(folder, overwrite)
    source = read_source(checkpoint, weights)
    run = run_folder(Path(checkpoint))
    config = about(
        source.class_path,
        source.init_args,
        weights="ema" if source.average else "raw",
        dtype=dtype,
        step=source.step,
        data=without_folders(source.training.get("data")),
    )
    card = model_card(folder.absolute().name, source, dtype=dtype, license=license, run=run)
    sheet = read_sheet(run, source.step) if run is not None else None
    write_release(folder, Release(config, card, sheet), source.weights)
    return source
