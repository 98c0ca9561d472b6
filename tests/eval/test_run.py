import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from eval.metric import Metric, Observer, Score, VideoFacts, weighted_mean
from eval.run import Item, evaluate, read_scores, score_file, score_frames, to_table, write_scores
from eval.suite import Prompt
from lingen_kit.video import write_mp4
from tests.eval.toy_suite import ToySuite


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three small videos, a picture, and two files that are no video."""
    videos = tmp_path / "videos"
    for name, frames, size in (("a", 5, 32), ("b 'quoted' \U0001f600", 40, 48), ("one", 1, 32)):
        noise = torch.rand(3, frames, size, size, generator=torch.Generator().manual_seed(frames)) * 2 - 1
        write_mp4(videos / f"{name}.mp4", noise, 8, min_side=1)
    (videos / "broken.mp4").write_bytes((videos / "a.mp4").read_bytes()[:900])
    (videos / "empty.mp4").write_bytes(b"")
    return videos


def items(folder: Path) -> list[Item]:
    return [Item(path.name, path, Prompt(f"prompt of {path.stem}")) for path in sorted(folder.glob("*.mp4"))]


def test_every_video_is_scored_or_named_with_the_reason(folder: Path, tmp_path: Path) -> None:
    content = evaluate(ToySuite(), items(folder), tmp_path / "journal.jsonl", workers=1, excluded=[("z", "no prompt")])
    assert [video["name"] for video in content["videos"]] == ["a.mp4", "b 'quoted' \U0001f600.mp4", "one.mp4"]
    assert {row["name"]: bool(row["reason"]) for row in content["excluded"]} == {
        "broken.mp4": True,
        "empty.mp4": True,
        "z": True,
    }
    first, second, one = content["videos"]
    assert (first["frames"], second["frames"], one["frames"]) == (5, 40, 1)
    assert (second["fps"], second["height"], second["width"]) == (8, 48, 48)
    assert one["scores"]["change"]["value"] is None and one["scores"]["change"]["why"] == "one frame has no change"
    weighted = sum(video["scores"]["brightness"]["value"] * video["frames"] for video in content["videos"]) / 46
    assert content["figures"]["brightness"] == pytest.approx(weighted, rel=1e-12)
    json.dumps(content, allow_nan=False)


def test_one_and_three_processes_and_two_kills_give_the_same_file(folder: Path, tmp_path: Path) -> None:
    write_scores(tmp_path / "one.json", evaluate(ToySuite(), items(folder), tmp_path / "1.jsonl", workers=1))
    write_scores(tmp_path / "three.json", evaluate(ToySuite(), items(folder), tmp_path / "3.jsonl", workers=3))
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "three.json").read_bytes()
    # A journal that was cut off after its first and within its second outcome, twice.
    whole = (tmp_path / "1.jsonl").read_bytes().splitlines(keepends=True)
    for cut in (whole[:2], [*whole[:3], whole[3][:10]]):
        (tmp_path / "1.jsonl").write_bytes(b"".join(cut))
        write_scores(tmp_path / "again.json", evaluate(ToySuite(), items(folder), tmp_path / "1.jsonl", workers=2))
        assert (tmp_path / "one.json").read_bytes() == (tmp_path / "again.json").read_bytes()


def test_what_is_in_the_journal_is_not_scored_again_and_a_changed_file_is(folder: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    suite = ToySuite(ledger=ledger)
    journal = tmp_path / "journal.jsonl"
    evaluate(suite, items(folder), journal, workers=1)
    assert sorted(ledger.read_text().splitlines()) == ["a.mp4", "b 'quoted' \U0001f600.mp4", "one.mp4"]
    evaluate(suite, items(folder), journal, workers=1)
    assert len(ledger.read_text().splitlines()) == 3
    write_mp4(folder / "a.mp4", torch.zeros(3, 7, 32, 32), 8, min_side=1)
    content = evaluate(suite, items(folder), journal, workers=1)
    assert len(ledger.read_text().splitlines()) == 4
    assert content["videos"][0]["frames"] == 7


_CALL = """
import sys
from pathlib import Path
from eval.run import evaluate, write_scores
from tests.eval.test_run import items
from tests.eval.toy_suite import ToySuite
out, folder = Path(sys.argv[1]), Path(sys.argv[2])
write_scores(out / "scores.json", evaluate(ToySuite(), items(folder), out / "journal.jsonl", workers=1))
"""


def test_two_ranks_give_what_one_gives(folder: Path, tmp_path: Path) -> None:
    alone = evaluate(ToySuite(), items(folder), tmp_path / "alone.jsonl", workers=1)
    with _ranks(tmp_path, folder, 2) as ranks:
        assert [rank.wait(timeout=100) for rank in ranks] == [0, 0]
    assert read_scores(tmp_path / "rank0") == alone == read_scores(tmp_path / "rank1")


class _ranks:
    def __init__(self, out: Path, folder: Path, count: int) -> None:
        port = str(20000 + os.getpid() % 20000)
        self.processes = []
        for rank in range(count):
            env = os.environ | {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
            env |= {"MASTER_PORT": port, "PYTHONPATH": os.getcwd()}
            (out / f"rank{rank}").mkdir()
            call = [sys.executable, "-c", _CALL, str(out / f"rank{rank}"), str(folder)]
            self.processes.append(subprocess.Popen(call, env=env))

    def __enter__(self) -> list[subprocess.Popen[bytes]]:
        return self.processes

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def test_frames_that_were_not_announced_are_refused() -> None:
    facts = VideoFacts("x", 4, 8.0, 8, 8)
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="x has 3 frames and not the 4"):
        score_frames(ToySuite(), Prompt(""), facts, [frames[:3]])
    with pytest.raises(ValueError, match="the size changes"):
        score_frames(ToySuite(), Prompt(""), facts, [frames[:2], np.zeros((2, 8, 9, 3), np.uint8)])
    with pytest.raises(TypeError, match="8-bit RGB, got float32"):
        score_frames(ToySuite(), Prompt(""), facts, [frames.astype(np.float32)])


def test_only_the_figures_that_a_prompt_asks_for_are_kept() -> None:
    facts = VideoFacts("x", 4, 8.0, 8, 8)
    row = score_frames(ToySuite(), Prompt("", metrics=frozenset({"change"})), facts, [np.zeros((4, 8, 8, 3), np.uint8)])
    assert set(row["scores"]) == {"change"}
    assert (
        score_frames(ToySuite(), Prompt("", metrics=frozenset()), facts, [np.zeros((4, 8, 8, 3), np.uint8)])["scores"]
        == {}
    )


def test_a_count_of_packets_that_is_wrong_is_mended_by_looking_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval.run._count", lambda path: 4)
    assert score_file((ToySuite(), items(folder)[0]))["frames"] == 5


def test_nothing_to_score_is_an_error_that_lists_why(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no video to score:\n  a: why"):
        evaluate(ToySuite(), [], tmp_path / "j.jsonl", excluded=[("a", "why")])
    bad = [item for item in items(folder) if item.name in ("broken.mp4", "empty.mp4")]
    with pytest.raises(ValueError, match=r"not one video can be scored:\n  broken.mp4: .*\n  empty.mp4: "):
        evaluate(ToySuite(), bad, tmp_path / "k.jsonl", workers=1)
    with pytest.raises(ValueError, match=r"two videos are called 'a.mp4'"):
        evaluate(ToySuite(), [items(folder)[0]] * 2, tmp_path / "l.jsonl")


def test_scores_are_written_read_and_tabulated(folder: Path, tmp_path: Path) -> None:
    content = evaluate(ToySuite(), items(folder), tmp_path / "journal.jsonl", workers=1)
    write_scores(tmp_path / "out" / "scores.json", content)
    assert read_scores(tmp_path / "out") == content
    lines = to_table(content).splitlines()
    assert lines[0] == "name,prompt,frames,fps,height,width,brightness,change"
    assert lines[3].endswith(",") and len(lines) == 4
    (tmp_path / "bad.json").write_text('{"format": 1}')
    with pytest.raises(ValueError, match="no file of scores: it has no figures, suite, videos"):
        read_scores(tmp_path / "bad.json")
    with pytest.raises(FileNotFoundError, match="evaluate --out DIR"):
        read_scores(tmp_path / "nowhere")


def test_scores_are_finite_or_say_why() -> None:
    with pytest.raises(ValueError, match="finite number, got nan"):
        Score(float("nan"))
    with pytest.raises(ValueError, match="says why"):
        Score(None)
    assert weighted_mean([Score.none("x")]) is None
    assert weighted_mean([Score(1.0, 3), Score(0.0, 1), Score.none("x")]) == 0.75


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    held: list[int] = []

    class Watcher(Observer):
        def update(self, frames: np.ndarray) -> None:
            held.append(len(frames))

        def scores(self) -> dict[str, Score]:
            return {"chunks": Score(float(len(held)))}

    class Chunks(Metric):
        names = ("chunks",)

        def observe(self, video: VideoFacts) -> Observer:
            return Watcher()

    class Suite(ToySuite):
        def metrics(self) -> list[Metric]:
            return [Chunks()]

    write_mp4(tmp_path / "long.mp4", torch.zeros(3, 100, 32, 32), 8, min_side=1)
    score_file((Suite(), Item("long.mp4", tmp_path / "long.mp4")))
    assert sum(held) == 100 and max(held) <= 32


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_killed_run_loses_one_video_at_most(folder: Path, tmp_path: Path) -> None:
    alone = evaluate(ToySuite(), items(folder), tmp_path / "alone.jsonl", workers=1)
    out = tmp_path / "rank0"
    with _ranks(tmp_path, folder, 1) as (process,):
        journal, end = out / "journal.jsonl", time.monotonic() + 100
        while not (journal.exists() and len(journal.read_bytes().splitlines()) > 1):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert evaluate(ToySuite(), items(folder), journal, workers=1) == alone
