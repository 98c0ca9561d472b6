"""Stages are taken out of configs and put back, without torch."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from lingen_kit.stages import Stage, join_stages, read_stages

BASE = """
data: {class_path: a.Data, init_args: {frames: 4, root: "${oc.env:ROOT,here}"}}
trainer: {max_steps: 1e3}
stages:
  - {name: 256p_images, paper_h100_days: 1189, data: {init_args: {frames: 1}}}
  - {name: videos, trainer: {max_steps: 5}, start_from: 256p_images}
"""


@pytest.fixture
def config(run_dir: Path) -> Path:
    (run_dir / "base.yaml").write_text(BASE)
    (run_dir / "over.yaml").write_text("trainer: {max_steps: 7}\nema: {decay: 0.9}\n")
    return run_dir / "base.yaml"


def merged(stage: Stage) -> dict:
    return OmegaConf.to_container(OmegaConf.merge(*stage.layers), resolve=False)


def test_a_stage_is_laid_over_the_base_not_over_the_stage_before(config: Path) -> None:
    images, videos = read_stages(["--config", "base.yaml", "--config=over.yaml"])
    assert (images.folder, videos.folder) == ("1-256p_images", "2-videos")
    assert (images.paper_h100_days, videos.paper_h100_days) == (1189, None)
    root = "${oc.env:ROOT,here}"  # resolved when all is merged, not before
    assert merged(images)["data"]["init_args"] == {"frames": 1, "root": root}
    assert merged(videos)["data"]["init_args"] == {"frames": 4, "root": root}
    assert [merged(stage)["trainer"]["max_steps"] for stage in (images, videos)] == [7, 5]
    assert merged(videos)["start_from"] == "256p_images"
    assert all(merged(stage)["ema"] == {"decay": 0.9} for stage in (images, videos))
    assert images.words[-1] == "--name=base-over"
    assert [yaml.safe_load(word.removeprefix("--config=")) for word in images.words[:-1]] == list(images.layers)


def test_flags_hold_for_every_stage_or_for_one(config: Path) -> None:
    words = ["--config", "base.yaml", "--trainer.max_steps", "9", "--stages.videos.trainer.max_steps", "2", "--name=x"]
    images, videos = read_stages([*words, "--stages.256p_images.data.frames=8", "--start_from", "a.ckpt"])
    assert images.flags == (
        "--name=base", "--trainer.max_steps", "9", "--name=x", "--start_from", "a.ckpt", "--data.frames=8"
    )  # fmt: skip
    # What the run starts from is what its first stage does.
    assert videos.flags == ("--name=base", "--trainer.max_steps", "9", "--name=x", "--trainer.max_steps", "2")


def test_a_config_without_stages_is_left_alone(config: Path) -> None:
    assert read_stages(["--config", "over.yaml", "--config", "missing.yaml", "--trainer.max_steps", "3"]) is None
    assert read_stages([]) is None
    with pytest.raises(ValueError, match=r"--stages.a.b: no config has stages"):
        read_stages(["--config", "over.yaml", "--stages.a.b", "3"])


WRONG = {
    "no list": ("stages: {name: a}", "must be a list"),
    "empty": ("stages: []", "must be a list of at least one"),
    "no name": ("stages: [{trainer: {}}]", "a stage is a mapping with a name"),
    "odd name": ("stages: [{name: a/b}]", "a/b"),
    "twice": ("stages: [{name: a}, {name: a}]", "two stages have the name 'a'"),
    "unknown section": ("stages: [{name: a}, {name: b, trainr: {}}]", "stage b: 'trainr' is unknown; choose .*trainer"),
    "days": ("stages: [{name: a, paper_h100_days: many}]", "stage a: paper_h100_days 'many'"),
    "no YAML": ("stages:\n  - [", "wrong.yaml is no YAML"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_stages_are_explained(run_dir: Path, text: str, message: str) -> None:
    (run_dir / "wrong.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_stages(["--config", "wrong.yaml"])


def test_wrong_flags_and_files_are_explained(config: Path) -> None:
    for flag in ("--stages.vidoes.trainer.max_steps", "--stages.videos"):
        with pytest.raises(ValueError, match=rf"{flag}: write .* one of 256p_images, videos"):
            read_stages(["--config", "base.yaml", flag, "3"])
    with pytest.raises(FileNotFoundError, match=r"config missing.yaml"):
        read_stages(["--config", "base.yaml", "--config", "missing.yaml"])


def test_joined_stages_say_once_what_is_equal_in_all(run_dir: Path) -> None:
    net = {"class_path": "Net", "init_args": {"dim": 8, "mixers": [1, 2]}}
    configs = {
        "a": {"seed": 0, "data": {"class_path": "A", "init_args": {"x": 1}}, "model": net, "trainer": {"n": 1, "m": 2}},
        "b": {
            "seed": 0,
            "data": {"class_path": "B", "init_args": {"x": 1}},
            "model": {"class_path": "Net", "init_args": {"dim": 8, "mixers": [1], "lr": None}},
            "trainer": {"n": 1, "m": 3},
        },
    }
    joined = join_stages(configs)
    assert joined["model"] == {"class_path": "Net", "init_args": {"dim": 8}}
    assert "data" not in joined  # options of two classes have nothing in common
    assert joined["stages"][1]["trainer"] == {"m": 3}
    assert joined["stages"][1]["model"]["class_path"] == "Net"
    (run_dir / "joined.yaml").write_text(yaml.safe_dump(joined))
    assert {stage.name: merged(stage) for stage in read_stages(["--config", "joined.yaml"])} == configs


def test_stages_are_read_without_torch() -> None:
    code = "import sys, lingen_kit.stages; sys.exit(any(name in sys.modules for name in ('torch', 'lightning')))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
