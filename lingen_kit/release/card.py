"""The model card of an export: Markdown with a header that the Hugging Face hub reads."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from lingen_kit import __version__
from lingen_kit.models.frozen import frozen_networks
from lingen_kit.models.weights import FILE
from lingen_kit.release.folder import CONFIG, SHEET
from lingen_kit.release.loading import PIPELINE
from lingen_kit.release.options import class_paths, folders_named, without_folders
from lingen_kit.release.run import Score, read_obedience, read_scores, read_sheet
from lingen_kit.release.source import Source

_PROMPT = "a red circle moves left"


def model_card(name: str, source: Source, *, dtype: str, license: str, run: Path | None) -> str:
    """Write the card.

    Args:
        name: Title.
        source: What is exported.
        dtype: What matrices are stored in.
        license: As the hub names it, such as `apache-2.0`.
        run: Folder of the training run, for scores and samples; None if there is none.
    """
    videos = source.class_path == PIPELINE
    sections = [
        _front(videos, license),
        f"# {name}\n\n{_summary(source, dtype)}",
        f"## How to use\n\n{_usage(name, source) if videos else _usage_as_part(name, source)}",
        *_needs(source),
    ]
    if run is not None and read_sheet(run, source.step) is not None:
        sections.append(f"## Samples\n\nMade during training, a row a prompt.\n\n![samples]({SHEET})")
    sections += [
        f"## Parameters\n\n{_table(('part', 'class', 'parameters', 'in the file'), _parts(source.model))}",
        f"## Data\n\n{_yaml(without_folders(source.training.get('data')))}",
        f"## Training\n\n{_table(('', ''), _training(source))}",
    ]
    scores = read_scores(run, source.step) if run is not None else []
    if run is not None and scores:
        sections.append(f"## Scores\n\n{_scores(scores, source, read_obedience(run, source.step))}")
    sections.append(f"## Configuration\n\n{_yaml(without_folders(source.init_args, hub=True))}")
    return "\n\n".join(sections) + "\n"


def _front(videos: bool, license: str) -> str:
    header: dict[str, Any] = {"license": license, "library_name": "lingen_kit"}
    header |= {"pipeline_tag": "text-to-video"} if videos else {}
    header["tags"] = ["text-to-video" if videos else "video-autoencoder", "lingen_kit"]
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---"


def _summary(source: Source, dtype: str) -> str:
    kind = "Exponential moving average of the weights" if source.average else "Trained weights, not averaged,"
    made = f"{kind} at step {source.step:,}, matrices in {dtype}. Trained and exported with lingen_kit {__version__}."
    if source.class_path != PIPELINE:
        return f"An autoencoder of videos. {made}"
    frames, height, width, fps = (source.init_args[name] for name in ("frames", "height", "width", "fps"))
    size = "x".join(map(str, source.model.autoencoder.latent_size((frames, height, width))))  # type: ignore[operator,union-attr]
    return (
        f"A text-to-video model: {frames} frames of {height}x{width} pixels at {fps:g} frames a second, decoded from "
        f"latents of {size}. {made}"
    )


def _usage(name: str, source: Source) -> str:
    return f"""```python
from lingen_kit import Pipeline
pipe = Pipeline.from_pretrained("{name}")  # the folder, or ORG/NAME on the hub
pipe("{_PROMPT}").save("video.mp4")
```

or, from a folder, `python -m lingen_kit sample --ckpt {name} --prompt "{_PROMPT}"`. The classes that `{CONFIG}`
names are imported when it is loaded; nothing in `{FILE}` is executed."""


def _usage_as_part(name: str, source: Source) -> str:
    entry = {"class_path": source.class_path, "init_args": source.init_args | {"weights": name}}
    return (
        "As the autoencoder of a text-to-video model, with the path to this folder as `weights`:\n\n"
        f"{_yaml({'model': {'init_args': {'autoencoder': entry}}})}"
    )


def _needs(source: Source) -> list[str]:
    """What the folder does not hold."""
    options = {"class_path": source.class_path, "init_args": source.init_args}
    modules = sorted({path.partition(".")[0] for path in class_paths(options)} - {"lingen_kit", "torch"})
    lines = [f"- the Python module `{module}`, on PYTHONPATH" for module in modules]
    lines += [
        f"- `{key}`: {without_folders(path)}, a folder whose place `{CONFIG}` names"
        for key, path in folders_named(source.init_args)
    ]
    lines += [f"- the pretrained network of `{name.removesuffix('.frozen')}`, which is not in the file"
              for name, _ in frozen_networks(source.model)]  # fmt: skip
    return ["## What it needs besides\n\n" + "\n".join(lines)] if lines else []


def _parts(model: nn.Module) -> Iterator[tuple[str, str, str, str]]:
    """Rows: each part of the model and the frozen networks in it."""
    parts = dict(model.named_children()) if hasattr(model, "denoiser") else {"autoencoder": model}
    for name, part in parts.items():
        yield name, type(part).__name__, f"{sum(p.numel() for p in part.parameters()):,}", "yes"
        for _, network in frozen_networks(part):
            yield name, type(network).__name__, f"{sum(p.numel() for p in network.parameters()):,}", "no, frozen"


def _training(source: Source) -> Iterator[tuple[str, str]]:
    """Rows: how the model was trained."""
    run, task = source.training, source.training["model"].get("init_args", {})
    trainer, data = run.get("trainer", {}), run.get("data") or {}
    yield "run", str(run.get("name"))
    yield "task", source.training["model"]["class_path"]
    planned = trainer.get("max_steps") or -1
    yield "steps", f"{source.step:,}" + (f" of {planned:,}" if planned > 0 else "")
    batch = (data.get("init_args") or {}).get("batch_size")
    if batch is not None:
        yield "batch", f"{batch} a rank, {trainer.get('accumulate_grad_batches', 1)} accumulated"
    yield "devices", f"{trainer.get('devices')}, {trainer.get('num_nodes')} nodes, strategy {trainer.get('strategy')}"
    optimizer = task.get("optimizer") or {}
    if isinstance(optimizer, dict):
        given = {name: value for name, value in optimizer.get("init_args", {}).items() if value is not None}
        options = ", ".join(f"{name} {value}" for name, value in given.items() if value is not False)
        yield "optimizer", f"{optimizer.get('class_path', 'torch.optim.AdamW')}: {options}"
    for name in ("warmup_steps", "schedule_steps", "final_lr_ratio", "caption_dropout", "trainable"):
        if task.get(name) is not None:
            yield name, str(task[name])
    for name in ("precision", "gradient_clip_val"):
        if trainer.get(name) is not None:
            yield name, str(trainer[name])
    yield "EMA decay", str((run.get("ema") or {}).get("decay"))
    yield "seed", str(run.get("seed_everything"))
    if run.get("start_from"):
        yield "started from", str(without_folders(run["start_from"]))


def _scores(scores: Sequence[Score], source: Source, obedience: dict[str, Any]) -> str:
    rows = [(score.name, f"{score.value:.4g}", f"{score.step:,}") for score in scores]
    text = _table(("metric", "value", "step"), rows)
    if obedience:
        chosen = {"steps": obedience["steps"], "guidance": obedience["guidance"]}
        how = ", ".join(f"{name} {'as configured' if value is None else value}" for name, value in chosen.items())
        text += (
            f"\n\n`obedience/...` are shares of {obedience['prompts']} held-out prompts that samples obey ({how}, seed "
            f"{obedience['seed']})."
        )
    if not source.average:
        text += "\n\nThey were measured with the average of the weights where the run kept one, not with these."
    return text


def _table(head: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', ' ') for cell in line)} |" for line in lines)


def _yaml(options: Any) -> str:
    return f"```yaml\n{yaml.safe_dump(options, sort_keys=False, default_flow_style=None, width=100)}```"
