"""Time of the Mamba2 and Mamba mixers beside other modules of the same weights that run on a CPU, in one process.

    python benchmarks/mamba.py                # about three minutes on 2 idle cores
    python benchmarks/mamba.py --repeats 3    # a first look

One direction, no review tokens, forward without gradients. `Mamba2` runs beside transformers' `Mamba2Mixer`, `Mamba`
beside transformers' `MambaMixer` (token by token) and mambapy's `MambaBlock` (parallel scan); each pair shares its
weights, and the largest difference of the outputs is printed. Candidates take turns, the machine's own fp32 matrix
product among them; medians and ratios are printed.

Letters: L length, D channels.
"""

import argparse
import logging
from collections.abc import Callable
from functools import partial

import torch
from mambapy.mamba import MambaBlock
from mambapy.mamba import MambaConfig as MambapyConfig
from torch import Tensor, nn
from transformers import Mamba2Config, MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from lingen_kit.analysis.measure import gemm_call, medians, ratio, take_turns
from lingen_kit.mixers import Mamba, Mamba2
from lingen_kit.scans import Raster

logging.getLogger("transformers").setLevel(logging.ERROR)  # it says that it would rather run mamba_ssm

Call = Callable[[Tensor], Tensor]


def on_sequence(mixer: nn.Module) -> Call:
    """A mixer of grids, on a sequence: `(B, L, D)` -> the same."""
    return lambda x: mixer(x[:, None, None])[:, 0, 0]


def mamba2(dim: int) -> dict[str, Call]:
    """Our Mamba2 and transformers' of the same weights: heads of 64 channels, state size 128."""
    ours = Mamba2(dim, 0, bidirectional=False, scan=Raster())
    config = Mamba2Config(
        hidden_size=dim, state_size=128, expand=2, head_dim=64, num_heads=dim // 32, n_groups=1, num_hidden_layers=1
    )
    theirs = Mamba2Mixer(config, layer_idx=0).eval()
    theirs.load_state_dict(ours.state_dict())
    return {"ours": on_sequence(ours), "transformers": theirs}


def mamba(dim: int) -> dict[str, Call]:
    """Our Mamba on both engines, transformers' and mambapy's of the same weights: state size 16."""
    calls: dict[str, Call] = {}
    ours = Mamba(dim, 0, bidirectional=False, scan=Raster(), backend="numba")
    on_torch = Mamba(dim, 0, bidirectional=False, scan=Raster(), backend="torch")
    calls = {"ours": on_sequence(ours), "ours on torch": on_sequence(on_torch)}
    config = MambaConfig(hidden_size=dim, state_size=16, expand=2, num_hidden_layers=1, use_mambapy=False)
    others: dict[str, nn.Module] = {
        "transformers": MambaMixer(config, layer_idx=0),
        "mambapy": MambaBlock(MambapyConfig(d_model=dim, n_layers=1, d_state=16, expand_factor=2)),
    }
    for name, module in others.items():
        calls[name] = module.eval()
    for module in (on_torch, *others.values()):
        module.load_state_dict(ours.state_dict())
    return calls


def report(name: str, calls: dict[str, Call], length: int, dim: int, repeats: int) -> None:
    """Print times and ratios of one mixer."""
    x = torch.randn(1, length, dim)
    with torch.no_grad():
        outputs = {call: function(x) for call, function in calls.items()}
        error = max((y - outputs["ours"]).abs().max().item() for y in outputs.values())
        product, flops = gemm_call()
        bound = {call: partial(function, x) for call, function in calls.items()}
        seconds = take_turns(bound | {"product": product}, repeats)
    middle = medians(seconds)
    print(
        f"{name}, L {length}, D {dim}, forward: "
        + ", ".join(f"{call} {1e3 * middle[call]:.1f} ms" for call in calls)
        + "".join(f" | {call} / ours {ratio(seconds, call, 'ours'):.1f}" for call in calls if call != "ours")
        + f" | fp32 product {flops / middle['product'] / 1e9:.0f} GFLOP/s | largest difference {error:.0e}"
    )


def main() -> None:
    """Run both mixers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=9, help="timed turns of each candidate")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--dim", type=int, default=256)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, fp32")
    for name, build in {"Mamba2": mamba2, "Mamba": mamba}.items():
        report(name, build(arguments.dim), arguments.length, arguments.dim, arguments.repeats)


if __name__ == "__main__":
    main()
