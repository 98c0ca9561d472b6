"""All logged scalars as one CSV that survives kills and resumes."""

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


class MetricsCSV(Logger):
    """Appends `step,name,value` rows to a file and flushes each time.

    Lightning's CSVLogger deletes the file of the run that it resumes. Here a resumed run appends; where a step
    occurs twice for a name, the later row holds.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is written before the first metric."""
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        """What kind of log this is."""
        return "csv"

    @property
    def version(self) -> str:
        """The folder that the file is in."""
        return self.path.parent.name

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one row for each metric."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "name", "value"])
            writer.writerows([step, name, value] for name, value in metrics.items() if name != "epoch")

    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """The configuration is in `config.yaml`."""
