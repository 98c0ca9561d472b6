"""The LinGen mixer: is its cost linear in the tokens, and what share of it is the scan?

    python benchmarks/mate.py              # about three minutes on 2 idle cores
    python benchmarks/mate.py --repeats 3  # a first look

Width 256, one layer, fp32, forward. Times are medians of calls that take turns; peak memory is that of a fresh process
each, beyond weights and input. The scans are measured by themselves, over four layers: rotary-major's permutation is
free in one of them. Beside the kit's own gather of tokens for zigzag stands the one in ZigMa's code, which indexes the
projected tokens, channels first.
"""

import argparse
import statistics

import torch
from torch import Tensor

from lingen_kit.analysis.measure import in_child, medians, peak_memory, take_turns
from lingen_kit.analysis.scaling import fit_power_law
from lingen_kit.mixers import MATE
from lingen_kit.scans import Grid, Hilbert, RotaryMajor, Scan, Zigzag

DIM = 256
GRIDS: list[Grid] = [(frames, 32, 32) for frames in (2, 4, 8, 16, 32, 64)]
CUBE: Grid = (16, 16, 16)


class PublishedZigzag:
    """Zigzag where ZigMa's code has it: on the projected tokens, channels first, and back on the output.

    Args:
        inner: Channels of the projection, 2 E D.
    """

    def __init__(self, inner: int = 4 * DIM) -> None:
        order = Zigzag()
        self.indices = [order.index(CUBE, layer) for layer in range(4)]
        self.inverses = [index.argsort() for index in self.indices]
        self.projected = torch.randn(1, inner, len(self.indices[0]))

    def round_trips(self, sequence: Tensor) -> None:
        """Four layers."""
        for index, inverse in zip(self.indices, self.inverses, strict=True):
            self.projected[:, :, index].contiguous()
            sequence[:, inverse, :].contiguous()


def mate(layer: int = 1) -> MATE:
    """The mixer at its defaults."""
    torch.manual_seed(0)
    return MATE(DIM, layer)


@torch.no_grad()
def peak(grid: Grid) -> int:
    """Bytes of one forward pass beyond weights and input; runs in a fresh process."""
    mixer, x = mate(), torch.randn(1, *grid, DIM)
    mixer(x[:, :1, :8, :8])
    return peak_memory(lambda: mixer(x))


def report_scaling(repeats: int) -> None:
    """Print time and memory over tokens, and the exponents of their growth."""
    mixer = mate()
    times, peaks = [], []
    for grid in GRIDS:
        x = torch.randn(1, *grid, DIM)
        with torch.no_grad():
            seconds = statistics.median(take_turns({"mate": lambda x=x: mixer(x)}, repeats, warmup=1)["mate"])
        tokens = grid[0] * grid[1] * grid[2]
        times.append((float(tokens), seconds))
        peaks.append((float(tokens), float(in_child(peak, grid))))
        print(f"  {tokens:6d} tokens  {seconds * 1e3:8.1f} ms  {seconds / tokens * 1e6:5.1f} us a token"
              f"  peak {peaks[-1][1] / 2**20:6.0f} MiB, {peaks[-1][1] / tokens / 2**10:.1f} KiB a token")  # fmt: skip
    print(
        f"  time ~ tokens^{fit_power_law(times).exponent:.3f}, peak memory ~ tokens^{fit_power_law(peaks).exponent:.3f}"
    )


@torch.no_grad()
def report_scans(repeats: int) -> None:
    """Print what it costs to read a cube of tokens in a scan's order and put it back, mean over four layers."""
    x, mixers = torch.randn(1, *CUBE, DIM), [mate(layer) for layer in range(4)]
    sequence = torch.randn(1, CUBE[0] * CUBE[1] * CUBE[2], DIM)

    def round_trips(scan: Scan) -> None:
        for layer in range(4):
            scan.flatten(x, layer).contiguous()
            scan.unflatten(sequence, CUBE, layer).contiguous()

    scans: dict[str, Scan] = {"rotary-major": RotaryMajor(), "zigzag": Zigzag(), "hilbert": Hilbert()}
    calls = {name: lambda scan=scan: round_trips(scan) for name, scan in scans.items()}
    published = PublishedZigzag()
    calls["zigzag as published"] = lambda: published.round_trips(sequence)
    calls["mate"] = lambda: [mixer(x) for mixer in mixers]
    times = medians(take_turns(calls, repeats))
    for name in calls:
        share, ratio = times[name] / times["mate"], times[name] / times["rotary-major"]
        print(f"  {name:20} {times[name] / 4 * 1e3:6.2f} ms a layer, {share:6.1%} of MATE, {ratio:.1f}x rotary-major")


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=9, help="timed turns of each candidate")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, fp32, MATE of width {DIM}, forward")
    print("\ncost over tokens")
    report_scaling(arguments.repeats)
    print(f"\nflatten and unflatten at {CUBE} tokens")
    report_scans(5 * arguments.repeats)


if __name__ == "__main__":
    main()
