"""`data inspect` counts what is there, shows it, and says what a config makes of it."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lingen_kit.data.decode import probe
from lingen_kit.data.media import VideoInfo
from lingen_kit.data.survey.looking import Moment, look, picture
from lingen_kit.data.survey.units import brief, clock, data_size, plural, shortened
from tests.commands.data.footage import captioned, encode, snapshot
from tests.data.damage import make_damaged_folder
from tests.test_page import Reader

Front = Callable[..., None]

CONFIG = """
data:
  class_path: lingen_kit.data.VideoFolder
  init_args:
    root: elsewhere
    frames: 16
    height: 48
    width: 64
    fps: 8
    buckets: {sizes: [[8, 32, 32], [16, 48, 64]], enlarge: false}
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six files: two alike, one long, one upright, one too small, one torn; one of them without a caption."""
    folder = tmp_path_factory.mktemp("data") / "clips"
    captioned(encode(folder / "a.mp4", count=24, fps=12), "a cat sleeps")
    captioned(Path(shutil.copy(folder / "a.mp4", folder / "copy of a.mp4")), "a cat sleeps")
    captioned(encode(folder / "long.mkv", count=60, fps=10, height=90, width=160), "a dog runs on a beach at sunset")
    captioned(encode(folder / "sub/upright.mp4", count=36, fps=24, height=80, width=60), "a tall cat & <b>bold</b>")
    captioned(encode(folder / "tiny.mp4", count=24, fps=12, height=16, width=16), "one more cat")
    captioned(folder / "torn.mp4", "torn").write_bytes((folder / "a.mp4").read_bytes()[:300])
    shutil.copy(folder / "long.mkv", folder / "silent.mkv")
    return folder


def inspect(front: Front, *words: object, workers: int = 0) -> dict[str, Any]:
    """Run it, in this process by default: new ones would import torch first."""
    front("data", "inspect", *words, "--workers", workers)
    out = Path(words[words.index("--out") + 1]) if "--out" in words else Path(f"{Path(words[0]).name}_inspect")
    return json.loads((out / "report.json").read_text(encoding="utf-8"))


def test_what_is_there_is_counted(
    clips: Path, run_dir: Path, lingen: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(clips)
    found = inspect(lingen, clips)["summary"]
    assert snapshot(clips) == before
    assert (found["clips"], found["files"], found["without_caption"]) == (5, 5, 1)
    assert found["seconds"] == pytest.approx(2 + 2 + 6 + 1.5 + 2)
    readable = ["a.mp4", "copy of a.mp4", "long.mkv", "sub/upright.mp4", "tiny.mp4"]
    assert found["bytes"] == sum((clips / name).stat().st_size for name in readable)
    assert found["duplicates"] == [["a.mp4", "copy of a.mp4"]]
    assert found["sizes"] == {"64x48": 2, "160x90": 1, "16x16": 1, "60x80": 1}
    assert found["aspects"] == {"4:3": 2, "16:9": 1, "1:1": 1, "3:4": 1}
    assert found["lengths"] == {"1 to 2 s": 1, "2 to 3 s": 3, "3 to 4 s": 0, "4 to 5 s": 0, "5 to 7 s": 1}
    assert found["rates"] == {"10 to 15 fps": 4, "15 to 20 fps": 0, "20 to 24 fps": 0, "24 to 25 fps": 1}
    words = {"3 words": 3, "4 to 5 words": 0, "6 to 7 words": 1, "8 to 11 words": 1}
    assert found["caption_lengths"] == words
    assert found["words"]["cat"] == 4 and "a" not in found["words"]
    assert found["repeated_captions"] == {"a cat sleeps": 2}
    assert [entry["clip"] for entry in found["unusable"]] == ["silent.mkv", "torn.mp4"]
    assert found["spread"]["frames per second"] == {"least": 10, "10%": 10, "median": 12, "90%": 24, "greatest": 24}

    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    assert text.startswith("5 clips in 5 files, ")
    assert re.search("  64x48 +2  ####", text) and "a.mp4  = copy of a.mp4" in text


def test_the_page_shows_it(clips: Path, run_dir: Path, lingen: Front) -> None:
    inspect(lingen, clips)
    text = Path("clips_inspect/index.html").read_text(encoding="utf-8")
    reader = Reader(text)
    assert reader.open == []
    assert "5 clips in" in reader.text and "a tall cat & <b>bold</b>" in reader.text and "<b>bold" not in text
    assert all(address.startswith(("data:", "#")) for address in reader.addresses)
    assert text.count("<svg") == 4 and "currentColor" in text
    assert not re.search(r'(src|href)="https?:|url\(http', text)
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(code))) for code in re.findall(r"data:image/jpeg;base64,([^\"]+)", text)
    ]
    assert sorted(picture.size for picture in pictures) == [(240, 320), (320, 180), (320, 240), (320, 240), (320, 320)]


def test_a_second_look_opens_nothing_and_says_the_same(clips: Path, run_dir: Path, lingen: Front) -> None:
    first = inspect(lingen, clips, workers=1)
    journal, page = Path("clips_inspect/inspect.journal.jsonl"), Path("clips_inspect/index.html")
    known, shown = journal.read_text(), page.read_text()
    assert inspect(lingen, clips) == first
    assert (journal.read_text(), page.read_text()) == (known, shown)


def test_a_config_says_where_each_clip_goes(
    clips: Path, run_dir: Path, lingen: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("c.yaml").write_text(CONFIG)
    found = inspect(lingen, clips, "--config", "c.yaml")
    sizes = {clip["name"]: clip.get("size") or clip.get("dropped") for clip in found["clips"] if "error" not in clip}
    assert sizes.pop("tiny.mp4").startswith("too small: 16x16 pixels")
    assert sizes == {
        "a.mp4": "16x48x64", "copy of a.mp4": "16x48x64", "long.mkv": "16x48x64", "sub/upright.mp4": "8x32x32",
    }  # fmt: skip
    assert found["summary"]["buckets"] == {"16x48x64": 3, "8x32x32": 1}
    assert found["summary"]["dropped_for"] == {"too small": 1}
    output = capsys.readouterr().out
    assert "dropped by the config: 1 clip\n" in output and re.search("16x48x64 +3  ####", output)

    found = inspect(lingen, clips, "--config", "c.yaml", "--data.fps", "4", "--out", "slower")
    sizes = {clip["name"]: clip.get("size") for clip in found["clips"]}
    assert sizes["a.mp4"] == "8x32x32"  # two seconds at 4 frames per second are 8 frames


def test_stretches_of_a_file_count_as_clips(clips: Path, run_dir: Path, lingen: Front) -> None:
    lines = [{"file_name": str(clips / "long.mkv"), "text": "x", "start": i, "end": i + 1.5} for i in range(4)]
    Path("list.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    found = inspect(lingen, "list.jsonl", "--out", "found")
    assert (found["summary"]["clips"], found["summary"]["files"]) == (4, 1)
    assert found["summary"]["seconds"] == pytest.approx(6.0)
    keys = [json.loads(line)["key"] for line in Path("found/inspect.journal.jsonl").read_text().splitlines()[1:]]
    assert sum("picture" not in key for key in keys) == 1


def test_stretches_without_a_frame_are_no_clips(
    clips: Path, run_dir: Path, lingen: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    spans = [("long.mkv", 0, 4), ("./long.mkv", 4, 9), ("long.mkv", 7, 9), ("torn.mp4", 0, 1), ("torn.mp4", 1, 2)]
    lines = [{"file_name": name, "text": "a dog", "start": start, "end": end} for name, start, end in spans]
    lines.append({"file_name": "long.mkv", "text": ""})
    (clips / "list.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    found = inspect(lingen, clips / "list.jsonl", "--out", "found")["summary"]
    (clips / "list.jsonl").unlink()
    assert (found["clips"], found["files"], found["unusable_files"]) == (2, 1, 2)
    assert found["seconds"] == pytest.approx(4 + 2)
    assert [entry["clip"] for entry in found["unusable"]] == [
        "long.mkv", "long.mkv#7-9", "torn.mp4#0-1", "torn.mp4#1-2",
    ]  # fmt: skip
    assert found["unusable"][1]["reason"] == "it starts at 7 s, and the file ends after 6.00 s"
    assert found["repeated_captions"] == {"a dog": 2} and found["caption_lengths"] == {"2 words": 2}
    output = capsys.readouterr().out
    assert output.startswith("2 clips in 1 file, ") and "\nunusable: 4 clips in 2 files (" in output
    assert "4 clips in 2 files not usable, 1 for want of a caption" in Path("found/index.html").read_text()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (
            "curate.yaml",
            r"config \S*curate\.yaml has no data\.class_path; give the config of a training run, such as exp",
        ),
        (
            "../quickstart.yaml",
            r"config \S*quickstart\.yaml trains on MovingShapes, which cuts no clips from files; leave",
        ),
    ],
)
def test_a_config_that_reads_no_files_is_refused(
    clips: Path, root: Path, run_dir: Path, lingen: Front, capsys: pytest.CaptureFixture[str], config: str, says: str
) -> None:
    with pytest.raises(SystemExit) as failure:
        lingen("data", "inspect", clips, "--config", root / "experiments" / "recipes" / config)
    assert failure.value.code == 2
    assert re.search(says, capsys.readouterr().err)


def test_reasons_are_grouped_by_what_is_wrong(
    clips: Path, run_dir: Path, lingen: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bare").mkdir()
    for number in range(4):
        captioned(Path(shutil.copy(clips / "a.mp4", f"bare/{number}.mp4")), "" if number < 3 else "\0")
    shutil.copy(clips / "a.mp4", "bare/silent.mp4")
    found = inspect(lingen, "bare")["summary"]
    assert (found["clips"], found["without_caption"]) == (0, 5)  # a folder without one usable clip has a report too
    output = capsys.readouterr().out
    assert re.search("^  3  no caption: the .txt beside it is empty +0.mp4$", output, re.MULTILINE)
    assert re.search("^  1  no caption: the .txt beside.*not UTF-8 text +3.mp4$", output, re.MULTILINE)
    assert re.search("^  1  no caption: there is no .txt beside it +silent.mp4$", output, re.MULTILINE)
    assert Reader(Path("bare_inspect/index.html").read_text(encoding="utf-8")).open == []


def test_only_what_is_wrong_with_a_caption_counts_as_want_of_one(clips: Path, run_dir: Path, lingen: Front) -> None:
    lines = [{"file_name": str(clips / name), "text": text} for name, text in (("a.mp4", "x"), ("long.mkv", " "))]
    lines.append({"text": "no caption"})
    Path("list.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    found = inspect(lingen, "list.jsonl", "--out", "found")["summary"]
    assert (len(found["unusable"]), found["without_caption"]) == (2, 1)


def test_looking_imports_no_torch() -> None:
    words = "import sys, lingen_kit.data.survey.looking; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], cwd=Path(__file__).parents[3]).returncode == 0


def test_damaged_files_do_not_end_it(run_dir: Path, lingen: Front) -> None:
    expected = make_damaged_folder(run_dir / "clips", count=28)
    found = inspect(lingen, "clips")
    readable = {clip["name"] for clip in found["clips"] if "error" not in clip}
    named = {entry["clip"] for entry in found["summary"]["unusable"]}
    assert readable | named == set(expected)
    assert {file for file, verdict in expected.items() if verdict in ("fine", "warning")} <= readable


def test_options_without_a_config_are_refused(
    clips: Path, run_dir: Path, lingen: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as failure:
        lingen("data", "inspect", clips, "--data.fps", 4)
    assert failure.value.code == 2
    assert "overrides of a config need a --config" in capsys.readouterr().err


def test_a_look_agrees_with_decoding(real_videos: dict[str, Path]) -> None:
    for path in real_videos.values():
        found = look(path)
        assert VideoInfo(**found["info"]) == probe(path)
        assert found["codec"] == "h264" and found["bytes"] == path.stat().st_size
    assert look(real_videos["bigbuckbunny.mp4"])["sound"] and not look(real_videos["bikes.mp4"])["sound"]


def test_the_picture_is_of_its_moment(tmp_path: Path) -> None:
    """Each second has a gray of its own."""
    import av
    from av.video.stream import VideoStream

    path = tmp_path / "steps.mp4"
    with av.open(str(path), "w") as container:
        stream: VideoStream = container.add_stream("libx264", rate=10, options={"g": "25"})  # type: ignore[assignment]
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for number in range(60):
            image = np.full((32, 64, 3), 30 + 35 * (number // 10), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    for second in range(6):
        image = Image.open(io.BytesIO(base64.b64decode(picture(Moment(path, second + 0.5, 128)))))
        assert image.size == (128, 64)
        assert np.asarray(image).mean() == pytest.approx(30 + 35 * second, abs=4)


def test_numbers_read_well() -> None:
    assert [clock(seconds) for seconds in (0.04, 59.9, 60, 3723.4)] == ["0.0 s", "59.9 s", "0:01:00", "1:02:03"]
    assert [data_size(count) for count in (0, 999, 1000, 5_234_000, 7e15)] == [
        "0 bytes", "999 bytes", "1 kB", "5.23 MB", "7,000 TB",
    ]  # fmt: skip
    assert [brief(x) for x in (0, 0.0001, 0.04, 2.0, 29.97003, 1280, 2097152.0)] == [
        "0", "below 0.001", "0.04", "2", "29.97", "1,280", "2,097,152",
    ]  # fmt: skip
    assert [shortened(text, 9) for text in ("a\n b", "123456789", "1234567890")] == ["a b", "123456789", "123...890"]
    assert (plural(1, "file"), plural(2000, "file")) == ("1 file", "2,000 files")
