import json
from pathlib import Path

import pytest

from eval.aggregation import QUALITY, SEMANTIC
from eval.official import read_official, to_official


def results(tmp_path: Path, name: str, content: object) -> Path:
    path = tmp_path / name
    path.write_text(json.dumps(content) if not isinstance(content, str) else content)
    return path


def one(value: float) -> list[object]:
    return [value, [{"video_path": "videos/a dog-0.mp4", "video_results": value}]]


def test_results_of_all_dimensions_give_the_totals(tmp_path: Path) -> None:
    half = results(tmp_path, "a_eval_results.json", {name: one(0.8) for name in QUALITY})
    rest = results(tmp_path, "b_eval_results.json", {name: one(0.2) for name in SEMANTIC})
    content = read_official([half, rest])
    assert set(content["totals"]) == {"quality_score", "semantic_score", "total_score"}
    assert content["videos"][0]["prompt"] == "a dog"
    assert content["videos"][0]["scores"]["color"]["value"] == 0.2
    assert content["suite"]["computed"] == "elsewhere"
    assert read_official([tmp_path])["totals"] == content["totals"]
    assert read_official([half])["refused"]["total_score"].startswith("object_class, multiple_objects")


def test_there_and_back(tmp_path: Path) -> None:
    given = {"subject_consistency": one(0.97), "color": one(0.5)}
    content = read_official([results(tmp_path, "x.json", given)])
    assert to_official(content) == given


def test_results_of_vbench_2_have_names_of_their_own(tmp_path: Path) -> None:
    content = read_official([results(tmp_path, "x.json", {"Human_Anatomy": one(0.7)})])
    assert content["figures"] == {"vbench2/Human_Anatomy": 0.7}
    assert not content["totals"] and not content["refused"]


def test_figures_of_other_extractors_have_no_place_in_their_files() -> None:
    with pytest.raises(ValueError, match="none of the figures is VBench's"):
        to_official({"figures": {"subject_consistency/lite": 0.9}, "videos": []})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ([], "should hold dimensions by name"),
        ({"color": 0.5}, "color should be [figure, list of videos], and is '0.5'"),
        ({"color": [float("nan"), []]}, "color should be [figure"),
        ({"color": [0.5, [{"video": "a"}]]}, "color has a video without video_path and video_results"),
        ({"color": [0.5, [{"video_path": "a", "video_results": float("nan")}]]}, "color of a is NaN"),
    ],
)
def test_damaged_results_are_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_official([results(tmp_path, "x.json", content)])
    assert message in str(caught.value)


def test_a_dimension_twice_and_files_that_are_not_there(tmp_path: Path) -> None:
    files = [results(tmp_path, name, {"color": one(0.5)}) for name in ("a.json", "b.json")]
    with pytest.raises(ValueError, match="color stands in another of the files, too"):
        read_official(files)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_official([tmp_path / "none.json"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no result file"):
        read_official([tmp_path / "empty"])
