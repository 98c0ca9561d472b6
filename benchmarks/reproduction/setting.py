"""Where results come from and go to: experiments, folders, the machine that made them."""

import platform
from datetime import date
from pathlib import Path
from typing import Any

import torch

from lingen_kit.analysis.bench import device_name
from lingen_kit.config import read_config

ROOT = Path(__file__).parents[2]

RESULTS = ROOT / "docs" / "results" / "reproduction"

EXPERIMENTS = ROOT / "experiments"


def options_of(*files: str, changes: list[str] | None = None) -> dict[str, Any]:
    """The options of a model out of config files in `experiments`, stacked."""
    return read_config([EXPERIMENTS / file for file in files], changes or [])


def made(threads: str) -> dict[str, Any]:
    """What results were made with: the machine, with so many threads, versions and the day."""
    return {
        "machine": f"{device_name('cpu')}, {threads}, {platform.system()}",
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "date": date.today().isoformat(),
    }
