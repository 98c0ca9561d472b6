"""Time and peak memory of the gated delta rule and of linear attention beside their alternatives, in one process.

    python benchmarks/linear.py                # some minutes on 2 idle cores
    python benchmarks/linear.py --repeats 3    # a first look

The gated delta rule runs beside transformers' implementation in torch and beside the token-by-token twin; linear
attention beside softmax attention, at several lengths. Candidates take turns, the machine's own fp32 matrix product
among them; medians and ratios are printed. Peak memory is that of a fresh process each.

Letters: B batch, L length, H heads, K key head dim, V value head dim.
"""

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule

from lingen_kit.analysis.measure import gemm_call, in_child, medians, peak_memory, ratio, take_turns
from lingen_kit.ops import naive
from lingen_kit.ops.attention import attention
from lingen_kit.ops.gated_delta import chunk_gated_delta_rule
from lingen_kit.ops.linear_attention import linear_attention

Operator = Callable[..., Tensor]

logging.getLogger("transformers").setLevel(logging.ERROR)  # it says that it would rather run fla


@dataclass(frozen=True)
class Case:
    """One size of the gated delta rule."""

    batch: int
    length: int
    heads: int
    key_dim: int
    value_dim: int

    def inputs(self) -> tuple[Tensor, ...]:
        """Draw q, k, v, g, beta, the decays as in a fresh Gated DeltaNet: up to 16 times a step of 0.001 to 0.1."""
        generator = torch.Generator().manual_seed(0)
        rows = (self.batch, self.length, self.heads)
        q, k = (torch.randn(*rows, self.key_dim, generator=generator) for _ in range(2))
        v = torch.randn(*rows, self.value_dim, generator=generator)
        step = torch.exp(torch.empty(*rows).uniform_(-6.9, -2.3, generator=generator))
        g = -step * torch.empty(self.heads).uniform_(0, 16, generator=generator)
        return q, k, v, g, torch.rand(*rows, generator=generator)


CASES = {
    "one long clip": Case(1, 4096, 8, 64, 64),
    "one long clip, wide heads": Case(1, 2048, 4, 128, 256),
    "a batch of short clips": Case(24, 160, 6, 64, 64),
}
ATTENTION_LENGTHS = (256, 1024, 4096)


def ours(*inputs: Tensor) -> Tensor:
    return chunk_gated_delta_rule(*inputs, use_qk_l2norm_in_kernel=True, backend="torch")[0]


def twin(*inputs: Tensor) -> Tensor:
    return naive.chunk_gated_delta_rule(*inputs, use_qk_l2norm_in_kernel=True)[0]


def transformers_torch(*inputs: Tensor) -> Tensor:
    return torch_chunk_gated_delta_rule(*inputs, use_qk_l2norm_in_kernel=True)[0]


def make_call(operator: Operator, inputs: tuple[Tensor, ...], backward: bool) -> Callable[[], object]:
    """Bind one call, with or without its backward."""
    if not backward:
        return torch.no_grad()(partial(operator, *inputs))
    leaves = [t.clone().requires_grad_() for t in inputs]
    with torch.no_grad():
        gradient = torch.randn_like(operator(*inputs))
    return lambda: torch.autograd.grad(operator(*leaves), leaves, gradient)


def report_delta_rule(name: str, case: Case, repeats: int) -> None:
    """Print times and ratios of one case; the twin takes one turn for every three of the others."""
    inputs = case.inputs()
    with torch.no_grad():
        error = (ours(*inputs) - transformers_torch(*inputs)).abs().max().item()
    print(f"\ngated delta rule, {name}: {case}, largest difference of outputs {error:.0e}")
    product, flops = gemm_call()
    for backward in (False, True):
        calls = {f.__name__: make_call(f, inputs, backward) for f in (ours, transformers_torch)} | {"product": product}
        seconds = take_turns(calls, repeats)
        slow = {f.__name__: make_call(f, inputs, backward) for f in (ours, twin)}
        beside_twin = take_turns(slow, max(1, repeats // 3), warmup=1)
        rate = flops / medians(seconds)["product"] / 1e9
        print(
            f"  {'forward+backward' if backward else 'forward':16s} "
            + ", ".join(f"{call} {1e3 * time:.1f} ms" for call, time in medians(seconds).items() if call != "product")
            + f" | ours / transformers {ratio(seconds, 'ours', 'transformers_torch'):.2f}"
            + f" | twin / ours {ratio(beside_twin, 'twin', 'ours'):.0f} | fp32 product {rate:.0f} GFLOP/s"
        )


def peak(operator: Operator, case: Case) -> int:
    """Bytes that forward and backward need beyond their inputs."""
    torch.manual_seed(0)
    make_call(operator, Case(1, 128, case.heads, case.key_dim, case.value_dim).inputs(), backward=True)()
    return peak_memory(make_call(operator, case.inputs(), backward=True))


def report_memory() -> None:
    """Print the peak of forward+backward on the long clip, and on one of twice its length."""
    case = CASES["one long clip"]
    twice = Case(case.batch, 2 * case.length, case.heads, case.key_dim, case.value_dim)
    print()
    for label, one in (("one long clip", case), ("twice its length", twice)):
        mine, other = (in_child(peak, f, one) for f in (ours, transformers_torch))
        print(
            f"peak of forward+backward, {label}: ours {mine / 2**20:.0f} MiB, transformers {other / 2**20:.0f} MiB"
            f" | ours / transformers {mine / other:.2f}"
        )


def report_attention(repeats: int) -> None:
    """Print softmax attention's time over linear attention's, 8 heads of 64 channels."""
    print("\nlinear attention (whole sequence and causal) beside softmax attention, B 1, H 8, K = V = 64")

    def whole(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return linear_attention(q.relu(), k.relu(), v, eps=1e-6, backend="torch")[0]

    def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return linear_attention(q.relu(), k.relu(), v, eps=1e-6, causal=True, backend="torch")[0]

    for length in ATTENTION_LENGTHS:
        q, k, v = (torch.randn(1, length, 8, 64) for _ in range(3))
        for backward in (False, True):
            operators = {"whole": whole, "causal": causal, "softmax": partial(attention, backend="sdpa")}
            calls = {name: make_call(operator, (q, k, v), backward) for name, operator in operators.items()}
            seconds = take_turns(calls, repeats if length < 4096 else max(1, repeats // 3))
            print(
                f"  L {length:6d} {'forward+backward' if backward else 'forward':16s} "
                + ", ".join(f"{name} {1e3 * time:.2f} ms" for name, time in medians(seconds).items())
                + f" | softmax / whole {ratio(seconds, 'softmax', 'whole'):.1f}"
                + f" | softmax / causal {ratio(seconds, 'softmax', 'causal'):.1f}"
            )


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=15, help="timed turns of each candidate")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, fp32")
    for name, case in CASES.items():
        report_delta_rule(name, case, arguments.repeats)
    report_memory()
    report_attention(arguments.repeats)


if __name__ == "__main__":
    main()
