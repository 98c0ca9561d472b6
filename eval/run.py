"""Score a folder of videos: each is decoded once, for all metrics, and its scores are kept as soon as they are there.

The result does not depend on how many processes or ranks share the work, in what order, or how often it was cut off:
each video is scored by one process with one thread, and the table is made of all scores in the order of their names.

Letters: N frames of a chunk, H height, W width.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from eval.metric import Frames, Score, VideoFacts
from eval.suite import Prompt, Suite
from lingen_kit.data.decode import stream
from lingen_kit.data.decoding.container import open_video
from lingen_kit.data.decoding.still import is_still
from lingen_kit.data.jobs import run_jobs
from lingen_kit.data.jobs.journal import Outcome
from lingen_kit.data.media import UnreadableVideo
from lingen_kit.files import replacing
from lingen_kit.video import enlarged_by

__all__ = [
    "Item",
    "chunks_of",
    "evaluate",
    "read_scores",
    "score_file",
    "score_frames",
    "settings_of",
    "tabulate",
    "to_table",
    "write_scores",
]

FORMAT = 1
_CHUNK_BYTES = 24 * 2**20  # of frames that go by at once: enough for a network's batch, little beside the network
_MOST_IN_CHUNK = 32
_PACKAGES = ("lingen_kit", "torch", "torchvision", "timm", "numpy", "av")
_LONGEST = 24 * 3600.0  # seconds for a video: a long one through every network on a CPU takes hours


@dataclass(frozen=True)
class Item:
    """A video to score.

    Attributes:
        name: Its name in the results, unique.
        path: The file.
        prompt: What it was made for, and which figures are asked of it.
    """

    name: str
    path: Path
    prompt: Prompt = field(default_factory=lambda: Prompt(""))


def score_frames(suite: Suite, prompt: Prompt, facts: VideoFacts, chunks: Iterable[Frames]) -> dict[str, Any]:
    """Show a video once to all metrics that are asked of it.

    Args:
        suite: Whose metrics.
        prompt: Which of its figures are asked for.
        facts: What is known of the video; its number of frames is that of the chunks together.
        chunks: `(N, H, W, 3)` uint8 each.

    Returns:
        Size and scores as plain data: a video's row of `scores.json`, without its name and prompt.

    Raises:
        ValueError: If the frames are of another number or size than announced, or a metric cannot take them.
        TypeError: If they are not 8-bit: a NaN cast to 8 bits would be an ordinary color.
    """
    asked = prompt.metrics
    observers = [metric.observe(facts) for metric in suite.metrics() if asked is None or asked & set(metric.names)]
    seen = 0
    for chunk in chunks:
        if chunk.dtype != np.uint8:
            raise TypeError(f"frames are 8-bit RGB, got {chunk.dtype}; convert them, refusing NaN, first")
        if chunk.ndim != 4 or chunk.shape[1:] != (facts.height, facts.width, 3):
            raise ValueError(f"frames are (N, {facts.height}, {facts.width}, 3), got {chunk.shape}: the size changes")
        seen += len(chunk)
        for observer in observers:
            observer.update(chunk)
    if seen != facts.frames:
        raise ValueError(f"{facts.name} has {seen} frames and not the {facts.frames} that were announced")
    found = {name: score for observer in observers for name, score in observer.scores().items()}
    size = {name: getattr(facts, name) for name in ("frames", "fps", "height", "width")}
    kept = {name: vars(score) for name, score in sorted(found.items()) if asked is None or name in asked}
    return size | {"scores": kept}


def score_file(task: tuple[Suite, Item]) -> dict[str, Any]:
    """Decode a file once, for all metrics that are asked of it; its row as plain data.

    Raises:
        UnreadableVideo: If it cannot be decoded to its end.
        ValueError: If a metric cannot take it.
    """
    suite, item = task
    _one_thread()
    facts = _facts(item, _count(item.path))
    counted = _Counted(chunks_of(item.path))
    try:
        return score_frames(suite, item.prompt, facts, counted)
    except ValueError:
        # Packets without a picture, or two pictures in one: count what really comes, and look again.
        if not counted.complete or counted.frames == facts.frames:
            raise
    facts = replace(facts, frames=counted.frames)
    return score_frames(suite, item.prompt, facts, chunks_of(item.path))


def evaluate(
    suite: Suite,
    items: Sequence[Item],
    journal: Path,
    *,
    excluded: Sequence[tuple[str, str]] = (),
    workers: int = 1,
    timeout: float = _LONGEST,
) -> dict[str, Any]:
    """Score videos and make the table; a call that was cut off goes on where it stopped when it is made again.

    Args:
        suite: What to score them for.
        items: The videos.
        journal: File that keeps the scores of each video as soon as they are there.
        excluded: Names and reasons of what is left out from the start; they stay listed in the result.
        workers: Processes.
        timeout: Seconds that one video may take.

    Returns:
        The content of `scores.json`; see `docs/evaluation.md`.

    Raises:
        ValueError: If there is no video, or not one of them can be scored, or two have one name.
    """
    names = [item.name for item in items]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two videos are called {twice!r} in the results; give each its own name")
    if not items:
        raise ValueError(_nothing("there is no video to score", excluded))
    settings = settings_of(suite)
    keys = {item.name: _key(item) for item in items}
    tasks = {keys[item.name]: (suite, item) for item in items}
    outcomes = _shared(suite, tasks, journal, workers, timeout, {**settings, "code": _code()})
    rows, left_out = [], list(excluded)
    for item in sorted(items, key=lambda item: item.name):
        outcome = outcomes[keys[item.name]]
        if outcome.value is None:
            left_out.append((item.name, outcome.error or "it has no result"))
        else:
            rows.append((item, outcome.value))
    if not rows:
        raise ValueError(_nothing("not one video can be scored", left_out))
    return tabulate(suite, settings, rows, left_out)


def tabulate(
    suite: Suite,
    settings: Mapping[str, Any],
    rows: Sequence[tuple[Item, Mapping[str, Any]]],
    excluded: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """The content of `scores.json`: every score, the table made of them, and what made them.

    Args:
        suite: Whose table it is.
        settings: What the scores depend on, see `settings_of`.
        rows: The videos in order of their names, each with its size and scores as plain data (see `score_frames`).
        excluded: Names and reasons of what was left out.
    """
    scores: dict[str, list[tuple[Prompt, Score]]] = {}
    for item, row in rows:
        for figure, score in row["scores"].items():
            scores.setdefault(figure, []).append((item.prompt, Score(**score)))
    summary = suite.summarize(scores)
    return {
        **settings,
        "figures": dict(summary.figures),
        "totals": dict(summary.totals),
        "refused": dict(summary.refused),
        "excluded": [{"name": name, "reason": reason} for name, reason in sorted(excluded)],
        "videos": [{"name": item.name, "prompt": item.prompt.text, **row} for item, row in rows],
    }


def settings_of(suite: Suite) -> dict[str, Any]:
    """What scores depend on besides the videos: the suite with its networks, and the versions of packages."""
    return {"format": FORMAT, "suite": suite.settings(), "versions": versions()}


def versions() -> dict[str, str]:
    """The versions of what a score depends on."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_scores(path: Path, content: Mapping[str, Any]) -> None:
    """Write `scores.json` and, beside it, `scores.csv` with a row a video and a column a figure."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    with replacing(path.with_suffix(".csv")) as beside:
        beside.write_text(to_table(content), encoding="utf-8")


def to_table(content: Mapping[str, Any]) -> str:
    """The scores as CSV: a row a video; empty where a video has no such figure."""
    figures = sorted({figure for video in content["videos"] for figure in video["scores"]})
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["name", "prompt", "frames", "fps", "height", "width", *figures])
    for video in content["videos"]:
        values = [video["scores"].get(figure, {}).get("value") for figure in figures]
        row = [video[column] for column in ("name", "prompt", "frames", "fps", "height", "width")]
        writer.writerow([*row, *("" if value is None else value for value in values)])
    return text.getvalue()


def read_scores(path: Path) -> dict[str, Any]:
    """Read a `scores.json`, or that of a folder.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no such file.
    """
    path = path / "scores.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it is written by `python -m lingen_kit evaluate --out DIR`")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    missing = {"format", "suite", "videos", "figures"} - set(content if isinstance(content, dict) else ())
    if missing:
        raise ValueError(f"{path} is no file of scores: it has no {', '.join(sorted(missing))}")
    if content["format"] != FORMAT:
        raise ValueError(f"{path} has format {content['format']}; this version reads {FORMAT}")
    return content


class _Counted:
    """Chunks as they are, and how many frames they held.

    Attributes:
        frames: How many so far.
        complete: Whether the last one has gone by.
    """

    def __init__(self, chunks: Iterator[Frames]) -> None:
        self._chunks, self.frames, self.complete = chunks, 0, False

    def __iter__(self) -> Iterator[Frames]:
        for chunk in self._chunks:
            self.frames += len(chunk)
            yield chunk
        self.complete = True


def _key(item: Item) -> str:
    """A key that changes when the file does, or what is asked of it."""
    asked = sorted(item.prompt.metrics) if item.prompt.metrics is not None else None
    status = os.stat(item.path) if item.path.exists() else None
    state = f"{status.st_size} {status.st_mtime_ns}" if status else "missing"
    return json.dumps([item.name, state, item.prompt.text, asked, item.prompt.info], sort_keys=True)


def _shared(
    suite: Suite,
    tasks: Mapping[str, tuple[Suite, Item]],
    journal: Path,
    workers: int,
    timeout: float,
    settings: Mapping[str, Any],
) -> dict[str, Outcome]:
    """The outcomes of all tasks, those of other ranks too.

    Under `torchrun` or SLURM each rank scores every n-th video into a journal of its own, and all meet at the end.
    """
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    options: dict[str, Any] = {"settings": settings, "label": f"scoring ({suite.name})", "timeout": timeout}
    options["preload"] = ("torch", "eval.run")
    if ranks == 1:
        return run_jobs(score_file, tasks, journal, workers=workers, **options)
    import torch.distributed as dist

    own = {key: task for place, (key, task) in enumerate(sorted(tasks.items())) if place % ranks == rank}
    found = run_jobs(score_file, own, journal.with_suffix(f".{rank}{journal.suffix}"), workers=workers, **options)
    dist.init_process_group("gloo", timeout=timedelta(days=7))  # ranks wait for the one with the longest videos
    try:
        parts: list[dict[str, Outcome]] = [{} for _ in range(ranks)]
        dist.all_gather_object(parts, found)
    finally:
        dist.destroy_process_group()
    together = {key: outcome for part in parts for key, outcome in part.items()}
    return {key: together[key] for key in tasks}


def _code() -> str:
    """A hash of the code that scores: what a journal holds is only as good as the code that wrote it."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _one_thread() -> None:
    """Sums depend on how many threads share them in their last digits: one, always."""
    import torch

    torch.set_num_threads(1)


def _count(path: Path) -> int:
    if is_still(path):
        return 1
    with open_video(path) as video:
        return video.count()


def _facts(item: Item, frames: int) -> VideoFacts:
    """What is announced of a file, from its first frame and its header."""
    fps, enlarged = 1.0, 1
    if not is_still(item.path):
        with open_video(item.path) as video:
            fps, enlarged = video.fps, enlarged_by(video.container.metadata.get("comment", ""))
    frames_of_file = stream(item.path)
    try:
        first = next(frames_of_file, None)
    finally:
        frames_of_file.close()  # type: ignore[attr-defined]  # a generator
    if first is None:
        raise UnreadableVideo(item.path, "it contains no frame")
    height, width = first[1].shape[:2]
    return VideoFacts(item.name, frames, fps, height, width, item.prompt.text, item.prompt.info, enlarged)


def chunks_of(path: Path) -> Iterator[Frames]:
    """The frames of a file from the first to the last, in chunks `(N, H, W, 3)` of a few dozen MB at most.

    Raises:
        UnreadableVideo: If it cannot be decoded; perhaps after some chunks.
    """
    chunk: list[Frames] = []
    for _, picture in stream(path):
        chunk.append(picture)
        if len(chunk) >= max(1, min(_MOST_IN_CHUNK, _CHUNK_BYTES // picture.size)):
            yield np.stack(chunk)
            chunk = []
    if chunk:
        yield np.stack(chunk)


def _nothing(what: str, rows: Sequence[tuple[str, str]]) -> str:
    named = "".join(f"\n  {name}: {reason}" for name, reason in rows[:20])
    more = f"\n  and {len(rows) - 20} more" if len(rows) > 20 else ""
    return what + (f":{named}{more}" if rows else "")
