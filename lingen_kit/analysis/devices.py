"""What GPUs can do, from their vendors' data sheets; what this machine can do, measured.

Rates are those of dense bf16 products with sums in float32 (on a CPU float32), without the sparsity that data sheets
like to add: NVIDIA's data sheets of the H100 SXM5, H200 SXM and A100 SXM 80 GB, and the whitepaper of the Ada
architecture for the RTX 4090.
"""

from pathlib import Path
from typing import NamedTuple

import torch

from lingen_kit.analysis.measure import gemm_rate, medians, take_turns


class Device(NamedTuple):
    """What one device can do at most.

    Attributes:
        name: What to call it.
        flops_per_second: Rate of matrix products, two FLOPs a multiply-add.
        bytes_per_second: Rate at which memory is read or written.
        memory: Bytes of its memory; None if it is not known.
    """

    name: str
    flops_per_second: float
    bytes_per_second: float
    memory: float | None


DEVICES = {
    "H100": Device("H100", 989e12, 3.35e12, 80e9),
    "H200": Device("H200", 989e12, 4.8e12, 141e9),
    "A100": Device("A100", 312e12, 2.039e12, 80e9),
    "4090": Device("4090", 165e12, 1.008e12, 24e9),
}
"""Devices by the name that the command line knows."""


def find_device(name: str) -> Device:
    """A device of the table, or `cpu`: this machine, measured in about a second.

    Raises:
        ValueError: If the name is none of them.
    """
    if name == "cpu":
        return _this_machine()
    if name not in DEVICES:
        raise ValueError(f"device {name!r} is unknown; choose out of {', '.join((*DEVICES, 'cpu'))}")
    return DEVICES[name]


def _this_machine() -> Device:
    """The machine's own rates with the threads that torch has here."""
    source = torch.zeros(1 << 24)  # 64 MiB, more than most caches hold
    target = torch.empty_like(source)
    seconds = medians(take_turns({"copy": lambda: target.copy_(source)}, 5))["copy"]
    moved = 2 * source.numel() * source.element_size()
    return Device("cpu", gemm_rate(repeats=5), moved / seconds, machine_memory("MemTotal"))


def machine_memory(field: str) -> int:
    """Bytes of this machine's memory: all of it (`MemTotal`), or what is free for a program (`MemAvailable`)."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
