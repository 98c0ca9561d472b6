"""Bytes that context parallelism sends, by kind of layer and length of the video.

    python benchmarks/context_parallel.py              # two gloo ranks on this machine, a minute
    python benchmarks/context_parallel.py --ranks 4

Prints what one rank sends to the others in a forward and backward pass of one mixer, in fp32, for one video. What a
rank keeps is not counted. Counts of bytes, not times: they are the same on any machine and with any backend.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from lingen_kit.mixers import LinearAttention, Mamba2, Mixer, SelfAttention, WindowAttention
from lingen_kit.parallel import context_parallel, split_time

LAYERS: dict[str, tuple[Callable[[int, int], Mixer], int]] = {
    "Mamba2, order thw": (Mamba2, 0),
    "Mamba2, order hwt": (Mamba2, 1),
    "Mamba2, order hwt, 2x2x2 review tokens": (partial(Mamba2, review_pool=(2, 2, 2)), 1),
    "WindowAttention, 8x4x4, shifted": (WindowAttention, 1),
    "LinearAttention": (LinearAttention, 0),
    "SelfAttention": (SelfAttention, 0),
}


def sent(mixer: Mixer, frames: int, side: int) -> int:
    """Bytes that this rank sends to others in one forward and backward pass over frames x side x side tokens."""
    total = 0
    real = dist.all_to_all_single

    def counting(out: Tensor, rows: Tensor, receive: list[int], send: list[int], group: object) -> None:
        nonlocal total
        total += rows[:1].numel() * rows.element_size() * (sum(send) - send[dist.get_rank()])
        real(out, rows, receive, send, group)

    with context_parallel(frames) as context, patch.object(dist, "all_to_all_single", counting):
        x = torch.randn(1, frames, side, side, mixer.dim, requires_grad=True)
        mixer(split_time(x, context, 1)).sum().backward()
    return total


def work(rank: int, args: argparse.Namespace, store: str) -> None:
    """Print the table from the first rank."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}/store", rank=rank, world_size=args.ranks)
    lengths = [frames * args.side**2 for frames in args.frames]
    if rank == 0:
        print("|".join(["| layer ", *(f" {length:,} tokens " for length in lengths), ""]))
        print("|---" * (1 + len(lengths)) + "|")
    for name, (build, layer) in LAYERS.items():
        mixer = build(args.dim, layer)
        counts = torch.tensor([sent(mixer, frames, args.side) for frames in args.frames])
        dist.all_reduce(counts, dist.ReduceOp.MAX)
        if rank == 0:
            print(
                "|".join([f"| {name} ", *(f" {count / 2**20:.2f} MiB " for count in counts.tolist()), ""]), flush=True
            )
    dist.destroy_process_group()


def main() -> None:
    """Start the ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--side", type=int, default=8)
    parser.add_argument("--frames", type=int, nargs="+", default=[16, 32, 64])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as store:
        mp.start_processes(work, (args, store), nprocs=args.ranks, start_method="fork")


if __name__ == "__main__":
    main()
