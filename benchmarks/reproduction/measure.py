"""Measure, or compute, what docs/reproduction.md says of the paper's claims.

    python -m benchmarks.reproduction.measure            # all parts: about 15 minutes on 2 idle cores
    python -m benchmarks.reproduction.measure scans      # one of them

Each part writes one JSON file into docs/results/reproduction, with the machine and the versions that gave it. What is
trained (ablations, adaptation) is not measured here: see experiments/ablations and adaptation.py.
"""

import argparse
import json

import torch

from benchmarks.reproduction.computed import adjacency, equations, flops, schedule, tables
from benchmarks.reproduction.setting import RESULTS, made
from benchmarks.reproduction.timed import lengths, scans, sizes, variants

_FUNCTIONS = (adjacency, tables, flops, equations, schedule, scans, variants, lengths, sizes)
PARTS = {part.__name__: part for part in _FUNCTIONS}


def main() -> None:
    """Run the parts that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; choose out of {', '.join(PARTS)}")
    torch.set_num_threads(arguments.threads)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in arguments.parts or PARTS:
        print(name, flush=True)
        content = {"made": made(f"{arguments.threads} threads"), **PARTS[name]()}
        (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
