"""Time and peak memory of the SSD operator beside the chunked listing of the Mamba-2 paper, in one process.

    python benchmarks/ssd.py                # about two minutes on 2 idle cores
    python benchmarks/ssd.py --repeats 3    # a first look

Candidates take turns, the machine's own fp32 matrix product among them; medians are printed. Peak memory is that of a
fresh process each. Both directions are measured in two forms: over the same x, B and C (`quasiseparable_scan`), and
as two halves of the heads that share nothing (`direction="both"`), which no algorithm makes cheaper than twice one.

Letters: B batch, L length, H heads, P head dim, G groups, N state size, Q chunk size.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from lingen_kit.analysis.measure import gemm_rate, in_child, medians, peak_memory, ratio, take_turns
from lingen_kit.ops.quasiseparable import quasiseparable_scan
from lingen_kit.ops.ssd import mamba_chunk_scan_combined
from lingen_kit.ops.ssd_segments import choose_chunk_size

LISTING_CHUNKS = (32, 64, 128, 256)


@dataclass(frozen=True)
class Case:
    """One problem size; `both` runs half of the heads and groups in reverse."""

    batch: int
    length: int
    heads: int
    head_dim: int
    groups: int
    state: int
    both: bool = False

    @property
    def direction(self) -> str:
        """Value of the operator's `direction`."""
        return "both" if self.both else "forward"

    def inputs(self) -> dict[str, Tensor]:
        """Draw inputs with the decays of a trained Mamba-2: A in [-16, -1], dt in [0.001, 0.1]."""
        generator = torch.Generator().manual_seed(0)
        rows = (self.batch, self.length)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        dt = torch.exp(torch.empty(*rows, self.heads).uniform_(-6.9, -2.3, generator=generator))
        return {
            "x": normal(*rows, self.heads, self.head_dim),
            "dt": dt,
            "A": -torch.empty(self.heads).uniform_(1, 16, generator=generator),
            "B": normal(*rows, self.groups, self.state),
            "C": normal(*rows, self.groups, self.state),
            "D": torch.ones(self.heads),
        }

    def flops(self, chunk_size: int, backward: bool) -> int:
        """Count what the products of the chunked algorithm need, each masked square counted in full.

        Forward: C B^T once a group, its product with dt x, the states and their reading. Backward adds C B^T
        again, two squares a head and two a group, and four products with states.
        """
        tokens = self.batch * self.length
        square, wide = 2 * chunk_size * self.head_dim * self.heads, 2 * self.state * self.head_dim * self.heads
        group = 2 * chunk_size * self.state * self.groups
        forward = square + 2 * wide + group
        return tokens * (forward + (2 * square + 4 * wide + 3 * group if backward else 0))


def segment_sum(a: Tensor) -> Tensor:
    """Sums of a over (s, t] for every pair, minus infinity above the diagonal: `(..., Q)` to `(..., Q, Q)`."""
    size = a.shape[-1]
    ones = torch.ones(size, size, dtype=torch.bool)
    spread = a.unsqueeze(-1).expand(*a.shape, size).masked_fill(~ones.tril(-1), 0)
    return spread.cumsum(-2).masked_fill(~ones.tril(), -torch.inf)


def listing(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, chunk_size: int) -> Tensor:
    """The straightforward chunked algorithm of the Mamba-2 paper, section 6, one einsum a step."""
    length, heads = x.shape[1:3]
    chunks = length // chunk_size
    B, C = (t.repeat_interleave(heads // t.shape[2], dim=2).unflatten(1, (chunks, -1)) for t in (B, C))
    v = (x * dt.unsqueeze(-1)).unflatten(1, (chunks, -1))
    a = (dt * A).unflatten(1, (chunks, -1)).permute(0, 3, 1, 2)  # B H chunks Q
    total = a.cumsum(-1)
    within = torch.einsum("bclhn,bcshn,bhcls,bcshp->bclhp", C, B, segment_sum(a).exp(), v)
    states = torch.einsum("bclhn,bhcl,bclhp->bchpn", B, (total[..., -1:] - total).exp(), v)
    states = torch.cat([torch.zeros_like(states[:, :1]), states], dim=1)
    decay = segment_sum(F.pad(total[..., -1], (1, 0))).exp()
    entering = torch.einsum("bhzc,bchpn->bzhpn", decay, states)[:, :-1]
    across = torch.einsum("bclhn,bchpn,bhcl->bclhp", C, entering, total.exp())
    return (within + across).flatten(1, 2) + x * D.unsqueeze(-1)


def listing_both(chunk_size: int, **inputs: Tensor) -> Tensor:
    """The listing on the first half of the heads, and on the second half of flipped inputs, flipped back."""
    halves = []
    for half in (0, 1):
        part = {k: v.chunk(2, dim=0 if v.dim() == 1 else 2)[half] for k, v in inputs.items()}
        if half:
            part = {k: v if v.dim() == 1 else v.flip(1) for k, v in part.items()}
        y = listing(**part, chunk_size=chunk_size)
        halves.append(y.flip(1) if half else y)
    return torch.cat(halves, dim=2)


Operator = Callable[..., Tensor]


def make_call(operator: Operator, inputs: dict[str, Tensor], backward: bool) -> Callable[[], None]:
    """Bind one call, with or without its backward."""
    if not backward:

        def forward() -> None:
            with torch.no_grad():
                operator(**inputs)

        return forward
    leaves = {k: v.clone().requires_grad_() for k, v in inputs.items()}
    gradient = torch.randn_like(inputs["x"])

    def both() -> None:
        torch.autograd.grad(operator(**leaves), list(leaves.values()), gradient)

    return both


def operators(case: Case) -> dict[str, Operator]:
    """The two candidates of a case."""
    ours = partial(mamba_chunk_scan_combined, direction=case.direction, backend="torch")
    return {"ours": ours, "listing": listing_both if case.both else listing}


def peak(case: Case, name: str, chunk_size: int | None) -> int:
    """Bytes that forward and backward need beyond the inputs; runs in a fresh process."""
    small = Case(1, 256, case.heads, case.head_dim, case.groups, case.state, case.both)
    make_call(operators(case)[name], small.inputs() | {"chunk_size": 64}, backward=False)()
    return peak_memory(make_call(partial(operators(case)[name], chunk_size=chunk_size), case.inputs(), backward=True))


CASES = {
    "one long clip": Case(1, 4096, 8, 64, 1, 128),
    "one long clip, both directions": Case(1, 4096, 16, 64, 2, 128, both=True),
    "quickstart batch, L 160, N 32": Case(24, 160, 6, 64, 2, 32, both=True),
    "quickstart batch, L 320, N 64": Case(24, 320, 6, 64, 2, 64, both=True),
}


def report(name: str, case: Case, repeats: int) -> None:
    """Print times, ratios and rates of one case."""
    candidates, inputs = operators(case), case.inputs()
    chunk = choose_chunk_size(case.length, case.state)
    chunks = [size for size in LISTING_CHUNKS if case.length % size == 0]
    print(f"\n{name}: {case}, our chunk {chunk}")
    for backward in (False, True):
        rate = gemm_rate()
        calls = {"ours": make_call(candidates["ours"], inputs, backward)}
        for size in chunks:
            calls[f"listing {size}"] = make_call(partial(candidates["listing"], chunk_size=size), inputs, backward)
        times = medians(take_turns(calls, repeats))
        best = min(time for call, time in times.items() if call != "ours")
        reached = case.flops(chunk, backward) / times["ours"]
        print(
            f"  {'forward+backward' if backward else 'forward':16s} "
            + ", ".join(f"{call} {time * 1e3:.1f} ms" for call, time in times.items())
            + f" | ours / best listing {times['ours'] / best:.2f}"
            + f" | {reached / 1e9:.0f} GFLOP/s, {reached / rate:.0%} of the machine's product ({rate / 1e9:.0f})"
        )


def report_directions(repeats: int) -> None:
    """Print what both directions cost beside one."""
    one, halves = CASES["one long clip"], CASES["one long clip, both directions"]
    shared = one.inputs()
    del shared["D"]
    shared |= {"dt": torch.cat([shared["dt"], shared["dt"].flip(1)], -1), "A": shared["A"].repeat(2)}
    print("\nboth directions, over one:")
    for backward in (False, True):
        calls = {
            "one": make_call(operators(one)["ours"], one.inputs(), backward),
            "sharing x, B and C": make_call(quasiseparable_scan, shared, backward),
            "sharing nothing": make_call(operators(halves)["ours"], halves.inputs(), backward),
        }
        seconds = take_turns(calls, repeats)
        ratios = ", ".join(f"{name} {ratio(seconds, name, 'one'):.2f}" for name in list(calls)[1:])
        print(f"  {'forward+backward' if backward else 'forward':16s} {ratios}")


def report_memory() -> None:
    """Print the peak of forward+backward of both candidates on the long clip."""
    case = CASES["one long clip"]
    ours = in_child(peak, case, "ours", None)
    peaks = {size: in_child(peak, case, "listing", size) for size in LISTING_CHUNKS}
    least = min(peaks.values())
    print(f"\npeak of forward+backward, one long clip: ours {ours / 2**20:.0f} MiB, listing ", end="")
    print(", ".join(f"Q {size} {peak / 2**20:.0f} MiB" for size, peak in peaks.items()), end="")
    print(f" | ours / leanest listing {ours / least:.2f}")


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=15, help="timed turns of each candidate")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, fp32")
    for name, case in CASES.items():
        report(name, case, arguments.repeats)
    report_directions(arguments.repeats)
    report_memory()


if __name__ == "__main__":
    main()
