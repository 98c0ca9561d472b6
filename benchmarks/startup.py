"""How long the command line takes to answer, beside what importing torch and lightning costs on the same machine.

Whole processes, one after the other in turn, so that a slow spell of the machine hits all of them; medians.

    python benchmarks/startup.py
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "python -m lingen_kit --help": ["-m", "lingen_kit", "--help"],
    "python -m lingen_kit --version": ["-m", "lingen_kit", "--version"],
    "python -m lingen_kit sample --help": ["-m", "lingen_kit", "sample", "--help"],
    "import torch": ["-c", "import torch"],
    "import lightning.pytorch": ["-c", "import lightning.pytorch"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    seconds = {name: [] for name in COMMANDS}
    for repeat in range(repeats + 1):  # the first fills the disk cache
        for name, words in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *words], env=environment, check=True, capture_output=True)
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    torch = statistics.median(seconds["import torch"])
    print(f"{'command':36} {'median s':>9} {'min':>7} {'max':>7}   of import torch")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:36} {median:9.3f} {min(values):7.3f} {max(values):7.3f}   {median / torch:.3f}")


if __name__ == "__main__":
    main()
