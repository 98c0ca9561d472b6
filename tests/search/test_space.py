import math

import pytest

from lingen_kit.search.space import Drawn, Space, describe, same, short_names

SPACE = {
    "mixer": {"choices": {"lingen": {}, "dit": {"model.mixer": "a.Attention"}, "file": {"config": "x.yaml"}}},
    "model.depth": [2, 4],
    "model.window": {"choices": [[4, 2, 2], [2, 4, 4]], "when": {"mixer": "lingen"}},
    "model.lr": {"low": 1e-3, "high": 1e-2, "log": True},
    "layers": {
        "pattern": {"a": "m.A", "b": {"class_path": "m.B", "init_args": {"k": 1}}},
        "length": 2,
        "key": "model.l",
    },
}
FINITE = {name: spec for name, spec in SPACE.items() if name != "model.lr"}


def test_words_are_those_of_fit_with_files_first() -> None:
    space = Space.read(SPACE)
    params = {"mixer": "file", "model.depth": "4", "model.lr": 0.002, "layers[0]": "b", "layers[1]": "a"}
    assert space.words(params) == [
        "--config=x.yaml",
        "--model.depth=4",
        "--model.lr=0.002",
        '--model.l=[{"class_path": "m.B", "init_args": {"k": 1}}, "m.A"]',
    ]


def test_a_condition_adds_its_dimension_and_no_other_candidate_has_it() -> None:
    space = Space.read(SPACE)
    seen = {same(space.suggest(Drawn(seed))): space.suggest(Drawn(seed)) for seed in range(60)}
    assert {params["mixer"] for params in seen.values()} == {"lingen", "dit", "file"}
    for params in seen.values():
        assert ("model.window" in params) == (params["mixer"] == "lingen")
        assert 1e-3 <= params["model.lr"] <= 1e-2


def test_all_candidates_are_as_many_as_the_size_says_and_all_differ() -> None:
    space = Space.read(FINITE)
    every = [same(params) for params in space.all()]
    # mixer lingen has two windows, each other mixer none; two depths; four patterns
    assert len(every) == len(set(every)) == space.size() == (2 + 1 + 1) * 2 * 4


def test_a_range_without_steps_has_no_end() -> None:
    space = Space.read(SPACE)
    assert math.isinf(space.size())
    with pytest.raises(ValueError, match=r"model\.lr from 0\.001 to 0\.01 has no end of values; give a step"):
        list(space.all())


def test_covering_holds_every_label_with_what_it_depends_on() -> None:
    space = Space.read(SPACE)
    covering = dict(space.covering())
    assert covering["model.depth 2"] == {"model.depth": "2"}
    assert covering["model.window 2x4x4"] == {"mixer": "lingen", "model.window": "2x4x4"}
    assert {"mixer lingen", "mixer dit", "mixer file", "model.lr 0.001", "model.lr 0.01"} <= covering.keys()
    assert space.words(covering["model.window 2x4x4"]) == ["--model.window=[2, 4, 4]"]
    assert len(covering) == 3 + 2 + 2 + 2 + 2


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "space must name at least one option"),
        ({"model.a": 3}, r"space\.model\.a: 3 is no list of choices"),
        ({"model.a": []}, r"space\.model\.a has no choices"),
        ({"model.a": [1, 1]}, r"space\.model\.a: the choice 1 is there twice"),
        ({"model.a": [{"b": 1}]}, r"space\.model\.a: give the choice .* a name"),
        ({"model.a": {"low": 2, "high": 1}}, r"space\.model\.a: low 2 is above high 1"),
        ({"model.a": {"low": "x", "high": 1}}, r"space\.model\.a: low 'x' is no number"),
        ({"model.a": {"low": 0, "high": 1, "log": True}}, "a logarithmic range needs low above 0"),
        ({"model.a": {"low": 1, "steps": 4}}, r"space\.model\.a: low, steps make no dimension"),
        ({"depth": [2, 4]}, "so its choice '2' must be a group of overrides"),
        ({"depth": {"low": 1, "high": 2}}, r"space\.depth is no option of fit"),
        ({"model.a": {"choices": [1], "when": {"mixer": "x"}}}, "when names 'mixer', which is no choice before it"),
        (
            {"model.m": ["x", "y"], "model.a": {"choices": [1], "when": {"model.m": "z"}}},
            "when model.m is 'z', which is none of its choices: x, y",
        ),
        ({"layers": {"pattern": {"a": "m.A"}, "length": 0}}, "length 0 must be a whole number of places"),
    ],
)
def test_what_is_no_space_is_named(space: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Space.read(space)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.depth": "3"}, r"model\.depth '3' is none of 2, 4"),
        ({"model.lr": 1.0}, r"model\.lr 1\.0 is not between"),
        ({"model.window": "4x2x2"}, r"model\.window is no part of this candidate"),
    ],
)
def test_a_candidate_by_hand_is_checked(change: dict[str, object], message: str) -> None:
    params = {"mixer": "dit", "model.depth": "4", "model.lr": 0.002, "layers[0]": "b", "layers[1]": "a"}
    with pytest.raises(ValueError, match=message):
        Space.read(SPACE).check({**params, **change})


def test_a_candidate_is_told_in_a_line() -> None:
    assert (
        describe({"mixer": "dit", "model.denoiser.depth": "4", "model.lr": 0.0021}) == "mixer=dit, depth=4, lr=0.0021"
    )


def test_a_neighbour_is_whole_and_differs_in_one_dimension_and_in_what_depends_on_it() -> None:
    space = Space.read(SPACE)
    params = {"mixer": "lingen", "model.depth": "4", "model.window": "2x4x4", "model.lr": 0.002}
    params |= {"layers[0]": "b", "layers[1]": "a"}
    for seed in range(50):
        near = space.neighbour(params, Drawn(seed))
        assert space.check(near) == near
        changed = {name for name in params if near.get(name) != params[name]}
        allowed = [
            {"mixer", "model.window"},
            {"model.depth"},
            {"model.window"},
            {"model.lr"},
            {"layers[0]", "layers[1]"},
        ]
        assert any(changed <= names for names in allowed)


def test_short_names_tell_names_apart() -> None:
    names = ["mixer", "model.mixer.ma.scan", "model.mixer.scan", "model.depth"]
    assert list(short_names(names).values()) == ["mixer", "ma.scan", "mixer.scan", "depth"]
