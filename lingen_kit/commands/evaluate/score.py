"""`evaluate`: sample a suite's prompts from a checkpoint, or take a folder of videos, and score them."""

import argparse
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingen_kit.commands.options import device, model, number, positive, seconds

if TYPE_CHECKING:
    from eval.run import Item
    from eval.suite import Prompt, Suite

_NAME_WIDTH = 60
_SHOWN = 20  # left-out videos that are printed; scores.json has all


def main(verb: str, arguments: list[str]) -> None:
    """Score, print the table and write scores.json, scores.csv and report.html."""
    parser = _parser(verb)
    options, words = parser.parse_known_args(arguments)
    foreign = [word for word in words if word.startswith("-") and not word.startswith("--suite.")]
    if foreign:
        parser.error(f"unknown option {foreign[0]}; options of the suite begin with --suite., such as --suite.num 32")
    if options.videos is not None and not options.videos.is_dir():
        kind = "a file" if options.videos.exists() else "missing"
        parser.error(f"--videos {options.videos} is {kind}; give a folder of videos")

    from eval.report import write_report
    from eval.run import evaluate, write_scores
    from eval.suites.prompt_files import read_prompts
    from lingen_kit.commands.evaluate.suite_options import build_suite

    if options.ckpt and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("--ckpt samples in one process: call it without torchrun first, then score OUT/videos with it")
    if options.weights:
        words = [f"--suite.weights={options.weights}", *words]
    suite = build_suite(options.suite, words)
    if options.ckpt:
        suite = suite.suited_to(_grammar(options.ckpt))
    texts = read_prompts(options.prompts) if options.prompts else None
    out = options.out or Path("evaluations") / _named(options, suite.name)
    videos = options.videos or out / "videos"
    excluded: list[tuple[str, str]] = []
    if options.ckpt:
        wanted = [suite.prompt_of(text) for text in texts] if texts else list(suite.prompts())
        if not wanted:
            raise ValueError(f"the suite {suite.name} has no prompts of its own: give --prompts FILE, a prompt a line")
        excluded += _sample(options, wanted, videos)
    items, left_out = _items(suite, videos, texts)
    excluded += left_out
    content = evaluate(
        suite,
        items,
        out / "journal.jsonl",
        excluded=excluded,
        workers=options.workers,
        timeout=options.timeout,
    )
    if int(os.environ.get("RANK", 0)):
        return  # another rank writes
    write_scores(out / "scores.json", content)
    board = _board(content, suite)
    page = write_report(content, out / "report.html", videos, board.rows if board else None)
    print(_table(content))
    if board:
        print(f"\n{board.text}")
    print(f"\nscores  {out / 'scores.json'}, scores.csv\nreport  {page}")


def _parser(verb: str) -> argparse.ArgumentParser:
    from lingen_kit.commands.evaluate import VERBS

    width = max(map(len, VERBS))
    verbs = "\n".join(f"  python -m lingen_kit {verb} {name:{width}}  {line}" for name, (_, line) in VERBS.items())
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Score the videos of a folder, or those that a checkpoint makes of the suite's prompts. Each\n"
        "video is decoded once; its scores are kept as soon as they are there, so that a call that was killed\n"
        "goes on where it stopped. Writes scores.json, scores.csv and report.html.",
        epilog="suites (class paths, so that your own will do: --suite mine.MySuite):\n"
        "  Custom      videos of any prompts: consistency, smoothness, dynamics, imaging (default; needs no network)\n"
        "  ShapeBench  moving shapes, judged against the truth that their prompts state\n"
        "  VBench      the 16 dimensions on the official prompts; --suite.full_info VBench_full_info.json\n"
        "  VBenchLong  the same for long videos, clip by clip\n"
        "  Drift       how much a long video loses on the way\n"
        "  --suite NAME --suite.help   the options of a suite\n\n"
        f"other verbs:\n{verbs}\n\n"
        "examples:\n"
        f"  python -m lingen_kit {verb} --videos clips\n"
        f"  python -m lingen_kit {verb} --ckpt runs/quickstart/version_0/checkpoints/last.ckpt --suite ShapeBench",
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--ckpt",
        type=model,
        metavar="FILE",
        help="checkpoint to sample from, a folder that `export` wrote, or a model of the zoo: zoo:lingen-shapes",
    )
    source.add_argument(
        "--videos", type=Path, metavar="DIR", help="folder of videos, with metadata.jsonl if there is one"
    )
    add("--suite", default="Custom", metavar="NAME", help="what to score for (default Custom)")
    add(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="prompts, one a line, in place of the suite's own (.txt, .csv, .jsonl)",
    )
    add("--weights", type=Path, metavar="DIR", help="folder of networks' weights, see `evaluate weights`")
    add("--out", type=Path, metavar="DIR", help="folder to write to (default evaluations/NAME_SUITE)")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    add("--workers", type=positive, default=cores, metavar="N", help="processes that score (default: one a core)")
    add("--timeout", type=seconds, default=86400.0, metavar="SECONDS", help="a video that takes longer is given up")
    add("--samples", type=positive, metavar="N", help="with --ckpt: videos a prompt (default: as the suite asks)")
    add(
        "--seed",
        type=number(int, "whole number, such as 7", least=0),
        default=0,
        help="with --ckpt: of the first video",
    )
    add("--steps", type=positive, help="with --ckpt: solver steps (default: as trained)")
    add(
        "--guidance",
        type=number(float, "number, such as 2.5"),
        help="with --ckpt: guidance scale (default: as trained)",
    )
    add("--batch_size", type=positive, default=16, help="with --ckpt: videos sampled at a time (default 16)")
    add("--device", default="auto", help="with --ckpt: auto, cpu, cuda or cuda:N (default auto)")
    return parser


def _named(options: argparse.Namespace, suite: str) -> str:
    """A folder name that says what was scored."""
    if options.videos is not None:
        name = options.videos.resolve().name
    else:
        parts = options.ckpt.resolve().parts
        within = parts[parts.index("runs") + 1 :] if "runs" in parts else parts[-1:]
        name = "_".join(part for part in within if part != "checkpoints").removesuffix(".ckpt")
    return re.sub(r"[^\w.-]+", "_", f"{name}_{suite}").strip("_.")


def _sample(options: argparse.Namespace, prompts: "Sequence[Prompt]", out: Path) -> list[tuple[str, str]]:
    """Sample what is not there yet; names and reasons of what the model made no video of.

    Raises:
        ValueError: If the folder holds videos of another checkpoint or of other options.
    """
    from lingen_kit.commands.sampling import METADATA, Wish, write_samples
    from lingen_kit.data.jobs import progress
    from lingen_kit.release.loading import load_model

    pipeline = load_model(options.ckpt).to(device(options.device))
    sampler = pipeline.sampler.changed(steps=options.steps, guidance=options.guidance)
    status = options.ckpt.stat()
    record = {"ckpt": str(options.ckpt), "written": status.st_mtime_ns, **vars(sampler)}
    texts = [prompt.text for prompt in prompts for _ in range(options.samples or prompt.samples)]
    times: Counter[str] = Counter()  # a suite may have a prompt twice: then it wants two videos of it
    wishes = []
    for place, text in enumerate(texts):
        wishes.append((place, Wish(text, options.seed + times[text])))
        times[text] += 1
    lines = _lines(out / METADATA)
    for line in lines:
        differs = [name for name, value in json.loads(json.dumps(record)).items() if line.get(name) != value]
        if differs:
            raise ValueError(
                f"{out} holds videos with another {differs[0]} ({line.get(differs[0])}); name another folder with --out"
            )
    there = {(line["text"], line["seed"]) for line in lines if (out / line["file_name"]).is_file()}
    missing = [(number, wish) for number, wish in wishes if (wish.prompt, wish.seed) not in there]
    problems = []
    with progress("sampling", len(wishes), len(wishes) - len(missing)) as advance:
        for written in write_samples(
            pipeline,
            missing,
            out,
            options={"sampler": sampler},
            record=record,
            fps=pipeline.fps,
            batch_size=options.batch_size,
        ):
            advance(failed=bool(written.problem))
            if written.problem:
                problems.append((f"{written.wish.prompt}, seed {written.wish.seed}", written.problem))
    return problems


def _lines(path: Path) -> list[dict[str, Any]]:
    """What a `metadata.jsonl` says; a last line that was cut off is dropped from the file, so that more can follow."""
    if not path.is_file():
        return []
    whole = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    path.write_text("".join(whole), encoding="utf-8")
    return [json.loads(line) for line in whole]


def _items(suite: "Suite", folder: Path, texts: Sequence[str] | None) -> "tuple[list[Item], list[tuple[str, str]]]":
    """The videos of a folder with what the suite asks of each, and what is left out and why."""
    from eval.run import Item
    from eval.video_folder import match_videos

    known = {prompt.text: prompt for prompt in suite.prompts()}
    wanted = list(known) if texts is None and suite.fixed_prompts else texts
    matched = match_videos(folder, wanted)
    items, excluded = [], list(matched.problems)
    for match in matched.videos:
        name = match.path.relative_to(folder).as_posix()
        try:
            text = match.prompt or ""
            items.append(Item(name, match.path, known.get(text) or suite.prompt_of(text)))
        except ValueError as error:
            excluded.append((name, str(error)))
    return items, excluded


def _grammar(ckpt: Path) -> dict[str, Any]:
    """The words of the moving shapes that a checkpoint was trained on; empty if it was trained on something else."""
    import yaml

    from lingen_kit.checkpoint import CONFIG_KEY, read_checkpoint
    from lingen_kit.release.folder import read_release

    if ckpt.is_dir():
        data = read_release(ckpt).config.get("data") or {}  # folders of older exports do not say
    else:
        data = yaml.safe_load(read_checkpoint(ckpt)[CONFIG_KEY]).get("data") or {}
    if data.get("class_path") != "lingen_kit.data.MovingShapes":
        return {}
    return dict(data.get("init_args", {}))


def _board(content: dict[str, Any], suite: "Suite") -> Any | None:
    """Our row inside the published table of the suite, if there is one and our figures are comparable."""
    from eval.leaderboard import placed

    return placed(content, suite.name)


def _table(content: dict[str, Any]) -> str:
    """Figures, totals, and what is missing, for the terminal."""
    from lingen_kit.data.survey.units import shortened

    lines = []
    width = max(map(len, [*content["figures"], *content["totals"], *content["refused"]]), default=0)
    for name, value in content["figures"].items():
        shown = "       -" if value is None else f"{value:8.4f}"
        note = _note(value, [video["scores"][name] for video in content["videos"] if name in video["scores"]])
        lines.append(f"{name:{width}}  {shown}  {note}".rstrip())
    lines += [f"{name:{width}}  {value:8.4f}" for name, value in content["totals"].items()]
    lines += [f"{name:{width}}         -  {reason}" for name, reason in content["refused"].items()]
    if content["excluded"]:
        lines.append(f"\nleft out: {len(content['excluded'])}")
        lines += [f"  {shortened(row['name'], _NAME_WIDTH)}: {row['reason']}" for row in content["excluded"][:_SHOWN]]
        if len(content["excluded"]) > _SHOWN:
            lines.append(f"  and {len(content['excluded']) - _SHOWN} more, in scores.json")
    return "\n".join(lines)


def _note(value: float | None, scores: Sequence[Mapping[str, Any]]) -> str:
    """How many videos a figure is of, and why others, or all, are not in it."""
    if not scores:
        return "" if value is not None else "no video was asked for it"
    count = sum(score["value"] is not None for score in scores)
    told = f"{count} video{'s' * (count != 1)}"
    if count < len(scores):
        why = next(score["why"] for score in scores if score["value"] is None)
        return f"{told}; {len(scores) - count} without: {why}"
    return told if value is not None else f"none of {told} counts in it, such as those that are not static"
