"""What raters are shown: a prompt by two models, all pairs and both sides equally often, in an order of their own.

The order follows from the rater's name alone, so a reload, another day or another server goes on with the same list.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from eval.video_folder import match_videos

__all__ = ["Study", "Task", "read_study"]

_PLAYED = {".mp4", ".m4v", ".webm", ".mov", ".ogv"}  # what browsers may play; what is inside decides


@dataclass(frozen=True)
class Task:
    """One comparison.

    Attributes:
        prompt: What both videos were made for.
        left: Name of the model on the left.
        right: Name of the one on the right.
    """

    prompt: str
    left: str
    right: str

    @property
    def key(self) -> tuple[str, str, str]:
        """The same for both sides: a rater answers each comparison once."""
        first, second = sorted((self.left, self.right))
        return self.prompt, first, second


@dataclass(frozen=True)
class Study:
    """Models, prompts, and a video for each of both.

    Attributes:
        videos: File by model and prompt.
        models: Their names.
        prompts: Those of which every model has a video.
        problems: Names and reasons of what was left out.
        notes: What else whoever leads the study should hear of.
    """

    videos: Mapping[tuple[str, str], Path]
    models: tuple[str, ...]
    prompts: tuple[str, ...]
    problems: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def tasks(self, rater: str) -> list[Task]:
        """All comparisons in a rater's order.

        Pairs of models take turns, and every pair goes round the same shuffled circle of prompts from another place,
        so that whoever stops early has seen all pairs, and all prompts, about equally often. Within a pair the sides
        change from one comparison to the next.
        """
        draw = random.Random(hashlib.sha256(rater.encode()).digest())
        pairs = list(combinations(sorted(self.models), 2))
        prompts = sorted(self.prompts)  # neither the order of the folders nor that of the prompts matters
        draw.shuffle(pairs)
        draw.shuffle(prompts)
        turned = [draw.random() < 0.5 for _ in pairs]
        apart = max(1, len(prompts) // len(pairs))
        tasks = []
        for turn in range(len(prompts)):
            for place, pair in enumerate(pairs):
                left, right = pair[::-1] if turned[place] != bool(turn % 2) else pair
                tasks.append(Task(prompts[(turn + place * apart) % len(prompts)], left, right))
        return tasks


def read_study(folders: Sequence[Path], prompts: Sequence[str], *, strict: bool = False) -> Study:
    """Match the folders of models to prompts; of several videos of a prompt the first counts.

    Args:
        folders: One a model, called after it.
        prompts: What was asked of all.
        strict: Refuse a study from which anything is left out.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there are fewer than two models, two of one name, no prompt of which all have a video, or, if
            `strict`, a file or a prompt that must be left out.
    """
    if len(folders) < 2:
        raise ValueError(f"{len(folders)} folder given: name two models at least")
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        # Folders of one name, such as lingen/videos and dit/videos, are told apart by the one above.
        names = ["/".join(folder.resolve().parts[-2:]) for folder in folders]
    if len(set(names)) < len(names):
        raise ValueError(f"two of the folders are called {max(names, key=names.count)!r}: rename one")
    videos: dict[tuple[str, str], Path] = {}
    problems: list[tuple[str, str]] = []
    notes: list[str] = []
    for name, folder in zip(names, folders, strict=True):
        matched = match_videos(folder, list(prompts), by_order=True)
        problems += [(f"{name}: {what}", reason) for what, reason in matched.problems]
        notes += [f"{name}: {note}" for note in matched.notes]
        for match in matched.videos:
            if match.prompt is not None:
                videos.setdefault((name, match.prompt), match.path)
        if several := len(matched.videos) - len({match.prompt for match in matched.videos}):
            notes.append(
                f"{name}: of some prompts there are several videos; the first is shown, {several} more are not"
            )
        odd = Counter(path.suffix for (model, _), path in videos.items() if model == name)
        for suffix in sorted(odd.keys() - _PLAYED):
            notes.append(
                f"{name}: {odd[suffix]} files are {suffix}, which browsers do not play as a video: make them .mp4"
            )
    shared = tuple(p for p in dict.fromkeys(prompts) if all((name, p) in videos for name in names))
    listed = "\n".join(f"  {what}: {reason}" for what, reason in problems)
    if not shared:
        raise ValueError(f"there is no prompt of which every folder has a video:\n{listed}")
    if strict and problems:
        raise ValueError(f"not everything can be shown, and that was asked for (--strict):\n{listed}")
    shown = {place: path for place, path in videos.items() if place[1] in shared}
    return Study(shown, tuple(names), shared, tuple(problems), tuple(notes))
