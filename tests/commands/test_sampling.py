import json
from pathlib import Path
from typing import Any

import torch

from lingen_kit.commands.sampling import Wish, slug, write_samples


class Diverged:
    """A model whose second video is NaN."""

    device = torch.device("cpu")

    def __call__(self, prompts: list[str], **options: Any) -> torch.Tensor:
        assert options["steps"] == 3 and len(options["seed"]) == len(options["negative_prompts"]) == len(prompts)
        videos = torch.zeros(len(prompts), 3, 2, 16, 16)
        for index, seed in enumerate(options["seed"]):
            videos[index] += float("nan") if seed == 1 else 0.1 * seed
        return videos


def test_a_video_of_nan_is_named_and_the_others_are_written(tmp_path: Path) -> None:
    wishes = [(10 + seed, Wish('a "cat" / \U0001f600', seed, "blur" * (seed == 2))) for seed in range(3)]
    written = list(
        write_samples(
            Diverged(),  # type: ignore[arg-type]
            wishes,
            tmp_path / "out",
            options={"steps": 3},
            record={"ckpt": "x"},
            fps=8,
            batch_size=2,
        )
    )
    assert [bool(sample.problem) for sample in written] == [False, True, False]
    assert "NaN or infinite values" in written[1].problem and written[1].path is None
    names = sorted(path.name for path in (tmp_path / "out").glob("*.mp4"))
    assert names == ["0010_a_cat.mp4", "0012_a_cat.mp4"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    assert [line["seed"] for line in lines] == [0, 2]
    assert lines[0]["text"] == 'a "cat" / \U0001f600' and lines[0]["ckpt"] == "x"
    assert [line.get("negative_prompt") for line in lines] == [None, "blur"]


def test_names_of_files_fit_everywhere() -> None:
    assert slug("\U0001f600 / ?") == "empty"
    assert len(slug("x" * 300)) == 60
