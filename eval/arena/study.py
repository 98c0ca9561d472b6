"""What raters are shown: a prompt by two models, all pairs and both sides equally often, in an order of their own.

The order follows from the rater's name alone, so a reload, another day or another server goes on with the same list.
"""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, zip_longest
from pathlib import Path

from eval.video_folder import match_videos

__all__ = ["Study", "Task", "read_study"]


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
        prompts: Those of which every model has a video.
        problems: Names and reasons of what was left out.
    """

    videos: Mapping[tuple[str, str], Path]
    models: tuple[str, ...]
    prompts: tuple[str, ...]
    problems: tuple[tuple[str, str], ...] = ()

    def tasks(self, rater: str) -> list[Task]:
        """All comparisons in a rater's order.

        Pairs of models take turns, so that whoever stops early has seen all of them about equally often; within a pair
        the sides change from one comparison to the next.
        """
        draw = random.Random(hashlib.sha256(rater.encode()).digest())
        pairs = list(combinations(self.models, 2))
        draw.shuffle(pairs)
        columns = []
        for first, second in pairs:
            prompts = list(self.prompts)
            draw.shuffle(prompts)
            turned = draw.random() < 0.5
            column = []
            for place, prompt in enumerate(prompts):
                left, right = (second, first) if (place % 2 == 0) == turned else (first, second)
                column.append(Task(prompt, left, right))
            columns.append(column)
        return [task for row in zip_longest(*columns) for task in row if task is not None]


def read_study(folders: Sequence[Path], prompts: Sequence[str]) -> Study:
    """Match the folders of models to prompts; of several videos of a prompt the first counts.

    Args:
        folders: One a model, called after it.
        prompts: What was asked of all.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there are fewer than two models, two of one name, or no prompt of which all have a video.
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
    for name, folder in zip(names, folders, strict=True):
        matched = match_videos(folder, list(prompts))
        problems += [(f"{name}: {what}", reason) for what, reason in matched.problems]
        for match in matched.videos:
            if match.prompt is not None:
                videos.setdefault((name, match.prompt), match.path)
    shared = tuple(p for p in dict.fromkeys(prompts) if all((name, p) in videos for name in names))
    if not shared:
        raise ValueError(
            "there is no prompt of which every folder has a video:\n"
            + "\n".join(f"  {what}: {reason}" for what, reason in problems[:10])
        )
    return Study(videos, tuple(names), shared, tuple(problems))
