"""One command for a machine with a GPU: do the kernels agree, and what do LinGen and DiT cost there?

    make gpu-report                        # both parts, under 8 minutes, to docs/results/gpu-<device>/
    python benchmarks/gpu_report.py --minutes 3 --out somewhere

Writes report.md with what was run, on what, and what was skipped and why; parity.csv, bench.csv and bench.png.
Only torch is needed: a kernel that is not installed is skipped, and said to be. Without a GPU the same report is made
on the CPU, of small models.
"""

import argparse
import csv
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from importlib import metadata
from itertools import groupby
from pathlib import Path

import torch

from lingen_kit.analysis.bench import device_name
from lingen_kit.analysis.parity import CASES, Row, compare

ROOT = Path(__file__).parents[1]
BASE = "experiments/quickstart.yaml"
# 512x512 video of 17, 34 and 68 s in latents of 8x8x8 pixels and tokens of 1x2x2 latents; 256x256 first.
LARGE = ["34x16x16", "34x32x32", "68x32x32", "136x32x32"]
SMALL = ["4x4x4", "8x8x8", "16x8x8"]
PACKAGES = ("torch", "triton", "mamba-ssm", "causal-conv1d", "fla-core", "flash-attn", "numba", "lingen_kit")


def compare_all(dtypes: Sequence[torch.dtype]) -> Iterator[Row]:
    """Every case in every dtype, saying on stderr where it is."""
    for case in CASES:
        for dtype in dtypes:
            print(f"parity: {case.name}, {case.backend}, {dtype}", file=sys.stderr)
            yield from compare(case, dtype)


def write_rows(rows: Iterable[Row], path: Path) -> list[Row]:
    """Keep every error as CSV, each as it comes: compiling kernels takes minutes, and a crash must not lose them."""
    kept = []
    with path.open("w", newline="", encoding="utf-8", buffering=1) as file:
        writer = csv.DictWriter(file, [*(f.name for f in fields(Row)), "passed"], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(asdict(row) | {"passed": row.passed})
            kept.append(row)
    return kept


def parity_table(rows: Sequence[Row]) -> list[str]:
    """The worst tensor of each case, kernel and dtype as lines of Markdown."""
    lines = ["| operator | kernel | dtype | torch path | kernel | verdict |", "|---|---|---|---|---|---|"]
    for (case, backend, dtype), group in groupby(rows, lambda row: (row.case, row.backend, row.dtype)):
        members = list(group)
        native = max((row.native_error for row in members if row.native_error is not None), default=None)
        kernel = max((row.kernel_error for row in members if row.kernel_error is not None), default=None)
        failed = [row.tensor for row in members if row.native_error is not None and not row.passed]
        if kernel is not None and members[0].skipped:
            verdict = f"**fails**: {members[0].skipped}"
        elif failed:
            verdict = f"**differs** in {', '.join(failed)}"
        elif kernel is None:
            verdict = f"skipped: {members[0].skipped}"
        else:
            verdict = "agrees"
        figures = ("" if error is None else f"{error:.1e}" for error in (native, kernel))
        lines.append(f"| {' | '.join([case, backend, dtype, *figures, verdict])} |")
    return lines


def run_bench(out: Path, cuda: bool, seconds: float) -> str:
    """Run the verb `bench` until it ends or the time is up; what it printed, without its progress."""
    overlays = [f"experiments/models/{name}{'_4b' if cuda else ''}.yaml"
                for name in ("lingen", "dit")]  # fmt: skip
    command = [sys.executable, "-m", "lingen_kit", "bench", "--out", str(out.resolve()), "--repeats", "3"]
    for name, overlay in zip(("LinGen", "DiT"), overlays, strict=True):
        command += ["--config", f"{name}={BASE},{overlay}"]
    command += ["--model.denoiser.patch=[1,2,2]", "--grid", *(LARGE if cuda else SMALL)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        output += f"\nstopped after {seconds:.0f} s; larger sizes were not measured"
    if process.returncode not in (0, -9):
        output += f"\nended with exit code {process.returncode}"
    return output.replace(f"{out.resolve()}{os.sep}", "")


def environment() -> list[str]:
    """Hardware and versions as lines of Markdown."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    lines = [f"- device: {device_name(device)}", f"- Python {platform.python_version()}, {platform.system()}"]
    if device == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        lines[0] += f", {memory:.0f} GiB, CUDA {torch.version.cuda}"
    for package in PACKAGES:
        try:
            lines.append(f"- {package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            lines.append(f"- {package}: not installed")
    return lines


def main(words: Sequence[str] | None = None) -> None:
    """Write the report; exits with 1 if a kernel differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=7.5, help="time for everything (default 7.5)")
    parser.add_argument("--out", type=Path, help="folder to write to (default docs/results/gpu-<device>)")
    options = parser.parse_args(words)
    start, cuda = time.monotonic(), torch.cuda.is_available()
    name = device_name("cuda" if cuda else "cpu")
    slug = re.sub(r"\W+", "-", name.lower()).strip("-")
    out: Path = options.out or ROOT / "docs" / "results" / f"{'gpu' if cuda else 'cpu'}-{slug}"
    out.mkdir(parents=True, exist_ok=True)

    rows = write_rows(compare_all([torch.float32, torch.bfloat16]), out / "parity.csv")
    compared = time.monotonic() - start
    left = 60 * options.minutes - compared
    bench = run_bench(out, cuda, left) if left > 10 else "skipped: no time was left"
    report = [
        f"# Kernels and cost on {name}",
        "",
        f"`python benchmarks/gpu_report.py`: {compared:.0f} s for parity, {time.monotonic() - start:.0f} s in all.",
        "" if cuda else "There is no GPU here: CUDA kernels are skipped, and the models are small ones.\n",
        *environment(),
        "",
        "## Parity",
        "",
        "Relative errors (norms) against float64 of the worst of output and gradients; every one is in parity.csv.",
        "",
        *parity_table(rows),
        "",
        "## Cost",
        "",
        f"{'LinGen-4B and DiT-4B' if cuda else 'Quickstart-sized LinGen and DiT'}, forward pass of the denoiser; "
        "every figure is in bench.csv.",
        "",
        "```",
        bench.strip(),
        "```",
        "",
    ]
    if (out / "bench.png").exists():
        report += ["![Latency and memory over tokens](bench.png)", ""]
    (out / "report.md").write_text("\n".join(report), encoding="utf-8")
    print(out / "report.md")
    failed = [row for row in rows if row.native_error is not None and not row.passed]
    for row in failed:
        print(f"differs: {row}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
