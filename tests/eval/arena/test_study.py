from collections import Counter
from pathlib import Path

import pytest

from eval.arena.study import read_study

PROMPTS = [f"prompt {number}" for number in range(9)] + ['a/b "c" \U0001f600 ' + "x" * 280]


def folder(root: Path, name: str, prompts: list[str]) -> Path:
    import json

    (root / name).mkdir(parents=True)
    lines = []
    for number, prompt in enumerate(prompts):
        (root / name / f"{number}.mp4").write_bytes(f"{name} {number}".encode())
        lines.append(json.dumps({"file_name": f"{number}.mp4", "text": prompt}))
    (root / name / "metadata.jsonl").write_text("\n".join(lines))
    return root / name


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    return [folder(tmp_path, name, PROMPTS) for name in ("a", "b", "c")]


def test_every_pair_and_prompt_comes_once_and_both_sides_equally_often(three: list[Path]) -> None:
    study = read_study(three, PROMPTS)
    tasks = study.tasks("anna")
    assert len({task.key for task in tasks}) == len(tasks) == 3 * 10
    left = Counter((task.left, task.right) for task in tasks)
    assert set(left.values()) == {5}
    # Whoever stops early has seen all pairs equally often.
    for end in (6, 15, 24):
        seen = Counter(task.key[1:] for task in tasks[:end])
        assert max(seen.values()) - min(seen.values()) <= 1


def test_the_order_is_the_raters_own_and_the_same_every_time(three: list[Path]) -> None:
    study = read_study(three, PROMPTS)
    assert study.tasks("anna") == read_study(three, PROMPTS).tasks("anna")
    assert study.tasks("anna") != study.tasks("ben")


def test_prompts_that_a_model_lacks_are_named_and_left_out(tmp_path: Path) -> None:
    folders = [folder(tmp_path, "a", PROMPTS), folder(tmp_path, "b", PROMPTS[1:])]
    study = read_study(folders, PROMPTS)
    assert study.prompts == tuple(PROMPTS[1:])
    assert ("b: prompt 0", "no video of this prompt") in study.problems


def test_studies_that_cannot_be_are_refused(tmp_path: Path) -> None:
    one = folder(tmp_path, "a", PROMPTS[:2])
    with pytest.raises(ValueError, match="name two models at least"):
        read_study([one], PROMPTS)
    other = folder(tmp_path, "b", ["something else"])
    with pytest.raises(ValueError, match="no prompt of which every folder has a video"):
        read_study([one, other], PROMPTS[:2])
    with pytest.raises(ValueError, match="rename one"):
        read_study([one, one], PROMPTS[:2])
    same = [folder(tmp_path, f"{name}/videos", PROMPTS[:2]) for name in ("x", "y")]
    assert read_study(same, PROMPTS[:2]).models == ("x/videos", "y/videos")
