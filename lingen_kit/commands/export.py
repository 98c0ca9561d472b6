"""`export`: a model out of a checkpoint into a folder of its own, for Python and the Hugging Face hub."""

import argparse
import re
import sys
from pathlib import Path

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")


def main(verb: str, arguments: list[str]) -> None:
    """Write `model.safetensors`, `config.json` and a model card."""
    options = _parser(verb).parse_args(arguments)
    if not _LICENSE.fullmatch(options.license):
        raise ValueError(f"--license {options.license!r} is no license as the hub names it, such as apache-2.0 or mit")

    from lingen_kit.release.export import export  # after the options are known to be good: it imports torch
    from lingen_kit.release.loading import PIPELINE
    from lingen_kit.release.options import folders_named

    out: Path = options.out
    source = export(
        options.ckpt,
        out,
        weights=options.weights,
        dtype=options.dtype,
        license=options.license,
        overwrite=options.overwrite,
    )
    for key, path in folders_named(source.init_args):
        print(
            f"warning: {key} is {path}, a place on this machine: whoever else loads the model must have that folder, "
            f"and its place in {out / 'config.json'}",
            file=sys.stderr,
        )
    size = (out / "model.safetensors").stat().st_size
    count = sum(weight.numel() for weight in source.weights.values())
    kind = "average of the weights" if source.average else "trained weights"
    print(f"{out}: {count / 1e6:.1f} million numbers in {size / 1e6:.1f} MB, {kind} at step {source.step}")
    if source.class_path == PIPELINE:
        print(f'sample from it with\n  python -m lingen_kit sample --ckpt {out} --prompt "..."')


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="Write the model of a checkpoint to a folder: model.safetensors, config.json and README.md, a "
        "model card with data, training and scores of the run. In Python, lingen_kit.Pipeline.from_pretrained(DIR) "
        "reads it. An autoencoder that was trained alone is exported likewise.",
    )
    add = parser.add_argument
    add(
        "--ckpt",
        type=Path,
        required=True,
        metavar="FILE",
        help="checkpoint, such as runs/NAME/version_0/checkpoints/last.ckpt",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write to; its name is the model's")
    add(
        "--weights",
        choices=["ema", "raw"],
        default="ema",
        help="their average, which the run was validated with, or as trained (default ema)",
    )
    add("--dtype", choices=["fp32", "bf16", "fp16"], default="fp32", help="of the matrices in the file (default fp32)")
    add("--license", default="unknown", help="for the model card, as the hub names it: apache-2.0 (default unknown)")
    add("--overwrite", action="store_true", help="write over a model that is in the folder")
    return parser
