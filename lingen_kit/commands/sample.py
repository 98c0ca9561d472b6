"""`sample`: videos for prompts from a checkpoint, with no trainer and no other file."""

import argparse
import sys
from pathlib import Path

from lingen_kit.commands.options import device, model, number, positive, share
from lingen_kit.commands.sampling import METADATA, Wish, write_samples

METHODS = ["euler", "heun", "ddim", "dpmpp_2m"]
SCHEDULES = ["uniform", "linear_quadratic", "karras"]


def main(verb: str, arguments: list[str]) -> None:
    """Sample and write one file a video, a contact sheet and `metadata.jsonl`."""
    options = _parser(verb).parse_args(arguments)
    prompts = [prompt for prompt in _prompts(options) for _ in range(options.num)]
    negative = [text for text in _negative_prompts(options, len(prompts) // options.num) for _ in range(options.num)]
    seeds = [options.seed + i % options.num for i in range(len(prompts))]

    import torch  # after the options are known to be good: importing it takes seconds

    from lingen_kit.release.loading import load_model
    from lingen_kit.video import contact_sheet, write_png

    pipeline = load_model(options.ckpt).to(device(options.device))
    sampler = pipeline.sampler.changed(**{name: getattr(options, name) for name in vars(pipeline.sampler)})
    fps = options.fps or pipeline.fps
    out = _output_folder(options.out)
    wishes = list(enumerate(map(Wish, prompts, seeds, negative)))
    size = {name: getattr(options, name) for name in ("frames", "height", "width")}
    shown: list[tuple[torch.Tensor, str]] = []
    written = write_samples(
        pipeline,
        wishes,
        out,
        options={**size, "sampler": sampler},
        record={"ckpt": str(options.ckpt), **vars(sampler)},
        fps=fps,
        batch_size=options.batch_size,
        format=options.format,
    )
    for done, sample in enumerate(written, 1):
        if sample.problem:
            raise ValueError(f"{sample.wish.prompt!r}, seed {sample.wish.seed}: {sample.problem}")
        shown += [(sample.video, sample.wish.prompt)] * (len(shown) < options.sheet_rows)
        if done % options.batch_size == 0 or done == len(wishes):
            print(f"{done}/{len(wishes)} videos", file=sys.stderr)
    sheet = out / "sheet.png"
    write_png(sheet, contact_sheet(torch.stack([video for video, _ in shown]), [prompt for _, prompt in shown]))
    print(f"videos and metadata.jsonl in {out}\ncontact sheet     {sheet}")


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="Sample videos for prompts from a checkpoint of a training run. What is not given is as configured "
        "in that run. Writes one file a video, metadata.jsonl (readable as a video folder for training) and sheet.png.",
    )
    add = parser.add_argument
    add(
        "--ckpt",
        type=model,
        required=True,
        metavar="FILE",
        help="checkpoint, such as runs/NAME/version_0/checkpoints/last.ckpt, a folder that `export` wrote, or a model "
        "that comes with the kit, such as zoo:lingen-shapes",
    )
    add("--prompt", action="append", default=[], metavar="TEXT", help="what to show; may be repeated")
    add("--prompts", type=Path, metavar="FILE", help="text file with one prompt a line")
    add(
        "--negative_prompt",
        action="append",
        default=[],
        metavar="TEXT",
        help="what guidance moves away from; once for all prompts, or once for each of them",
    )
    add("--num", type=positive, default=1, help="videos for each prompt (default 1)")
    add(
        "--seed",
        type=number(int, "whole number, such as 7", least=0, most=2**62 - 1),
        default=0,
        help="seed of the first video of each prompt, the next ones counting up (default 0)",
    )
    add("--steps", type=positive, help="solver steps")
    add("--method", choices=METHODS, help="solver")
    add("--schedule", choices=SCHEDULES, help="spacing of the times")
    add("--rho", type=number(float, "number, such as 7", above=0.0), help="exponent of the schedule karras")
    add("--eta", type=share, help="random noise in the steps of ddim: 0 is none, 1 ancestral sampling")
    add("--guidance", type=number(float, "number, such as 2.5"), help="classifier-free guidance scale; 1 is none")
    add(
        "--guidance_interval",
        type=share,
        nargs=2,
        metavar=("FIRST", "LAST"),
        help="times, of 0 (noise) to 1 (data), between which guidance acts",
    )
    add("--guidance_rescale", type=share, help="how much of the contrast that guidance adds is taken back, 0 to 1")
    add("--frames", type=positive, help="frames of a video")
    add("--height", type=positive, help="height in pixels")
    add("--width", type=positive, help="width in pixels")
    add("--fps", type=number(float, "number, such as 8", above=0), help="frames per second of the files written")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder to write to (default: the next free number in samples/)",
    )
    add("--format", choices=["mp4", "gif"], default="mp4", help="file format (default mp4)")
    add("--batch_size", type=positive, default=8, help="videos sampled at a time (default 8)")
    add("--sheet_rows", type=positive, default=16, help="videos shown in sheet.png (default 16)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    return parser


def _output_folder(wanted: Path | None) -> Path:
    """The folder to write to; one that holds videos with captions already is never written over."""
    if wanted is None:
        taken = [int(path.name) for path in Path("samples").glob("*") if path.name.isdecimal()]
        wanted = Path("samples") / f"{max(taken, default=-1) + 1:03d}"
    if (wanted / METADATA).exists():
        raise ValueError(f"--out {wanted} already holds a metadata.jsonl, which would be lost; name another folder")
    return wanted


def _prompts(options: argparse.Namespace) -> list[str]:
    prompts = list(options.prompt)
    if options.prompts:
        try:
            lines = options.prompts.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"--prompts {options.prompts} is not UTF-8 text: {error}") from error
        prompts += [line.strip() for line in lines if line.strip()]
    for prompt in [*prompts, *options.negative_prompt]:
        if not prompt.isprintable() or any("\ud800" <= letter <= "\udfff" for letter in prompt):
            raise ValueError(f"prompt {prompt!r} holds characters that are no text")
    if not prompts:
        raise ValueError("no prompts: give --prompt TEXT, or --prompts FILE with one prompt a line")
    return prompts


def _negative_prompts(options: argparse.Namespace, prompts: int) -> list[str]:
    """One negative prompt for each of so many prompts."""
    given = options.negative_prompt or [""]
    if len(given) not in (1, prompts):
        raise ValueError(
            f"--negative_prompt is given {len(given)} times for {prompts} prompts: give it once, or {prompts} times"
        )
    return given * prompts if len(given) == 1 else given
