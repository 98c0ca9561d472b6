"""`sample` through the real command line."""

import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

CKPT = "runs/tiny/version_0/checkpoints/last.ckpt"


def _frames(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_sample_needs_nothing_but_the_checkpoint(lingen: Callable, tiny: Path) -> None:
    lingen("fit", "--config", tiny)
    tiny.unlink()
    Path("prompts.txt").write_text("a red circle moves left\n\na blue square moves up\n")
    lingen("sample", "--ckpt", CKPT, "--prompts", "prompts.txt", "--num", 2, "--out", "out", "--batch_size", 3)
    records = [json.loads(line) for line in Path("out/metadata.jsonl").read_text().splitlines()]
    assert [(r["text"], r["seed"]) for r in records] == [
        ("a red circle moves left", 0),
        ("a red circle moves left", 1),
        ("a blue square moves up", 0),
        ("a blue square moves up", 1),
    ]
    for record in records:
        assert _frames(Path("out") / record["file_name"]).shape[0] == 4
    with Image.open("out/sheet.png") as sheet:
        assert sheet.size[0] > 4 * 16


def test_a_seed_is_a_video_and_options_are_obeyed(lingen: Callable, tiny: Path) -> None:
    lingen("fit", "--config", tiny)
    sample = ("sample", "--ckpt", CKPT, "--prompt", "a red circle", "--format", "gif")
    for out, words in {
        "a": ("--seed", 3),
        "b": ("--seed", 3, "--num", 2),
        "c": ("--seed", 4),
        "d": ("--seed", 3, "--frames", 1, "--height", 8, "--width", 12, "--steps", 1, "--guidance", 1),
    }.items():
        lingen(*sample, "--out", out, *words)
    videos = {out: _frames(Path(out) / "0000_a_red_circle.gif") for out in "abcd"}
    np.testing.assert_array_equal(videos["a"], videos["b"])
    assert (videos["a"] != videos["c"]).any()
    assert videos["d"].shape[0] == 1
    assert videos["d"].shape[1] / videos["d"].shape[2] == pytest.approx(8 / 12, abs=0.01)


def test_guidance_and_solver_are_chosen_and_recorded(lingen: Callable, tiny: Path) -> None:
    lingen("fit", "--config", tiny)
    sample = ("sample", "--ckpt", CKPT, "--prompt", "a red circle", "--prompt", "a ring", "--format", "gif", "--num", 2)
    options = ("--method", "ddim", "--eta", 0.5, "--schedule", "uniform", "--guidance_interval", 0.1, 0.8,
               "--guidance_rescale", 0.5, "--guidance", 4)  # fmt: skip
    lingen(*sample, "--out", "plain")
    lingen(*sample, "--out", "chosen", *options, "--negative_prompt", "blue", "--negative_prompt", "")
    records = [json.loads(line) for line in Path("chosen/metadata.jsonl").read_text().splitlines()]
    assert [record.get("negative_prompt") for record in records] == ["blue", "blue", None, None]
    expected = {"method": "ddim", "eta": 0.5, "schedule": "uniform", "steps": 2, "guidance": 4.0,
                "guidance_interval": [0.1, 0.8], "guidance_rescale": 0.5}  # fmt: skip
    assert records[0] == records[0] | expected
    one, other = (_frames(Path(out) / "0000_a_red_circle.gif") for out in ("plain", "chosen"))
    assert (one != other).any()


def test_the_choices_offered_are_those_of_the_sampler() -> None:
    from typing import get_args

    from lingen_kit.commands.sample import METHODS, SCHEDULES
    from lingen_kit.diffusion.objective import Schedule
    from lingen_kit.diffusion.samplers import Method

    assert list(get_args(Method)) == METHODS and list(get_args(Schedule)) == SCHEDULES


def test_captions_that_are_there_are_not_written_over(
    lingen: Callable, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lingen("fit", "--config", tiny, "--trainer.max_steps", 1)
    for _ in range(2):
        lingen("sample", "--ckpt", CKPT, "--prompt", "a")
    assert sorted(path.parent.name for path in Path("samples").glob("*/metadata.jsonl")) == ["000", "001"]
    with pytest.raises(SystemExit):
        lingen("sample", "--ckpt", CKPT, "--prompt", "a", "--out", "samples/000")
    assert "already holds" in capsys.readouterr().err
    assert Path("samples/000/metadata.jsonl").read_text()
    with pytest.raises(SystemExit):
        lingen("sample", "--ckpt", CKPT, "--prompt", "a", "--out", "failed", "--frames", "8")
    assert not Path("failed").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "no prompts"),
        (("--prompts", "nope.txt"), "nope.txt"),
        (("--prompt", "a", "--frames", "8"), "positional tables"),
        (("--prompt", "a", "--height", "15"), "height 15"),
        (("--prompt", "a", "--steps", "0"), "0 is below 1"),
        (("--prompt", "a", "--method", "rk4"), "dpmpp_2m"),
        (("--prompt", "a", "--schedule", "karras"), "pure noise"),
        (("--prompt", "a", "--eta", "0.5"), "choose method ddim"),
        (("--prompt", "a", "--guidance_interval", "0.7", "0.2"), "0.7 to 0.2"),
        (("--prompt", "a", "--negative_prompt", "b", "--negative_prompt", "c"), "given 2 times for 1 prompts"),
        (("--prompt", "a", "--negative_prompt", "b", "--guidance", "1"), "no effect"),
        (("--prompt", "a", "--device", "cuda:7"), "cuda:7"),
        (("--prompt", "a", "--device", "meta"), "meta"),
        (("--prompt", "a", "--guidance", "nan"), "nan is no number"),
        (("--prompt", "a", "--seed", str(10**30)), "is not between 0 and"),
        (("--prompt", "a\x00b"), "no text"),
    ],
    ids=[
        "no prompt",
        "no file",
        "too long",
        "height",
        "steps",
        "method",
        "schedule",
        "eta",
        "interval",
        "negative prompts",
        "unguided",
        "device",
        "meta",
        "guidance",
        "seed",
        "no text",
    ],
)
def test_wrong_options_are_explained(
    lingen: Callable, tiny: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], expected: str
) -> None:
    lingen("fit", "--config", tiny, "--trainer.max_steps", 1)
    with pytest.raises(SystemExit) as exit_:
        lingen("sample", "--ckpt", CKPT, *words)
    assert exit_.value.code == 2
    assert expected in capsys.readouterr().err
