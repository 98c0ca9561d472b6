"""`search` through the command line, with real trainings of a few steps."""

import csv
from pathlib import Path

import pytest
import yaml

from lingen_kit.cli import main
from lingen_kit.commands import search

ROOT = Path(__file__).parents[2]
TINY = """
base: [experiments/quickstart.yaml]
overrides:
  trainer.max_steps: 2
  trainer.val_check_interval: 1
  trainer.limit_val_batches: 1
  trainer.callbacks: [{class_path: callbacks.LogSamples, init_args: {num: 1, steps: 1}}]
  data.batch_size: 2
space:
  mixer:
    choices:
      lingen: {}
      dit: {model.denoiser.mixer: lingen_kit.mixers.SelfAttention}
      diverging: {model.optimizer.lr: 1.0e+30}
  model.denoiser.depth: {choices: [1, 2], when: {mixer: dit}}
baseline: {mixer: lingen}
objectives: {validation/loss: minimize, relative_latency: minimize}
constraints: {parameters: [1e5, 2e6]}
sampler: exhaustive
"""


@pytest.fixture
def folder(run_dir: Path) -> Path:
    (run_dir / "experiments").symlink_to(ROOT / "experiments")
    (run_dir / "tiny.yaml").write_text(TINY)
    return run_dir


def test_a_search_ends_with_a_report_and_a_config_that_fit_trains(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search.main("search", ["--config", "tiny.yaml", "--workers", "1", "--threads", "1"])
    told = capsys.readouterr().out
    study = folder / "runs" / "search" / "tiny"
    rows = list(csv.DictReader((study / "leaderboard.csv").read_text().splitlines()))
    assert {row["mixer"]: row["state"] for row in rows} == {
        "lingen": "baseline",
        "dit": "complete",
        "diverging": "failed",
    }
    assert len(rows) == 4
    assert "3 to the end, 0 pruned, 1 failed" in told
    assert "nan" in next(row["reason"] for row in rows if row["state"] == "failed")
    page = (study / "report.html").read_text()
    assert page.count("<video") == 3 and page.count("data:image/png") >= 3
    assert "Warning: nobody has checked" in page

    from lingen_kit.commands.plan import parse_fit

    best = study / "best.yaml"
    header = [line for line in best.read_text().splitlines() if line.startswith("#")]
    assert all(any(word in line for line in header) for word in ("python -m lingen_kit fit", "Cost:", "Expect:"))
    config = parse_fit([f"--config={best}"])
    assert config.trainer.max_steps == 1700  # as long as the base, not as the search

    search.main("search", ["export", str(study), "--trial", "0", "--as_searched", "--out", "mine.yaml"])
    assert yaml.safe_load((folder / "mine.yaml").read_text())["trainer"]["max_steps"] == 2
    with pytest.raises(ValueError, match="has no trial 9; its trials are 0, 1"):
        search.main("search", ["export", str(study), "--trial", "9"])
    with pytest.raises(FileExistsError, match="go on with it by `search resume"):
        search.main("search", ["--config", "tiny.yaml"])
    search.main("search", ["resume", str(study)])  # nothing is left
    assert len(list(csv.DictReader((study / "leaderboard.csv").read_text().splitlines()))) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("model.denoiser.depth:", "model.denoiser.layers:"), "space: model.denoiser.layers 1: .*layers"),
        (("trainer.max_steps: 2", "trainer.most_steps: 2"), "base and overrides: .*most_steps"),
        (("lingen_kit.mixers.SelfAttention", "lingen_kit.mixers.SelfAttentions"), "space: mixer dit: .*SelfAttentions"),
    ],
)
def test_what_fit_does_not_know_is_named_before_anything_is_trained(
    folder: Path, change: tuple[str, str], message: str
) -> None:
    (folder / "bad.yaml").write_text(TINY.replace(*change))
    with pytest.raises(ValueError, match=message):
        search.main("search", ["--config", "bad.yaml"])
    assert not (folder / "runs" / "search" / "bad").exists()


def test_errors_are_told_in_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.yaml").write_text(TINY + "trails: 3\n")
    with pytest.raises(SystemExit):
        main(["search", "--config", "bad.yaml"])
    assert "error: bad.yaml: trails is unknown; choose out of base, space" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["search", "report", "nowhere"])
    assert "error: nowhere holds no study" in capsys.readouterr().err
