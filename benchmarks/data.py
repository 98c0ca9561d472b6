"""What reading video data costs, beside plain ways of doing the same on the same machine.

    python benchmarks/data.py                           # ten minutes; the first run also makes a ten-minute video
    python benchmarks/data.py --only random-access
    python benchmarks/data.py --only soak --minutes 30

Candidates take turns and medians are printed. Every decoder runs on one thread. `benchmarks/data_resume.py` shows that
training which was killed sees the samples of an undisturbed run.
"""

import argparse
import os
import platform
from collections.abc import Callable

import av
import torch
from data_access import random_access
from data_loading import cached_latents, indexing, loader
from data_soak import soak

SECTIONS: dict[str, Callable[[argparse.Namespace], None]] = {
    "random-access": lambda options: random_access(options.repeats),
    "loader": lambda options: loader(options.repeats),
    "cached-latents": lambda options: cached_latents(options.repeats),
    "indexing": lambda options: indexing(),
    "soak": lambda options: soak(options.minutes),
}


def main() -> None:
    """Run all sections, or those asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=15, help="places, or turns of each candidate")
    parser.add_argument("--minutes", type=float, default=1.0, help="length of the soak")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section to run; may be repeated")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"PyAV {av.__version__}, torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores")
    for name in options.only or SECTIONS:
        SECTIONS[name](options)


if __name__ == "__main__":
    main()
