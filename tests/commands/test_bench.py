"""`bench` through the real command line."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from lingen_kit.analysis import bench

DIT = "{model: {init_args: {denoiser: {init_args: {mixer: lingen_kit.mixers.WindowAttention}}}}}"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Measure in this process, which costs no start of another; lists what is measured."""
    measured = []

    def measure(point: bench.Point, setup: bench.Setup) -> dict[str, object]:
        measured.append(f"{point.config}{point.size} {bench.times(*point.grid)}")
        return bench._measure(point, setup)

    monkeypatch.setattr(bench, "measure_point", measure)
    return measured


def _rows(folder: str) -> list[dict[str, str]]:
    return list(csv.DictReader((Path(folder) / "bench.csv").read_text().splitlines()))


def test_two_configs_over_two_grids_and_again(
    lingen: Callable, tiny: Path, here: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("window.yaml").write_text(DIT)
    words = ("bench", "--config", f"full={tiny}", "--config", f"window={tiny},window.yaml", "--grid", "2x2x2", "4x2x4")
    words += ("--repeats", 1, "--text_tokens", 3, "--threads", 1, "--device", "cpu")
    lingen(*words)
    assert here == ["full 2x2x2", "window 2x2x2", "full 4x2x4", "window 4x2x4"]
    output = capsys.readouterr()
    assert "[4/4] window, 32 tokens" in output.err
    assert all(word in output.out for word in ("forward, batch 1, fp32", "full: latency ~ tokens^", "is faster than"))
    rows = _rows("bench/full-window-forward")
    assert list(rows[0]) == [*bench.KEY, *bench.VALUES]
    assert all(
        value or name in ("size", "overrides", "steps", "guidance") for row in rows for name, value in row.items()
    )
    assert [(row["config"], row["video"], row["tokens"], row["status"]) for row in rows[2:]] == [
        ("full", "4x8x16", "32", "ok"),
        ("window", "4x8x16", "32", "ok"),
    ]
    assert Path("bench/full-window-forward/bench.png").read_bytes().startswith(b"\x89PNG")

    lingen(*words, "--grid", "2x2x2", "4x2x4", "8x2x2")
    assert here[4:] == ["full 8x2x2", "window 8x2x2"]
    assert len(_rows("bench/full-window-forward")) == 6
    output = capsys.readouterr().out
    assert output.count("(kept)") == 4 and "4 of 6 points kept" in output


def test_sampling_over_sizes_of_the_model(lingen: Callable, tiny: Path, here: list[str]) -> None:
    words = ("--size", "dim=64,depth=1", "--size", "dim=32", "--model.denoiser.depth", 3, "--out", "o")
    lingen("bench", "--config", tiny, *words, "--mode", "sample", "--steps", 2, "--guidance", 1, "--repeats", 1)
    assert here == ["tinydim=32 4x4x4", "tinydim=64,depth=1 4x4x4"]  # by parameters
    rows = _rows("o")
    assert [(row["size"], row["steps"], row["guidance"]) for row in rows] == [
        ("dim=32", "2", "1.0"),
        ("dim=64,depth=1", "2", "1.0"),
    ]
    assert rows[0]["overrides"] == "denoiser.depth=3"
    assert int(rows[0]["parameters"]) < int(rows[1]["parameters"])


def test_a_child_process_measures(lingen: Callable, tiny: Path) -> None:
    lingen("bench", "--config", tiny, "--tokens", 16, "--mode", "train", "--repeats", 1, "--out", "o", "--threads", 1)
    (row,) = _rows("o")
    assert (row["status"], row["grid"], row["threads"], row["mode"]) == ("ok", "1x4x4", "1", "train")


WRONG = {
    "no config": ([], "--config"),
    "no file": (["--config", "nope.yaml"], "nope.yaml"),
    "wrong key": (["--config", "tiny.yaml", "--model.denoiser.dept", "3"], "'dept'"),
    "wrong value": (["--config", "tiny.yaml", "--model.denoiser.dim", "x"], "model.denoiser.dim"),
    "unknown option": (["--config", "tiny.yaml", "--tokenss", "3"], "--tokenss"),
    "no value": (["--config", "tiny.yaml", "--model.denoiser.dim"], "--model.denoiser.dim needs a value"),
    "patch": (["--config", "tiny.yaml", "--video", "4x10x16"], "height 10"),
    "tokens": (["--config", "tiny.yaml", "--tokens", "17"], "tokens 17"),
    "grid": (["--config", "tiny.yaml", "--grid", "2x2"], "2x2"),
    "grid of nothing": (["--config", "tiny.yaml", "--grid", "2x0x2"], "2x0x2"),
    "two axes": (["--config", "tiny.yaml", "--size", "dim=8", "--size", "dim=16", "--tokens", "16", "32"], "--size"),
    "size": (["--config", "tiny.yaml", "--size", "dim"], "'dim'"),
    "same name": (["--config", "tiny.yaml", "--config", "tiny.yaml"], "NAME=FILE"),
    "name": (["--config", "../x=tiny.yaml"], "'../x'"),
    "steps": (["--config", "tiny.yaml", "--steps", "3"], "--mode sample"),
    "device": (["--config", "tiny.yaml", "--device", "cuda:99"], "cuda:99"),
}


@pytest.mark.parametrize(("words", "expected"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_is_explained(
    lingen: Callable, tiny: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        lingen("bench", *words)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    message = error[error.index("error: ") :]
    assert expected in message and "Traceback" not in error and len(message) < 500
    assert not Path("bench").exists()
