"""The whole way of docs/data.md: real clips among a hundred damaged files, from validation to training on the cache."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands.conftest import TINY
from tests.data.damage import make_damaged_folder

CURATE = """
filters:
  - class_path: lingen_kit.data.curation.SceneCuts
    init_args: {min_length: 0.5}
  - class_path: lingen_kit.data.curation.Resolution
    init_args: {min_side: 100}
  - class_path: lingen_kit.data.curation.Frozen
    init_args: {max_frozen: 0.5}
"""


@pytest.fixture
def config(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LINGEN_KIT_CACHE", str(run_dir / "cached_files"))
    files = "data:\n  class_path: lingen_kit.data.VideoFolder\n  init_args:\n    {root: clips, frames: 4, height: 16,"
    files += " width: 16, fps: 8, batch_size: 2, validation_size: 2, short: hold, max_bad_share: 0.9}\n"
    path = run_dir / "tiny.yaml"
    path.write_text(files + TINY[TINY.index("model:") :])
    (run_dir / "curate.yaml").write_text(CURATE)
    return path


@pytest.mark.filterwarnings("ignore:checkpoint .* was trained with other options")  # a longer schedule
def test_the_whole_way(
    lingen: Callable[..., None], config: Path, real_videos: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    clips = Path("clips")
    clips.mkdir()
    verdicts = make_damaged_folder(clips, 100, seed=1)
    for name, path in real_videos.items():
        shutil.copy(path, clips / name)
        (clips / name).with_suffix(".txt").write_text(f"the clip {path.stem}")
    before = {path: path.lstat().st_mtime_ns for path in clips.rglob("*")}

    with pytest.raises(SystemExit) as stopped:
        lingen("data", "validate", clips, "--workers", 1)
    assert stopped.value.code == 1
    report = json.loads(Path("clips_validate/report.json").read_text())
    assert report["counts"]["unusable"] >= sum(verdict == "unusable" for verdict in verdicts.values())
    lingen("data", "inspect", clips, "--workers", 1)
    assert "<html" in Path("clips_inspect/index.html").read_text()

    lingen("fit", "--config", config, "--name", "files", "--trainer.max_steps", 2)
    lingen("fit", "--config", config, "--name", "files", "--ckpt_path", "last")  # in the middle of the first pass
    skipped = [json.loads(line) for line in Path("runs/files/version_0/skipped.jsonl").read_text().splitlines()]
    assert len({entry["source"] for entry in skipped}) == len(skipped) > 10
    assert all(entry["reason"] for entry in skipped)

    lingen("data", "curate", clips, "--config", "curate.yaml", "--out", "curated", "--workers", 1)
    kept = [json.loads(line) for line in Path("curated/manifest.jsonl").read_text().splitlines()]
    assert {Path(entry["file_name"]).name for entry in kept} == set(real_videos)
    assert len(kept) > len(real_videos)  # bikes.mp4 has several shots

    curated = ["--config", config, "--data.root", "curated/manifest.jsonl"]
    lingen("data", "precompute", *curated, "--out", "cache", "--workers", 0)
    cached = ["--data", "lingen_kit.data.CachedLatents", "--data.root", "cache"]
    lingen("fit", "--config", config, "--name", "cached", *cached)
    lingen("data", "export", "curated/manifest.jsonl", "--out", "shards", "--workers", 1)
    shards = ["--data", "lingen_kit.data.WebDataset", "--data.root", "shards"]
    lingen("fit", "--config", config, "--name", "shards", *shards)
    for name in ("files", "cached", "shards"):
        assert Path(f"runs/{name}/version_0/checkpoints/last.ckpt").is_file()
    assert {path: path.lstat().st_mtime_ns for path in clips.rglob("*")} == before
    assert "Traceback" not in capsys.readouterr().err
