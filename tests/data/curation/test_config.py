"""A pipeline out of YAML, and what is wrong with one."""

from pathlib import Path

import pytest

from lingen_kit.data import curation
from lingen_kit.data.curation.config import read_pipeline
from lingen_kit.errors import MissingPackage

ROOT = Path(__file__).parents[3]
RECIPE = ROOT / "experiments" / "recipes" / "curate.yaml"

WRONG = {
    "no list": ("a: 1", "must hold a list `filters`"),
    "no YAML": ("filters: [", "is no YAML"),
    "unknown key": (
        "filters: [{class_path: C.Motion}]\nworkers: 3",
        "unknown key 'workers'; choose out of filters, shorter_side",
    ),
    "an option beside the class": (
        "filters: [{class_path: C.Motion, fps: 3}]",
        "unknown key 'fps' in filter 1; choose out of class_path, init_args",
    ),
    "no list of filters": ("filters: {class_path: C.Motion}", "filters must be a list"),
    "no frames": ("filters: [{class_path: C.Motion, init_args: {fps: 0}}]", "Motion: fps 0.0 must be above 0"),
    "less than none": ("filters: [{class_path: C.Frozen, init_args: {fps: -2}}]", "Frozen: fps -2.0 must be above 0"),
    "no size": (
        "filters: [{class_path: C.Sharpness, init_args: {size: 0}}]",
        "Sharpness: size 0 must be at least 1 pixel",
    ),
    "an empty word": (
        "filters: [{class_path: C.Sharpness}, {class_path: C.ConceptBalance, "
        "init_args: {concepts: {a: {words: [cat, ' * '], share: 0.5}}}}]",
        "the word ' * ' of a would match every caption",
    ),
    "an empty phrase": (
        "filters: [{class_path: C.CaptionQuality, init_args: {boilerplate: ['']}}]",
        "the boilerplate phrase '' would match every caption",
    ),
    "unknown option": (
        "filters: [{class_path: C.Motion, init_args: {min_speed: 1}}]",
        "unknown option 'min_speed' of Motion; choose out of min_motion, max_motion",
    ),
    "wrong type": ("filters: [{class_path: C.Motion, init_args: {min_motion: much}}]", "min_motion"),
    "wrong choice": ("filters: [{class_path: C.SceneCuts, init_args: {detector: clever}}]", "clever"),
    "no filter": (
        "filters: [{class_path: C.Moton}]",
        "'Moton'; choose out of Aesthetic, CaptionQuality, ConceptBalance, Duration, Exposure, Frozen, Motion,"
        " NearDuplicates, Resolution, SceneCuts, Sharpness",
    ),
    "not a filter": ("filters: [{class_path: C.Candidate}]", "Candidate"),
    "a value that cannot be": (
        "filters: [{class_path: C.SceneCuts, init_args: {min_length: 9, max_length: 10}}]",
        "max_length 10.0 must be at least twice min_length 9.0",
    ),
    "a score of no filter": (
        "filters: [{class_path: C.Motion}, {class_path: C.NearDuplicates}]",
        "keep_best 'sharpness' is the score of no filter; choose out of motion, shake",
    ),
    "a share": (
        "filters: [{class_path: C.Sharpness}, {class_path: C.ConceptBalance, "
        "init_args: {concepts: {a: {words: [x], part: 0.5}}}}]",
        "part",
    ),
    "no weights": ("filters: [{class_path: C.Aesthetic}]", "take the filter off the list"),
    "a small side": ("filters: [{class_path: C.Motion}]\nshorter_side: 8", "shorter_side 8 must be at least 32"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "curate.yaml"
    path.write_text(text.replace("C.", "lingen_kit.data.curation."))
    with pytest.raises(ValueError) as error:
        read_pipeline(path)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) <= 2
    assert "--print_config" not in str(error.value)  # an option of other verbs


def test_the_recipe_is_read_and_explains_itself() -> None:
    pipeline = read_pipeline(RECIPE)
    kinds = [type(each).__name__ for each in pipeline.filters]
    assert kinds == [
        "SceneCuts",
        "Resolution",
        "Exposure",
        "Frozen",
        "Sharpness",
        "Motion",
        "CaptionQuality",
        "NearDuplicates",
    ]
    text = RECIPE.read_text()
    for word in ("python -m lingen_kit data curate", "Cost:", "Expect:", "pip install"):
        assert word in text


def test_what_the_recipe_leaves_as_comments_can_be_added(tmp_path: Path) -> None:
    lines = RECIPE.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if "curation.ConceptBalance" in line)
    end = next(i for i, line in enumerate(lines) if "curation.Aesthetic" in line)
    added = [line.removeprefix("# ") for line in lines[start:end] if line != "#"]
    text = "\n".join([*lines[:start], *added]).replace("keep_best: aesthetic", "keep_best: sharpness")
    path = tmp_path / "curate.yaml"
    path.write_text(text)
    balance = read_pipeline(path).filters[-1]
    assert isinstance(balance, curation.ConceptBalance)
    assert balance.shares == {"people": 0.3, "animals": 0.3, "landscapes": 0.2, "others": 0.2}


def test_a_missing_package_is_told_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scenedetect", None)
    with pytest.raises(MissingPackage, match=r'SceneCuts needs scenedetect.*pip install "lingen_kit\[curate\]"'):
        read_pipeline(RECIPE)
