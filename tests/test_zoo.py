"""The models that come with the kit are found by name, small, and draw what was asked for."""

from pathlib import Path

import pytest

from lingen_kit import zoo
from lingen_kit.cli import main


def test_both_models_are_there_and_small() -> None:
    assert zoo.names() == ["dit-shapes", "lingen-shapes"]
    for name in zoo.names():
        folder = zoo.find(f"zoo:{name}")
        assert (folder / "model.safetensors").stat().st_size < 10e6
        assert "license: apache-2.0" in (folder / "README.md").read_text(encoding="utf-8")


def test_a_path_stays_a_path_and_an_unknown_name_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo.find("runs/x/last.ckpt") == Path("runs/x/last.ckpt")
    with pytest.raises(ValueError, match="the zoo has no 'cats'; it has zoo:dit-shapes, zoo:lingen-shapes"):
        zoo.find("zoo:cats")
    with pytest.raises(SystemExit):
        main(["sample", "--ckpt", "zoo:cats", "--prompt", "a cat"])
    assert "the zoo has no 'cats'" in capsys.readouterr().err


def test_they_have_equal_parameters() -> None:
    from lingen_kit.release.loading import load_model

    counts = {name: sum(p.numel() for p in load_model(zoo.find(f"zoo:{name}")).parameters()) for name in zoo.names()}
    assert counts["dit-shapes"] == pytest.approx(counts["lingen-shapes"], rel=0.01)


PROMPTS = {
    "a red circle moves left": ("red", "moves left"),
    "a blue square moves right": ("blue", "moves right"),
    "a green cross moves up": ("green", "moves up"),
    "a yellow ring moves down": ("yellow", "moves down"),
}


@pytest.mark.parametrize("name", ["lingen-shapes", "dit-shapes"])
def test_they_draw_what_was_asked_for(name: str) -> None:
    """Color and action of four prompts, as ShapeBench's judge by formulas sees them."""
    from eval.shapes.observe import observe
    from lingen_kit import Pipeline

    videos = Pipeline.from_pretrained(f"zoo:{name}", device="cpu")(list(PROMPTS), seed=0).videos
    scenes = [observe(video) for video in videos]
    seen = [(scene.objects[0].color, scene.objects[0].action) for scene in scenes]
    assert sum(a == b for a, b in zip(seen, PROMPTS.values(), strict=True)) >= 3, seen


def test_sample_and_evaluate_take_the_name(run_dir: Path) -> None:
    main(
        ["sample", "--ckpt", "zoo:lingen-shapes", "--prompt", "a red circle moves left", "--out", "out", "--steps", "2"]
    )
    assert len(list((run_dir / "out").glob("*.mp4"))) == 1
    suite = ["--suite", "ShapeBench", "--suite.num", "2", "--steps", "2", "--out", "scores"]
    main(["evaluate", "--ckpt", "zoo:lingen-shapes", *suite])
    lines = (run_dir / "scores" / "videos" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(f" {way}" in line for line in lines for way in ["moves"])  # prompts of the world that it was trained on
