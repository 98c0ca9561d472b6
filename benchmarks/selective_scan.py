"""Time and peak memory of the selective scan beside mambapy's parallel scan, in one process.

    python benchmarks/selective_scan.py                # about five minutes on 2 idle cores
    python benchmarks/selective_scan.py --repeats 3    # a first look

The baseline is `MambaBlock.selective_scan` of mambapy 1.2, whose `pscan` does in log2(L) steps on whole tensors what
the recurrence does in L; the exponential of the decays, the products with B and C and the skip are in all candidates.
Candidates take turns, the machine's own fp32 matrix product among them; medians and ratios are printed. Peak memory is
that of a fresh process each, without what compiling needs.

Letters: B batch, L length, D channels, N state size.
"""

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from mambapy.mamba import MambaBlock
from torch import Tensor

from lingen_kit.analysis.measure import gemm_call, in_child, medians, peak_memory, ratio, take_turns
from lingen_kit.ops.selective_scan import selective_scan_fn

Operator = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """One problem size."""

    batch: int
    length: int
    channels: int
    state: int

    def inputs(self) -> tuple[Tensor, ...]:
        """Draw x, delta, A, B, C and D with a fresh Mamba's decays: A from -1 to -N, delta in [0.001, 0.1]."""
        generator = torch.Generator().manual_seed(0)
        rows = (self.batch, self.length)
        x = torch.randn(*rows, self.channels, generator=generator)
        delta = torch.exp(torch.empty(*rows, self.channels).uniform_(-6.9, -2.3, generator=generator))
        A = -torch.arange(1.0, self.state + 1).repeat(self.channels, 1)
        B, C = (torch.randn(*rows, self.state, generator=generator) for _ in range(2))
        return x, delta, A, B, C, torch.ones(self.channels)


CASES = {
    "one long clip": Case(1, 4096, 512, 16),
    "a batch of short clips": Case(24, 160, 256, 16),
}


def ours(backend: str, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The operator on channels-last tensors, as the mixer calls it."""
    return selective_scan_fn(x.mT, delta.mT, A, B.mT, C.mT, D, backend=backend).mT


def mambapy(*inputs: Tensor) -> Tensor:
    """The method reads nothing of its module."""
    return MambaBlock.selective_scan(None, *inputs)


OPERATORS: dict[str, Operator] = {"numba": partial(ours, "numba"), "torch": partial(ours, "torch"), "mambapy": mambapy}


def make_call(operator: Operator, inputs: tuple[Tensor, ...], backward: bool) -> Callable[[], object]:
    """Bind one call, with or without its backward."""
    if not backward:
        return torch.no_grad()(partial(operator, *inputs))
    leaves = [t.clone().requires_grad_() for t in inputs]
    gradient = torch.randn_like(inputs[0])
    return lambda: torch.autograd.grad(operator(*leaves), leaves, gradient)


def report(name: str, case: Case, repeats: int) -> None:
    """Print times and ratios of one case."""
    inputs = case.inputs()
    with torch.no_grad():
        y = {name: operator(*inputs) for name, operator in OPERATORS.items()}
    error = max((y[name] - y["mambapy"]).abs().max().item() for name in ("numba", "torch"))
    print(f"\n{name}: {case}, largest difference of outputs {error:.0e}")
    product, flops = gemm_call()
    for backward in (False, True):
        calls = {name: make_call(operator, inputs, backward) for name, operator in OPERATORS.items()}
        seconds = take_turns(calls | {"product": product}, repeats)
        middle = medians(seconds)
        print(
            f"  {'forward+backward' if backward else 'forward':16s} "
            + ", ".join(f"{name} {1e3 * middle[name]:.1f} ms" for name in calls)
            + f" | mambapy / numba {ratio(seconds, 'mambapy', 'numba'):.1f}"
            + f" | mambapy / torch {ratio(seconds, 'mambapy', 'torch'):.1f}"
            + f" | {1e9 * middle['numba'] / (case.batch * case.length * case.channels * case.state):.2f} ns an entry"
            + f" | fp32 product {flops / middle['product'] / 1e9:.0f} GFLOP/s"
        )


def peak(name: str, case: Case, backward: bool) -> int:
    """Bytes that a call needs beyond its inputs."""
    make_call(OPERATORS[name], Case(1, 64, 64, case.state).inputs(), backward)()  # compiles
    return peak_memory(make_call(OPERATORS[name], case.inputs(), backward))


def report_memory() -> None:
    """Print the peaks on the long clip."""
    print()
    for backward in (False, True):
        peaks = {name: in_child(peak, name, CASES["one long clip"], backward) for name in OPERATORS}
        print(
            f"peak of {'forward+backward' if backward else 'forward'}, one long clip: "
            + ", ".join(f"{name} {bytes_ / 2**20:.0f} MiB" for name, bytes_ in peaks.items())
            + "".join(f" | {name} / mambapy {peaks[name] / peaks['mambapy']:.3f}" for name in ("numba", "torch"))
        )


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=15, help="timed turns of each candidate")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # says when numba compiles
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, fp32")
    for name, case in CASES.items():
        report(name, case, arguments.repeats)
    report_memory()


if __name__ == "__main__":
    main()
