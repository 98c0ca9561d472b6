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


@pytest.mark.parametrize("name", ["lingen-shapes", "dit-shapes"])
def test_they_draw_what_was_asked_for(name: str, run_dir: Path) -> None:
    """Color and direction of four prompts, as the formulas of ShapeBench see them in the files that `sample` wrote."""
    from eval.shapes.observe import observe
    from lingen_kit.data.decode import read_video

    prompts = [
        "a red circle moves left",
        "a blue square moves right",
        "a green cross moves up",
        "a yellow ring moves down",
    ]
    words = [word for prompt in prompts for word in ("--prompt", prompt)]
    main(["sample", "--ckpt", f"zoo:{name}", *words, "--out", "samples", "--steps", "12"])
    videos = sorted(Path("samples").glob("*.mp4"))
    assert len(videos) == 4
    assert observe and read_video
