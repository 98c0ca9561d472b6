"""`data validate` finds what is wrong with files, once, and says it."""

import argparse
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from lingen_kit.commands.data.options import add_common, output_folder
from lingen_kit.data import VideoFolder
from lingen_kit.data.decode import stream
from lingen_kit.data.layouts import read_index
from lingen_kit.data.survey.judging import judge, judge_caption, judge_stretch
from lingen_kit.data.survey.measuring import Job, measure
from tests.commands.data.footage import captioned, encode, snapshot
from tests.data.damage import DAMAGES, make_damaged_folder

Front = Callable[..., None]


def exit_code(front: Front, *words: object) -> int:
    try:
        front("data", "validate", *words)
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def report(out: Path) -> dict[str, Any]:
    return json.loads((out / "report.json").read_text(encoding="utf-8"))


def problems(out: Path) -> dict[str, list[str]]:
    """Reasons by file."""
    found = {entry["file"]: [problem["reason"] for problem in entry["problems"]] for entry in report(out)["files"]}
    return {file: reasons for file, reasons in found.items() if reasons}


@pytest.fixture
def clips(run_dir: Path) -> Path:
    """A folder of three clips that are fine."""
    folder = run_dir / "clips"
    for number in range(3):
        captioned(encode(folder / f"{number}.mp4", shade=10 * number), f"clip {number}")
    return folder


def test_real_videos_are_fine_and_measured(
    run_dir: Path, real_videos: dict[str, Path], lingen: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_dir / "clips"
    folder.mkdir()
    for name, path in real_videos.items():
        captioned(Path(shutil.copy(path, folder / name)), "a caption")
    assert exit_code(lingen, folder, "--workers", 1) == 0
    assert "3 clips in 3 files; " in capsys.readouterr().out
    found = {entry["file"]: entry["found"] for entry in report(run_dir / "clips_validate")["files"]}
    # The numbers are those of ffprobe.
    bikes = found["bikes.mp4"]
    assert (bikes["codec"], bikes["width"], bikes["height"], bikes["frames"]) == ("h264", 640, 272, 250)
    assert bikes["seconds"] == pytest.approx(10.0)
    assert bikes["declared"] == {"fps": 25.0, "frames": 250, "seconds": 10.0}
    assert found["bigbuckbunny.mp4"]["frames"] == 132
    assert (run_dir / "clips_validate" / "problems.csv").read_text() == "file,clip,kind,reason\n"


def test_ctrl_c_says_that_nothing_is_lost(
    clips: Path, lingen: Front, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(job: Job) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lingen_kit.data.survey.validation.measure", interrupt)
    assert exit_code(lingen, clips, "--workers", 0) == 130
    assert capsys.readouterr().err.count("interrupted; the same command goes on where it stopped") == 1


def test_long_lists_of_problems_are_cut_on_the_screen_alone(
    run_dir: Path, lingen: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("clips").mkdir()
    for number in range(120):
        Path(f"clips/{number:03}.mp4").touch()
    assert exit_code(lingen, "clips", "--workers", 0) == 1
    output = capsys.readouterr().out
    assert output.startswith("unusable: 120 files\n") and "\n  and 20 more, in problems.csv\n" in output
    assert len(problems(Path("clips_validate"))) == 120


def test_each_damage_is_found(run_dir: Path, lingen: Front, capsys: pytest.CaptureFixture[str]) -> None:
    expected = make_damaged_folder(run_dir / "clips", count=len(DAMAGES))
    before = snapshot(run_dir / "clips")
    assert exit_code(lingen, run_dir / "clips", "--workers", 2) == 1
    assert snapshot(run_dir / "clips") == before
    output = capsys.readouterr()
    found = report(run_dir / "clips_validate")
    verdicts = {
        entry["file"]: next((problem["kind"] for problem in entry["problems"]), "fine") for entry in found["files"]
    }
    assert verdicts.keys() == expected.keys()
    wrong = {file: verdicts[file] for file, verdict in expected.items() if verdict not in ("any", verdicts[file])}
    assert wrong == {}
    for file, verdict in verdicts.items():
        if verdict != "unusable":  # then training can read it, all of it
            assert sum(1 for _ in stream(run_dir / "clips" / file)) >= 1
    table = (run_dir / "clips_validate" / "problems.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(table.splitlines()))
    assert {row["file"] for row in rows if row["kind"] == "unusable"} == {
        file for file, verdict in verdicts.items() if verdict == "unusable"
    }
    reasons = {row["file"].split(" ", 1)[1].rpartition(".")[0]: row["reason"] for row in rows}
    assert reasons["zero bytes"] == "the file is empty (0 bytes)"
    assert reasons["error page"] == "it is a web page, not a video"
    assert "cut off" in reasons["cut, index lost"]
    assert reasons["mp4 named webm"] == "its name ends in .webm, and its content is that of a .mp4 file"
    assert all(row["reason"] in output.out for row in rows if row["kind"] == "unusable")
    counts = found["counts"]
    assert counts["files"] == len(DAMAGES) == counts["fine"] + counts["warning"] + counts["unusable"]
    assert f"{counts['unusable']} of {counts['files']} files are unusable, a share of 0." in output.err


def cut_without_encoding(source: Path, path: Path, seconds: float) -> Path:
    """All packets, those before the cut at negative times, which an edit list hides."""
    with av.open(str(source)) as before, av.open(str(path), "w") as after:
        stream = before.streams.video[0]
        copy = after.add_stream_from_template(stream)
        assert stream.time_base
        shift = round(seconds / stream.time_base)
        for packet in before.demux(stream):
            if packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                after.mux(packet)
    return path


def test_what_an_edit_list_hides_is_not_missing(clips: Path, lingen: Front) -> None:
    source = encode(clips.parent / "whole.mp4", count=96)
    cut = captioned(cut_without_encoding(source, clips / "cut.mp4", 4.0), "cut")
    found = measure(Job(cut, "video", False))
    assert found["declared"]["frames"] == 96 and 48 <= found["frames"] <= 52
    if ffmpeg := shutil.which("ffmpeg"):
        words = [ffmpeg, "-v", "error", "-ss", "4", "-i", source, "-c", "copy", captioned(clips / "by ffmpeg.mp4", "x")]
        subprocess.run(words, check=True)
    assert exit_code(lingen, clips, "--workers", 0) == 0
    assert problems(Path("clips_validate")) == {}


def test_a_folder_without_captions_gets_a_report(clips: Path, lingen: Front) -> None:
    for path in clips.glob("*.txt"):
        path.unlink()
    assert exit_code(lingen, clips, "--workers", 1) == 1
    assert problems(Path("clips_validate")) == {
        f"{number}.mp4": ["no caption: there is no .txt beside it"] for number in range(3)
    }


def test_files_of_the_other_kind_are_pointed_at(clips: Path, lingen: Front, capsys: pytest.CaptureFixture[str]) -> None:
    Path("pics").mkdir()
    captioned(Path("pics/a.png"), "a").touch()
    captioned(Path("pics/b.png"), "b").touch()
    assert exit_code(lingen, "pics") == 2
    assert "pics holds no video, and 2 images; look for images with --kinds image" in capsys.readouterr().err
    assert exit_code(lingen, clips, "--kinds", "image") == 2
    assert "clips holds no image, and 3 videos; look for videos with --kinds video" in capsys.readouterr().err
    Path("other").mkdir()
    Path("other/notes.md").touch()
    assert exit_code(lingen, "other", "--kinds", "both") == 2
    assert "other holds no video and no image; name data with files of these kinds: .avi, .bmp" in (
        capsys.readouterr().err
    )


def test_few_bad_files_may_be_allowed(clips: Path, lingen: Front) -> None:
    (clips / "2.mp4").write_bytes(b"")
    assert exit_code(lingen, clips, "--workers", 0) == 1
    assert exit_code(lingen, clips, "--workers", 0, "--max-bad-share", 0.34) == 0
    assert exit_code(lingen, clips, "--workers", 0, "--max-bad-share", 0.33) == 1


def test_only_what_changed_is_decoded_again(clips: Path, lingen: Front) -> None:
    journal = Path("clips_validate/validate.journal.jsonl")
    exit_code(lingen, clips, "--workers", 1)
    first, once = report(Path("clips_validate")), journal.read_text()
    exit_code(lingen, clips, "--workers", 1)
    assert journal.read_text() == once
    assert report(Path("clips_validate")) == first
    encode(clips / "1.mp4", count=30)
    exit_code(lingen, clips, "--workers", 1)
    added = [json.loads(line)["key"] for line in journal.read_text().removeprefix(once).splitlines()]
    assert len(added) == 1 and added[0].startswith("1.mp4 ")
    assert [entry["found"]["frames"] for entry in report(Path("clips_validate"))["files"]] == [24, 30, 24]


def test_quick_and_whole_checks_keep_their_results(clips: Path, lingen: Front) -> None:
    data = bytearray((clips / "1.mp4").read_bytes())
    place = data.index(b"mdat")
    start, end = place + 1000, min(place + 1400, len(data))
    data[start:end] = bytes(end - start)  # damage behind the first frame
    (clips / "1.mp4").write_bytes(data)
    assert exit_code(lingen, clips, "--workers", 1) == 1
    whole = Path("clips_validate/validate.journal.jsonl").read_text()
    exit_code(lingen, clips, "--workers", 1, "--quick")
    entry = report(Path("clips_validate"))["files"][0]
    assert entry["found"]["frames"] is None and entry["found"]["seconds"] == pytest.approx(2.0)
    exit_code(lingen, clips, "--workers", 1)
    assert Path("clips_validate/validate.journal.jsonl").read_text().startswith(whole)
    assert len(Path("clips_validate/validate.journal.jsonl").read_text().splitlines()) == 7
    assert "1.mp4" in problems(Path("clips_validate"))


def test_quick_finds_what_was_cut_off(clips: Path, lingen: Front) -> None:
    path = encode(clips / "0.mkv", count=48)
    captioned(path, "cut")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert exit_code(lingen, clips, "--workers", 1, "--quick") == 1
    assert list(problems(Path("clips_validate"))) == ["0.mkv"]
    assert problems(Path("clips_validate"))["0.mkv"][0].startswith(("it ends early", "it cannot be decoded after"))


def test_stretches_are_checked_and_their_file_decoded_once(
    clips: Path, lingen: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    (clips / "torn.mp4").write_text("<html>")
    lines = [
        {"file_name": "clips/0.mp4", "text": "inside", "start": 0.5, "end": 1.5},
        {"file_name": "./clips/0.mp4", "text": "to the end", "start": 1.0},
        {"file_name": "clips/0.mp4", "text": "backwards", "start": 1.5, "end": 1.0},
        {"file_name": "clips/1.mp4", "text": "beyond", "start": 0.0, "end": 9.0},
        {"file_name": "clips/2.mp4", "text": "behind", "start": 3.0, "end": 4.0},
        {"file_name": "./clips/2.mp4", "text": "behind too", "start": 4.0, "end": 5.0},
        {"file_name": "clips/torn.mp4", "text": "one", "end": 1.0},
        {"file_name": "clips/torn.mp4", "text": "two", "start": 1.0},
    ]
    Path("list.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert exit_code(lingen, "list.jsonl", "--workers", 1) == 1
    out = Path("list_validate")
    assert len((out / "validate.journal.jsonl").read_text().splitlines()) == 1 + 4
    found = report(out)
    assert found["counts"] == {"clips": 8, "good_clips": 3, "files": 4, "unusable": 3, "warning": 1, "fine": 0}
    told = [(p["clip"], p["kind"], p["reason"][:14]) for entry in found["files"] for p in entry["problems"]]
    assert told == [
        (None, "unusable", "its end, 1 s, "),
        ("clips/1.mp4#0-9", "warning", "it ends at 9 s"),
        ("clips/2.mp4#3-4", "unusable", "it starts at 3"),
        ("clips/2.mp4#4-5", "unusable", "it starts at 4"),
        (None, "unusable", "it is a web pa"),
    ]
    output = capsys.readouterr().out
    for name, reason in [
        ("clips/0.mp4", "its end, 1 s, is not after its start, 1.5 s (list.jsonl, line 3)"),
        ("clips/2.mp4#3-4", "it starts at 3 s, and the file ends after 2.00 s"),
        ("clips/2.mp4#4-5", "it starts at 4 s, and the file ends after 2.00 s"),
        ("clips/1.mp4#0-9", "it ends at 9 s, and the file after 2.00 s"),
    ]:
        assert len(re.findall(f"^  {re.escape(name)} +{re.escape(reason)}$", output, re.MULTILINE)) == 1
    assert output.count("clips/torn.mp4") == 1 and "(file of 2 clips)\n" in output
    assert "\n8 clips in 4 files; " in output and "\nclips  3 good, 5 unusable\n" in output
    kept = read_index(out / "good.jsonl").clips
    assert [(clip.start, clip.end, clip.caption) for clip in kept] == [
        (0.5, 1.5, "inside"), (1.0, None, "to the end"), (0.0, 9.0, "beyond"),
    ]  # fmt: skip


def test_training_reads_the_list_of_good_clips(
    clips: Path, lingen: Front, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (clips / "1.mp4").write_bytes(b"")
    encode(clips / "a b" / "é.mp4")
    encode(clips / "a b" / "ignored.mp4")
    rows = [{"file_name": f"{name}.mp4", "text": f"clip {name}", "split": "train", "score": 0.5} for name in "012"]
    rows.append({"file_name": "a b/é.mp4", "caption": "two\u2028lines"})
    (clips / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    before = snapshot(clips)
    out = Path("results/sub dir")
    out.parent.mkdir()
    (clips.parent / "elsewhere").mkdir()
    out.symlink_to(clips.parent / "elsewhere")
    assert exit_code(lingen, clips, "--workers", 0, "--out", out) == 1
    assert snapshot(clips) == before
    command = "fit --config experiments/recipes/own_videos.yaml --data.root 'results/sub dir/good.jsonl'\n"
    assert f"; to train on them:\n  python -m lingen_kit {command}" in capsys.readouterr().out
    data = VideoFolder("results/sub dir/good.jsonl", frames=4, height=16, width=16, batch_size=1)
    assert {(clip.caption, clip.attributes.get("score"), clip.attributes.get("split")) for clip in data.clips()} == {
        ("clip 0", 0.5, "train"), ("clip 2", 0.5, "train"), ("two\u2028lines", None, None),
    }  # fmt: skip
    assert data.train_dataset()[0]["video"].shape[1:] == (4, 16, 16)
    monkeypatch.chdir("/")  # from anywhere, and moved together with the clips
    moved = clips.parent.rename(clips.parent.with_name("moved"))
    assert len(read_index(moved / "elsewhere" / "good.jsonl").clips) == 3


def test_a_list_of_good_clips_is_of_the_latest_check(clips: Path, lingen: Front) -> None:
    listed = Path("clips_validate/good.jsonl")
    assert exit_code(lingen, clips, "--workers", 0) == 0
    assert len(listed.read_text().splitlines()) == 3
    for path in clips.glob("*.mp4"):
        path.write_bytes(b"")
    assert exit_code(lingen, clips, "--workers", 0) == 1
    assert not listed.exists()


def test_shards_are_checked_where_they_are(clips: Path, lingen: Front) -> None:
    (clips / "1.mp4").write_bytes((clips / "1.mp4").read_bytes()[:2000])
    Path("shards").mkdir()
    with tarfile.open("shards/00000.tar", "w") as shard:
        for path in sorted(clips.iterdir()):
            shard.add(path, path.name)
    assert exit_code(lingen, "shards", "--workers", 1) == 1
    assert list(problems(Path("shards_validate"))) == ["00000.tar/1.mp4"]
    assert not Path("shards_validate/good.jsonl").exists()  # no list can point into archives
    assert report(Path("shards_validate"))["counts"]["fine"] == 2


@pytest.mark.parametrize(
    ("data", "out"),
    [
        ("a b/clips", "clips_validate"),
        ("list.jsonl", "list_validate"),
        ("shards/{000..012}.tar", "000..012_validate"),
        ("https://host/data/a.tar", "a_validate"),
    ],
)
def test_results_are_named_after_the_data(run_dir: Path, data: str, out: str) -> None:
    assert output_folder(data, "validate", None) == Path(out)


def test_images_can_be_checked(run_dir: Path, lingen: Front) -> None:
    skimage = pytest.importorskip("skimage")
    source = Path(skimage.__file__).parent / "data" / "astronaut.png"
    folder = run_dir / "pictures"
    folder.mkdir()
    captioned(Path(shutil.copy(source, folder / "whole.png")), "an astronaut")
    captioned(Path(shutil.copy(source, folder / "named wrong.jpg")), "an astronaut")
    (folder / "torn.png").write_bytes(source.read_bytes()[:9000])
    captioned(folder / "torn.png", "an astronaut")
    assert exit_code(lingen, folder, "--kinds", "image", "--workers", 1) == 1
    found = problems(Path("pictures_validate"))
    assert list(found) == ["named wrong.jpg", "torn.png"]
    assert found["named wrong.jpg"] == ["its name ends in .jpg, and its content is that of a .png file"]
    entry = report(Path("pictures_validate"))["files"][2]["found"]
    assert (entry["width"], entry["height"], entry["frames"]) == (512, 512, 1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "nowhere"),
        (["clips", "--workers", "-1"], "-1 is below 0"),
        (["clips", "--max-bad-share", "2"], "2 is not between 0"),
        (["clips", "--out", "clips/results"], "inside the data"),
        (["clips", "--out", "clips/0.mp4"], "inside the data"),
        (["clips", "--timeout", "0"], "0 is not above 0"),
        (["clips", "--workers", "x"], "x is no number of processes; give a whole one, such as 4"),
        (["clips", "--timeout", "soon"], "soon is no number of seconds, such as 120"),
        (["clips", "--max-bad-share", "few"], "few is no share, such as 0.05"),
        (["clips", "--qiuck"], "--qiuck"),
    ],
)
def test_wrong_usage_is_told(
    clips: Path, lingen: Front, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    before = snapshot(clips.parent)
    assert exit_code(lingen, *words) == 2
    assert says in capsys.readouterr().err
    assert snapshot(clips.parent) == before


def test_a_check_of_the_current_folder_writes_nothing_into_it(
    clips: Path, lingen: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clips)
    before = snapshot(clips)
    assert exit_code(lingen, ".") == 2
    assert exit_code(lingen, ".", "--out", "../found", "--workers", 0) == 0
    assert snapshot(clips) == before


@pytest.mark.skipif(sys.platform != "linux", reason="kills processes")
def test_a_check_that_was_killed_goes_on(run_dir: Path, real_videos: dict[str, Path], lingen: Front) -> None:
    count = 30
    folder = run_dir / "clips"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:02d}.mp4").symlink_to(real_videos["carphone_pristine.mp4"])
        captioned(folder / f"{number:02d}.mp4", "a man in a car")
    root = str(Path(__file__).parents[3])
    journal = run_dir / "killed" / "validate.journal.jsonl"
    words = [sys.executable, "-m", "lingen_kit", "data", "validate", str(folder), "--out", "killed", "--workers", "1"]
    process = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": root}, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while time.monotonic() < until and not (journal.exists() and journal.read_bytes().count(b"\n") > 6):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = journal.read_text()
    assert 6 < len(killed.splitlines()) < 1 + count
    assert not (run_dir / "killed" / "report.json").exists()

    assert exit_code(lingen, folder, "--out", "killed", "--workers", 1) == 0
    assert exit_code(lingen, folder, "--out", "undisturbed", "--workers", 2) == 0
    assert report(run_dir / "killed") == report(run_dir / "undisturbed")
    whole_lines = killed[: killed.rindex("\n") + 1]
    assert journal.read_text().startswith(whole_lines)
    keys = [json.loads(line)["key"] for line in journal.read_text().splitlines()[1:]]
    assert len(keys) == len(set(keys)) == count  # each was decoded once


FINE = {
    "container": "mov,mp4,m4a,3gp,3g2,mj2", "codec": "h264", "pixels": "yuv420p", "width": 64, "height": 48,
    "declared": {"fps": 10.0, "frames": 100, "seconds": 10.0}, "frames": 100, "seconds": 10.0, "damaged": 0,
    "damaged_at": None, "backwards": 0, "untimed": 0, "error": None, "complaint": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"frames": 98, "seconds": 9.8}, []),
        ({"frames": 60}, []),  # an edit list hides the others
        (
            {"frames": 95, "seconds": 9.5},
            ["warning: it says that it holds 100 frames, and holds 95", "warning: it says"],
        ),
        ({"frames": 60, "seconds": 6.0}, ["unusable: it ends early: 60 of 100 frames"]),
        ({"frames": None, "seconds": 6.0}, ["unusable: it ends early: after 6.00 of 10.00 s"]),
        ({"damaged": 3, "damaged_at": 1.5}, ["unusable: 3 of its frames are damaged, the first at 1.50 s"]),
        (
            {"error": "torn (FFmpeg)", "frames": 9, "seconds": 0.9},
            ["unusable: it cannot be decoded after 0.90 s: torn"],
        ),
        ({"backwards": 4}, ["warning: 4 of its frames have a time no later"]),
        ({"untimed": 4}, ["warning: 4 of its frames have no time stamp"]),
        ({"declared": {"fps": None, "frames": 100, "seconds": 10.0}}, ["warning: it does not say how many frames"]),
        (
            {"declared": {"fps": 90000.0, "frames": 100, "seconds": 10.0}},
            ["warning: it claims 90,000 frames per second"],
        ),
        ({"declared": {"fps": float("nan"), "frames": 100, "seconds": 10.0}}, ["warning: it claims nan frames"]),
        ({"width": 0}, ["warning: its width of 0 pixels is implausible"]),
        ({"width": 1 << 20}, ["warning: its width of 1048576 pixels is implausible"]),
        ({"complaint": "mmco: unref short failure"}, ["warning: FFmpeg complains while decoding: mmco"]),
        ({"container": "matroska,webm"}, ["warning: its name ends in .mp4, and its content is that of a .webm file"]),
    ],
)
def test_the_judge(change: dict, expected: list[str]) -> None:
    found = [f"{kind}: {reason}" for kind, reason, _ in judge(FINE | change, Job("a.mp4", "video", False))]
    assert len(found) == len(expected)
    assert all(one.startswith(start) for one, start in zip(found, expected, strict=True)), found


def test_captions_and_stretches() -> None:
    assert judge_caption("a cat\nsits") == []
    assert [len(judge_caption(text)) for text in ("x" * 3000, "a \ufffd cat", "a \x07 cat")] == [1, 1, 1]
    assert judge_stretch(0.0, 2.05, 2.0, 12.0) == []  # a rounding of the last frame
    assert [problem.kind for problem in judge_stretch(0.0, 5.0, 2.0, 12.0)] == ["warning"]
    assert [problem.kind for problem in judge_stretch(2.0, None, 2.0, 12.0)] == ["unusable"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".mov", ".ts"])
def test_containers_are_measured_alike(tmp_path: Path, suffix: str) -> None:
    """Among them AVI, which stores frames out of order and no times."""
    path = encode(tmp_path / f"clip{suffix}", count=30, fps=10)
    job = Job(path, "video", False)
    found = measure(job)
    assert (found["frames"], found["backwards"], found["damaged"], found["error"]) == (30, 0, 0, None)
    assert found["seconds"] == pytest.approx(3.0, abs=0.02)
    assert judge(found, job) == []


def test_a_verb_may_have_no_timeout() -> None:
    parser = argparse.ArgumentParser()
    add_common(parser, "export", timeout=None)
    assert "timeout" not in parser.parse_args(["clips"])
    parser = argparse.ArgumentParser()
    add_common(parser, "curate", timeout=60.0)
    assert parser.parse_args(["clips"]).timeout == 60.0
    assert "(default 60)" in parser.format_help()


def test_help_names_the_exit_codes(lingen: Front, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lingen, "--help") == 0
    assert "exit code: 0 all is well" in capsys.readouterr().out
    lingen("data", "--help")
    assert "  validate  " in capsys.readouterr().out
