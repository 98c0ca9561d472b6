"""Videos of a model as files, with a `metadata.jsonl` beside them: a folder of clips that training reads, too."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import torch

    from lingen_kit.pipeline import TextToVideoPipeline

METADATA = "metadata.jsonl"


class Wish(NamedTuple):
    """A video that is wanted."""

    prompt: str
    seed: int
    negative: str = ""


class Written(NamedTuple):
    """A video that was written; `path` is None where the model made no video of it, and `problem` says why."""

    wish: Wish
    path: Path | None
    video: "torch.Tensor"
    problem: str = ""


def write_samples(
    pipeline: "TextToVideoPipeline",
    wishes: Sequence[tuple[int, Wish]],
    out: Path,
    *,
    options: Mapping[str, Any],
    record: Mapping[str, Any],
    fps: float,
    batch_size: int,
    format: Literal["mp4", "gif"] = "mp4",
) -> Iterator[Written]:
    """Sample videos and write each of them, a batch at a time.

    Args:
        pipeline: The model, on its device.
        wishes: What to sample, each with the number that begins its file's name.
        out: Folder to write to; it is made with the first video, so that a call that fails leaves nothing behind.
        options: Sizes and `sampler` for the pipeline.
        record: What the line of every video in `metadata.jsonl` says besides file, prompt and seed.
        fps: Frames per second of the files.
        batch_size: Videos sampled at a time.
        format: Of the files.

    Yields:
        Each video once it and its line are written. One with NaN is not written, and `problem` says so.
    """
    import torch

    from lingen_kit.video import write_gif, write_mp4

    write = {"mp4": write_mp4, "gif": write_gif}[format]
    for start in range(0, len(wishes), batch_size):
        batch = wishes[start : start + batch_size]
        with torch.autocast(pipeline.device.type, torch.bfloat16, enabled=pipeline.device.type == "cuda"):
            videos = pipeline(
                [wish.prompt for _, wish in batch],
                negative_prompts=[wish.negative for _, wish in batch],
                seed=[wish.seed for _, wish in batch],
                **options,
            ).cpu()
        out.mkdir(parents=True, exist_ok=True)
        with (out / METADATA).open("a", encoding="utf-8") as metadata:
            for (number, wish), video in zip(batch, videos, strict=True):
                path = out / f"{number:04d}_{slug(wish.prompt)}.{format}"
                try:
                    write(path, video, fps)
                except ValueError as error:
                    yield Written(wish, None, video, str(error))
                    continue
                line = {"file_name": path.name, "text": wish.prompt, "seed": wish.seed, **record}
                line |= {"negative_prompt": wish.negative} if wish.negative else {}
                metadata.write(json.dumps(line, ensure_ascii=False) + "\n")
                metadata.flush()
                yield Written(wish, path, video)


def slug(prompt: str) -> str:
    """A file name's worth of a prompt; the whole prompt is in `metadata.jsonl`."""
    return re.sub(r"\W+", "_", prompt.lower()).strip("_")[:60] or "empty"
