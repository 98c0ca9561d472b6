import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lingen_kit.data.shapes import MovingShapesDataset
from lingen_kit.video import write_mp4

TOY = "tests.eval.toy_suite.ToySuite"
pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    for index in range(3):
        write_mp4(folder / f"clip {index}.mp4", torch.full((3, 3 + index, 32, 48), index / 3), 8)
    (folder / "broken.mp4").write_bytes(b"not a video at all" * 99)
    (folder / "notes.txt").write_text("x")
    return folder


def test_a_folder_is_scored_and_what_cannot_be_is_named(
    lingen: Callable, clips: Path, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lingen("evaluate", "--videos", clips, "--suite", TOY, "--workers", 1)
    out = run_dir / "evaluations" / "clips_toy"
    content = json.loads((out / "scores.json").read_text())
    assert [video["name"] for video in content["videos"]] == [f"clip {index}.mp4" for index in range(3)]
    assert {row["name"] for row in content["excluded"]} == {"broken.mp4", "notes.txt"}
    assert (out / "scores.csv").is_file() and "clip 0.mp4" in (out / "report.html").read_text()
    printed = capsys.readouterr().out
    for part in ("brightness", "3 videos", "left out: 2", "broken.mp4: ", "total", "report.html"):
        assert part in printed
    first = (out / "scores.json").read_bytes()
    lingen("evaluate", "--videos", clips, "--suite", TOY, "--workers", 3)
    assert (out / "scores.json").read_bytes() == first


def test_shapebench_on_perfect_clips_of_a_folder(
    lingen: Callable, run_dir: Path, capsys: pytest.CaptureFixture
) -> None:
    folder, lines = run_dir / "shapes", []
    for index in range(4):
        sample = MovingShapesDataset(objects=(1 + index % 3, 1 + index % 3), seed=8)[index]
        write_mp4(folder / f"{index}.mp4", sample["video"], 8)
        lines.append(json.dumps({"file_name": f"{index}.mp4", "text": sample["caption"]}))
    write_mp4(folder / "4.mp4", sample["video"], 8)
    lines.append(json.dumps({"file_name": "4.mp4", "text": "a dog"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    lingen("evaluate", "--videos", folder, "--suite", "ShapeBench", "--workers", 1, "--out", run_dir / "out")
    content = json.loads((run_dir / "out" / "scores.json").read_text())
    assert content["totals"]["semantic_score"] > 0.98 and content["totals"]["quality_score"] > 0.9
    [row] = content["excluded"]
    assert row["name"] == "4.mp4" and "cannot read 'a dog'" in row["reason"]
    assert "total_score" in capsys.readouterr().out


def test_a_checkpoint_is_sampled_and_scored_and_goes_on_after_a_cut(
    lingen: Callable, tiny: Path, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lingen("fit", "--config", tiny)
    ckpt = next(run_dir.rglob("last.ckpt"))
    call = [
        "evaluate",
        "--ckpt",
        ckpt,
        "--suite",
        "shapebench",
        "--suite.num",
        3,
        "--workers",
        1,
        "--out",
        run_dir / "o",
    ]
    lingen(*call)
    content = json.loads((run_dir / "o" / "scores.json").read_text())
    assert len(content["videos"]) == 3
    # Words left open are those of the training data: one background, so captions do not name it.
    assert not any("background" in video["prompt"] for video in content["videos"])
    assert "total_score" in content["refused"]
    videos = sorted((run_dir / "o" / "videos").glob("*.mp4"))
    videos[1].unlink()
    kept = [path.stat().st_mtime_ns for path in (videos[0], videos[2])]
    metadata = run_dir / "o" / "videos" / "metadata.jsonl"
    metadata.write_text(metadata.read_text() + '{"file_name": "0002')  # killed in the middle of a line
    lingen(*call)
    assert [path.stat().st_mtime_ns for path in (videos[0], videos[2])] == kept
    assert json.loads((run_dir / "o" / "scores.json").read_text()) == content
    with pytest.raises(SystemExit):
        lingen(*call, "--steps", 3)
    assert "holds videos with another steps (2); name another folder with --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "one of the arguments --ckpt --videos is required"),
        (["--videos", "nowhere"], "--videos nowhere is missing; give a folder of videos"),
        (["--videos", "{clips}", "--suite", "Nothing"], "there is none; choose out of Custom, Drift, ShapeBench"),
        (["--videos", "{clips}", "--suite", "json.JSONDecoder"], "is no suite: derive it from eval.suite.Suite"),
        (["--videos", "{clips}", "--suite", "no.where.Suite"], "cannot be imported: No module named 'no'"),
        (["--videos", "{clips}", "--nums", "3"], "unknown option --nums; options of the suite begin with --suite."),
        (["--videos", "{clips}", "--suite", "Drift", "--suite.second", "3"], "second"),
        (["--videos", "{clips}", "--suite", "Drift", "--suite.seconds", "0"], "give the length of a chunk"),
        (["--videos", "{clips}", "--suite", "VBench", "--suite.full_info", "no.json"], "no.json does not exist"),
        (["--videos", "{clips}", "--suite.extractors", "vbench"], "are neither in --weights nor in $VBENCH_CACHE_DIR"),
        (["--videos", "{empty}", "--suite", TOY], "there is no video to score"),
        (["--videos", "{clips}", "--prompts", "no.txt"], "prompts no.txt does not exist"),
    ],
)
def test_wrong_calls_are_explained(
    lingen: Callable,
    clips: Path,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    (run_dir / "empty").mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    words = [word.format(clips=clips, empty=run_dir / "empty") for word in words]
    with pytest.raises(SystemExit):
        lingen("evaluate", *words)
    assert message in capsys.readouterr().err


def test_several_results_go_on_one_page(lingen: Callable, clips: Path, run_dir: Path) -> None:
    for name in ("a", "b"):
        lingen("evaluate", "--videos", clips, "--suite", TOY, "--workers", 1, "--out", run_dir / name)
    lingen("evaluate", "compare", f"first={run_dir / 'a'}", run_dir / "b", "--videos", clips, "--videos", clips)
    page = (run_dir / "comparison.html").read_text()
    assert "first" in page and "clip%202.mp4" in page


def test_results_of_vbench_are_converted_there_and_back(
    lingen: Callable, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"color": [0.5, [{"video_path": "a red car-0.mp4", "video_results": 0.5}]]}
    (run_dir / "x_eval_results.json").write_text(json.dumps(given))
    lingen("evaluate", "convert", run_dir / "x_eval_results.json", "--out", run_dir / "ours" / "scores.json")
    assert "color" in capsys.readouterr().out
    lingen("evaluate", "convert", run_dir / "ours", "--out", run_dir / "theirs.json")
    assert json.loads((run_dir / "theirs.json").read_text()) == given


def test_the_list_of_weights_and_the_options_of_a_suite(lingen: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    lingen("evaluate", "weights")
    printed = capsys.readouterr().out
    assert "raft_large" in printed and "huggingface.co/timm/vit_base_patch16_224.dino" in printed
    with pytest.raises(SystemExit) as ended:
        lingen("evaluate", "--videos", ".", "--suite", "ShapeBench", "--suite.help")
    assert ended.value.code == 0
    assert "--suite.held_out" in capsys.readouterr().out


def test_the_distance_of_sets(lingen: Callable, clips: Path, run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (clips / "broken.mp4").unlink()
    other = run_dir / "other"
    for index in range(3):
        write_mp4(other / f"{index}.mp4", torch.rand(3, 4, 32, 48) * 2 - 1, 8)
    lingen("evaluate", "distance", clips, clips)
    assert "frechet_distance/efficientnet_lite0/subject  0.0000" in capsys.readouterr().out
    lingen("evaluate", "distance", clips, other, "--json", run_dir / "d.json")
    assert "warning: biased: 12 features" in capsys.readouterr().out
    told = json.loads((run_dir / "d.json").read_text())
    assert told["value"] > 1 and told["made_by"]["network"] == "tf_efficientnet_lite0"
    (other / "broken.mp4").write_bytes(b"x" * 99)
    with pytest.raises(SystemExit):
        lingen("evaluate", "distance", clips, other)
    assert "broken.mp4" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        lingen("evaluate", "distance", clips, other, "--i3d", "none.pt")
    assert "FVD needs the i3d_torchscript.pt" in capsys.readouterr().err


def test_further_metrics_join_by_class_path(lingen: Callable, run_dir: Path) -> None:
    write_mp4(run_dir / "clips" / "a.mp4", torch.rand(3, 6, 32, 48) * 2 - 1, 8)
    more = "--suite.more+=tests.eval.toy_suite.Brightness"
    lingen("evaluate", "--videos", run_dir / "clips", more, "--workers", 1, "--out", run_dir / "out")
    content = json.loads((run_dir / "out" / "scores.json").read_text())
    assert content["figures"]["brightness"] > 0 and "imaging_quality/lite" in content["figures"]
