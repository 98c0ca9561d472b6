"""Windowed attention (TESA) beside full attention and beside windows under a mask, in one process.

    python benchmarks/attention.py                # about three minutes on 2 idle cores
    python benchmarks/attention.py --repeats 3    # a first look

Prints which share of the rate of the machine's own fp32 matrix product the mixer reaches on its own FLOPs, the ratio
of its time to that of the same mixer with windows the usual way (pad, roll, mask: Swin, arXiv 2103.14030), and to
that of full self-attention over the same tokens; then the peak memory of each. All candidates of a line take turns.

Letters: B batch, T H W the grid of tokens, D channels, A heads, P head dim, n tokens of a window.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from lingen_kit.analysis.measure import gemm_call, in_child, peak_memory, ratio, take_turns
from lingen_kit.mixers import SelfAttention, WindowAttention
from lingen_kit.scans import Grid


@dataclass(frozen=True)
class Case:
    """One problem size."""

    batch: int
    grid: Grid
    dim: int
    window: Grid
    heads: int = 4

    def mixer(self, shifted: bool) -> WindowAttention:
        """The mixer as it is."""
        return WindowAttention(self.dim, int(shifted), heads=self.heads, window=self.window)

    def input(self) -> Tensor:
        """Random tokens on their grid: `(B, T, H, W, D)`."""
        return torch.randn(self.batch, *self.grid, self.dim, generator=torch.Generator().manual_seed(0))


CASES = {
    "16,384 tokens": Case(1, (16, 32, 32), 256, (8, 4, 4)),
    "512p 17 s, ragged in time": Case(1, (34, 32, 32), 256, (8, 4, 4)),
    "quickstart batch": Case(24, (4, 4, 4), 96, (4, 2, 2)),
}
ONE = CASES["16,384 tokens"]


class MaskedWindows(nn.Module):
    """The same mixer with the same weights, its windows padded, rolled and masked.

    Args:
        mixer: Whose weights, window and shift to use; no axis of the grid may be shorter than its window.
    """

    def __init__(self, mixer: WindowAttention) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of a grid: `(B, T, H, W, D)` -> the same."""
        t, h, w = x.shape[1:4]
        window = self.mixer.window
        shift = tuple(s if size > n else 0 for s, n, size in zip(self.mixer.shift, window, (t, h, w), strict=True))
        pad = [-size % full for size, full in zip((t, h, w), window, strict=True)]
        sizes = dict(zip("ijk", window, strict=True))
        grid = dict(
            zip("thw", ((size + p) // n for size, p, n in zip((t, h, w), pad, window, strict=True)), strict=True)
        )

        def to_windows(x: Tensor) -> Tensor:
            x = F.pad(x, [0, 0, 0, 0, 0, pad[2], 0, pad[1], 0, pad[0]]) if any(pad) else x
            x = x.roll([-s for s in shift], dims=(1, 2, 3)) if any(shift) else x
            return rearrange(x, "b (t i) (h j) (w k) a p -> (t h w) (b a) (i j k) p", **sizes)

        q, k, v = (to_windows(x) for x in self.mixer.qkv(x))
        mask = window_masks((t, h, w), window, shift) if any(pad) or any(shift) else None
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        pattern = "(t h w) (b a) (i j k) p -> b (t i) (h j) (w k) (a p)"
        y = rearrange(y, pattern, b=len(x), **grid, **sizes)
        y = y.roll(shift, dims=(1, 2, 3)) if any(shift) else y
        return self.mixer.out_proj(y[:, :t, :h, :w])


@lru_cache
def window_masks(grid: Grid, window: Grid, shift: Grid) -> Tensor:
    """Which pairs of tokens of a padded and rolled window may meet: `(windows, 1, n, n)`."""
    numbers = []
    for size, full, offset in zip(grid, window, shift, strict=True):
        position = torch.arange(size + -size % full)
        number = torch.div(position - offset, full, rounding_mode="floor").masked_fill(position >= size, size)
        numbers.append(number.roll(-offset))
    t, h, w = torch.meshgrid(*numbers, indexing="ij")
    label = rearrange(
        (t * 1000 + h) * 1000 + w, "(t i) (h j) (w k) -> (t h w) (i j k)", **dict(zip("ijk", window, strict=True))
    )
    return label[:, None, :, None] == label[:, None, None, :]


def make_call(mixer: nn.Module, x: Tensor, backward: bool) -> Callable[[], object]:
    """Bind one call, with or without its backward."""
    if not backward:
        return torch.no_grad()(lambda: mixer(x))
    leaf, gradient = x.clone().requires_grad_(), torch.randn_like(x)
    return lambda: torch.autograd.grad(mixer(leaf), (leaf, *mixer.parameters()), gradient)


def report(name: str, case: Case, repeats: int) -> None:
    """Print the share of the product's rate and the ratio to masked windows."""
    print(f"\n{name}: batch {case.batch}, grid {case.grid}, D {case.dim}, window {case.window}")
    x = case.input()
    product, product_flops = gemm_call()
    for shifted in (False, True):
        mixer = case.mixer(shifted)
        torch.testing.assert_close(MaskedWindows(mixer)(x), mixer(x), rtol=1e-4, atol=1e-5)
        flops = case.batch * mixer.flops(case.grid)
        for backward in (False, True):
            calls = {
                "product": product,
                "ours": make_call(mixer, x, backward),
                "masked": make_call(MaskedWindows(mixer), x, backward),
            }
            seconds = take_turns(calls, repeats)
            share = ratio(seconds, "product", "ours") * flops * (3 if backward else 1) / product_flops
            print(
                f"  {'shifted' if shifted else 'unshifted':9s} {'forward+backward' if backward else 'forward':16s} "
                f"{share:.0%} of the machine's product, ours / masked {ratio(seconds, 'ours', 'masked'):.2f}"
            )


def report_full(repeats: int) -> None:
    """Print how many times longer full self-attention takes over the same tokens."""
    x = ONE.input()
    full, ours = SelfAttention(ONE.dim, 0, heads=ONE.heads), ONE.mixer(shifted=True)
    print(f"\nfull self-attention over ours, {math.prod(ONE.grid):,} tokens:", end="")
    for backward in (False, True):
        seconds = take_turns({"full": make_call(full, x, backward), "ours": make_call(ours, x, backward)}, repeats)
        print(f" {'forward+backward' if backward else 'forward'} {ratio(seconds, 'full', 'ours'):.1f}", end="")
    print(f", FLOPs {full.flops(ONE.grid) / ours.flops(ONE.grid):.1f}")


def peak(name: str) -> int:
    """Peak bytes of forward+backward of one mixer; for a fresh process."""
    mixer: nn.Module = ONE.mixer(shifted=True)
    if name == "masked":
        mixer = MaskedWindows(ONE.mixer(shifted=True))
    elif name == "full":
        mixer = SelfAttention(ONE.dim, 0, heads=ONE.heads)
    return peak_memory(make_call(mixer, ONE.input(), backward=True))


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=11, help="timed turns of each candidate")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, fp32")
    for name, case in CASES.items():
        report(name, case, arguments.repeats)
    report_full(max(1, arguments.repeats // 4))
    peaks = {name: in_child(peak, name) / 2**20 for name in ("ours", "masked", "full")}
    print(f"\npeak of forward+backward, {math.prod(ONE.grid):,} tokens, shifted: ", end="")
    print(", ".join(f"{name} {size:.0f} MiB" for name, size in peaks.items()))


if __name__ == "__main__":
    main()
