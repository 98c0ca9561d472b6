"""`plan` through the real command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lingen_kit.commands import plan

STAGES = """
stages:
  - {name: images, paper_h100_days: 3, data: {init_args: {frames: 1, batch_size: 4}}, trainer: {max_steps: 7}}
  - {name: videos, trainer: {devices: 4, num_nodes: 2, accumulate_grad_batches: 3}}
"""


def test_every_stage_is_planned_and_written(lingen: Callable, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_text(tiny.read_text() + STAGES)
    lingen("plan", "--config", tiny, "--json", "out/plan.json", "--text_tokens", 8, "--model.denoiser.depth", 1)
    output = capsys.readouterr().out
    assert "parameters: denoiser" in output and "GPU-days in all" in output and "40%" in output
    written = json.loads(Path("out/plan.json").read_text())
    images, videos = written["stages"]
    assert [stage["training"]["name"] for stage in written["stages"]] == ["images", "videos"]
    assert (images["tokens"], images["global_batch"], images["training"]["steps"]) == (16, 4, 7)
    assert (videos["tokens"], videos["global_batch"], videos["training"]["steps"]) == (64, 48, 4)
    assert images["training"]["precision"] == "bf16-mixed" and images["training"]["average"]
    assert images["paper_mfu"] > 0 and videos["paper_mfu"] is None
    assert not Path("runs").exists()


def test_a_real_step_stands_beside_its_plan(
    lingen: Callable, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = "lingen_kit.analysis.measure.in_child"
    monkeypatch.setattr(here, lambda function, *args, threads: function(*args))  # costs no start of another process
    words = ("--device", "cpu", "--text_tokens", 8, "--measure", "--json", "plan.json", "--model.denoiser.depth", 1)
    lingen("plan", "--config", tiny, *words)
    assert "FLOPs" in capsys.readouterr().out
    (stage,) = json.loads(Path("plan.json").read_text())["stages"]
    assert stage["training"]["precision"] == "32-true"
    assert stage["measured"]["parameters"] == sum(stage["parameters"].values())
    assert 2 * stage["forward_flops"] == pytest.approx(stage["measured"]["flops"], rel=0.1)


def test_mistakes_are_named(lingen: Callable, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*words: object) -> str:
        with pytest.raises(SystemExit) as caught:
            lingen("plan", "--config", tiny, *words)
        assert caught.value.code == 2
        return capsys.readouterr().err

    assert "H200" in error("--device", "B200")
    assert "there is no stage b; choose out of tiny" in error("--stage", "b")
    assert "dpeth" in error("--model.denoiser.dpeth", 3)
    assert "is not between" in error("--mfu", 2)


def test_the_devices_to_choose_from_are_those_there_are() -> None:
    from lingen_kit.analysis.devices import DEVICES

    assert (*DEVICES, "cpu") == plan.CHOICES
