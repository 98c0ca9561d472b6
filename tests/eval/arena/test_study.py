import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from eval.arena.study import Study, read_study

PROMPTS = [f"prompt {number}" for number in range(9)] + ['a/b "c" \U0001f600 ' + "x" * 280]


def folder(root: Path, name: str, prompts: list[str]) -> Path:
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
    for rater in ("anna", "ben", "\u00e9va \U0001f600"):
        tasks = study.tasks(rater)
        assert {task.key for task in tasks} == {
            (prompt, *pair) for prompt in PROMPTS for pair in (("a", "b"), ("a", "c"), ("b", "c"))
        }
        assert len(tasks) == 3 * 10
        assert set(Counter((task.left, task.right) for task in tasks).values()) == {5}


def test_whoever_stops_early_has_seen_pairs_sides_and_prompts_about_equally_often(tmp_path: Path) -> None:
    for models, prompts in ((2, 7), (3, 9), (3, 10), (4, 5), (5, 3)):
        names, texts = [f"m{i}" for i in range(models)], [f"p{i}" for i in range(prompts)]
        study = Study({}, tuple(names), tuple(texts))
        for rater in ("anna", "ben", "cleo"):
            tasks = study.tasks(rater)
            for end in range(1, len(tasks) + 1):
                seen = tasks[:end]
                pairs = Counter({pair: 0 for pair in combinations(names, 2)})
                pairs.update(task.key[1:] for task in seen)
                shown = Counter({text: 0 for text in texts})
                shown.update(task.prompt for task in seen)
                assert max(pairs.values()) - min(pairs.values()) <= 1
                assert max(shown.values()) - min(shown.values()) <= 2
                for pair in pairs:
                    left = sum(task.left == pair[0] for task in seen if task.key[1:] == pair)
                    assert abs(2 * left - pairs[pair]) <= 1


def test_over_many_raters_each_comparison_comes_on_both_sides(three: list[Path]) -> None:
    study = read_study(three, PROMPTS)
    left = Counter(task for number in range(400) for task in study.tasks(f"rater {number}"))
    assert len(left) == 60  # both orders of all 30
    assert min(left.values()) >= 150 and max(left.values()) <= 250  # of 400, where chance strays by 10


def test_the_order_is_the_raters_own_and_the_same_every_time(three: list[Path]) -> None:
    study = read_study(three, PROMPTS)
    assert study.tasks("anna") == read_study(three, PROMPTS).tasks("anna")
    assert study.tasks("anna") != study.tasks("ben")
    # Nor does it matter in which order the folders and the prompts are named.
    assert study.tasks("anna") == read_study(three[::-1], PROMPTS[::-1]).tasks("anna")


def test_prompts_that_a_model_lacks_are_named_and_left_out(tmp_path: Path) -> None:
    folders = [folder(tmp_path, "a", PROMPTS), folder(tmp_path, "b", PROMPTS[1:])]
    study = read_study(folders, PROMPTS)
    assert study.prompts == tuple(PROMPTS[1:])
    assert ("b: prompt 0", "no video of this prompt") in study.problems
    assert {prompt for _, prompt in study.videos} == set(PROMPTS[1:])
    with pytest.raises(ValueError, match=r"(?s)--strict.*b: prompt 0: no video of this prompt"):
        read_study(folders, PROMPTS, strict=True)
    assert read_study(folders, PROMPTS[1:]).problems == (
        ("a: 0.mp4", f"its text is none of the 9 prompts: {PROMPTS[0]!r}"),
    )


def test_what_the_leader_of_a_study_should_hear_of(tmp_path: Path) -> None:
    for name in ("0.gif", "1.gif"):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / name).write_bytes(b"x")
    (tmp_path / "b").mkdir()
    for name in ("one-0.mp4", "one-1.mp4", "two-0.mp4"):
        (tmp_path / "b" / name).write_bytes(b"x")
    study = read_study([tmp_path / "a", tmp_path / "b"], ["one", "two"])
    assert study.prompts == ("one", "two") and not study.problems
    order, kind, several = study.notes
    assert order.startswith("a: no file is named after a prompt, so the 2 files are taken in their order")
    assert kind == "a: 2 files are .gif, which browsers do not play as a video: make them .mp4"
    assert several == "b: of some prompts there are several videos; the first is shown, 1 more are not"
    assert study.videos["b", "one"].name == "one-0.mp4"


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
