"""Run folders: `runs/<name>/version_<n>/` holds all that a training run leaves behind.

A run with stages has a folder in it for each, `version_<n>/<k>-<stage>/`, with what a run of one stage has.
"""

import os
from pathlib import Path

VARIABLE = "LINGEN_KIT_RUNS"
"""Environment variable that names another folder for runs than `runs`."""

CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"


def root() -> Path:
    """The folder that runs are in."""
    return Path(os.environ.get(VARIABLE) or "runs")


def versions(name: str) -> list[int]:
    """The versions of a run that exist, in order."""
    return versions_in(root() / name)


def versions_in(run: Path) -> list[int]:
    """The versions that exist in the folder of a run, in order."""
    found = (path.name.removeprefix("version_") for path in run.glob("version_*") if path.is_dir())
    return sorted(int(number) for number in found if number.isdecimal())


def next_version(name: str, *, reserve: bool) -> int:
    """The first version after all that exist.

    Args:
        name: Name of the run.
        reserve: Create its folder at once, so that two runs started together never share one.
    """
    while True:
        version = max(versions(name), default=-1) + 1
        if not reserve:
            return version
        try:
            folder(name, version).mkdir(parents=True)
            return version
        except FileExistsError:
            continue


def folder(name: str, version: int) -> Path:
    """The folder of one version of a run."""
    return root() / name / f"version_{version}"


def version_of(stage: Path) -> int:
    """The version of a run that the folder of one of its stages is in."""
    return int(stage.parent.name.removeprefix("version_"))


def last(folder: Path) -> Path:
    """The checkpoint that a run, or a stage, is resumed from."""
    return folder / CHECKPOINTS / LAST


def latest_resumable(name: str, *, stages: bool = False) -> int:
    """The newest version of a run that has a checkpoint to resume from.

    Args:
        name: Name of the run.
        stages: Whether it is a run with stages.

    Raises:
        FileNotFoundError: If there is none.
    """
    within = f"{'*/' if stages else ''}{CHECKPOINTS}/{LAST}"
    for version in reversed(versions(name)):
        if any(path.is_file() for path in folder(name, version).glob(within)):
            return version
    raise FileNotFoundError(
        f"no {LAST} in {root() / name}/version_*/{within.removesuffix(f'/{LAST}')}: nothing to resume. "
        "Start without --ckpt_path, or name the run with --name or the checkpoint's file with --ckpt_path FILE"
    )
