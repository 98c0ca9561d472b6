"""Work in processes: nothing that a file does to its worker ends the run, and nothing is done twice."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lingen_kit.data.clip import Clip
from lingen_kit.data.jobs import Outcome, file_key, key_of_file, run_jobs
from lingen_kit.data.jobs.journal import Journal
from lingen_kit.data.media import FilePart
from tests.data.errands import do

SQUARES = {f"number {i}": ("square", i) for i in range(20)}


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a line for every call of `do`, in whichever process. Fork servers keep the environment they began
    with, so this is for work in this process, or in a process of its own."""
    path = tmp_path / "ledger"
    path.touch()
    monkeypatch.setenv("LEDGER", str(path))
    return path


def work(items: dict, journal: Path, **options) -> dict[str, Outcome]:
    options = {"workers": 2, "settings": {"a": 1}, "label": "working", "timeout": 20.0} | options
    return run_jobs(do, items, journal, **options)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_come_in_the_order_of_the_items(tmp_path: Path, workers: int) -> None:
    found = work(SQUARES, tmp_path / "j", workers=workers)
    assert list(found) == list(SQUARES)
    # As JSON gives them back, the first time too: what is a tuple there is a list here.
    assert [outcome.value for outcome in found.values()] == [{"square": i**2, "pair": [i, i]} for i in range(20)]


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_an_item_are_its_outcome(tmp_path: Path, workers: int) -> None:
    items = {
        "value": ("bad value", "seven is odd"),
        "video": ("unreadable", "a.mp4"),
        "closed": ("forbidden", "b.mp4"),
        "large": ("too large", 0),
        "fine": ("square", 3),
    }
    found = work(items, tmp_path / "j", workers=workers)
    assert {key: outcome.error for key, outcome in found.items()} == {
        "value": "seven is odd",
        "video": "it is torn",
        "closed": "Permission denied",
        "large": "there is not enough memory for it",
        "fine": None,
    }


def test_a_crash_or_a_hang_costs_its_item_alone(tmp_path: Path) -> None:
    items = {
        **SQUARES,
        "crash": ("crash", signal.SIGSEGV),
        "abort": ("crash", signal.SIGABRT),
        "exit": ("exit", 7),
        "hang": ("sleep", 60),
        **{f"later {i}": ("square", i) for i in range(10)},
    }
    began = time.monotonic()
    found = work(items, tmp_path / "j", timeout=1.0)
    assert time.monotonic() - began < 20
    errors = {key: outcome.error for key, outcome in found.items() if outcome.error}
    assert errors == {
        "crash": "the decoder crashed (signal 11)",
        "abort": "the decoder crashed (signal 6)",
        "exit": "the decoder crashed (exit code 7)",
        "hang": "took longer than 1 s",
    }
    assert found == work(items, tmp_path / "j", timeout=1.0)  # all from the journal: a hang is not waited for again
    assert len(lines(tmp_path / "j")) == 1 + len(items)


@pytest.mark.parametrize("timeout", [1e7, float("inf")])
def test_any_patience_will_do(tmp_path: Path, timeout: float) -> None:
    assert work({"one": ("square", 2)}, tmp_path / "j", workers=1, timeout=timeout)["one"].error is None


def test_all_stretches_of_a_file_share_its_key(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"12345")
    clips = [Clip(path, "film.mp4", ""), Clip(path, "film.mp4#2-3", "", 2.0, 3.0), Clip(path, "film.mp4#5-", "", 5.0)]
    assert {key_of_file(clip) for clip in clips} == {file_key(clips[0])}
    assert len({file_key(clip) for clip in clips}) == 3


def test_an_innocent_item_is_not_blamed_for_the_one_before(tmp_path: Path) -> None:
    items = {"poison": ("poison", 0), "innocent": ("square", 5), "next": ("square", 6)}
    found = work(items, tmp_path / "j", workers=1)
    assert [outcome.error for outcome in found.values()] == [None, None, None]


def test_what_is_done_is_not_done_again(tmp_path: Path, ledger: Path) -> None:
    first = work(SQUARES, tmp_path / "j", workers=0)
    second = work({**SQUARES, "new": ("square", 99)}, tmp_path / "j", workers=0)
    assert len(ledger.read_text().splitlines()) == 21
    assert second == {**first, "new": Outcome({"square": 9801, "pair": [99, 99]})}


def test_what_may_pass_is_tried_again(tmp_path: Path, ledger: Path) -> None:
    items = {"a": ("forbidden", "x"), "b": ("forbidden video", "x"), "c": ("unreadable", "x"), "d": ("square", 1)}
    assert work(items, tmp_path / "j", workers=0) == work(items, tmp_path / "j", workers=0)
    assert sorted(ledger.read_text().split("\n")[4:6]) == ["forbidden video x", "forbidden x"]
    assert len(ledger.read_text().splitlines()) == 6


def test_a_longer_timeout_tries_again(tmp_path: Path) -> None:
    items = {"nap": ("sleep", 1)}
    assert work(items, tmp_path / "j", timeout=0.3)["nap"].error == "took longer than 0.3 s"
    assert work(items, tmp_path / "j", timeout=0.2)["nap"].error == "took longer than 0.3 s"
    assert work(items, tmp_path / "j", timeout=20)["nap"].error is None


def test_other_settings_set_the_journal_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = tmp_path / "j.jsonl"
    work(SQUARES, journal, workers=0)
    before = journal.read_text()
    capsys.readouterr()
    work({"x": ("square", 2)}, journal, workers=0, settings={"a": 2})
    assert (tmp_path / "j.old.jsonl").read_text() == before
    assert len(lines(journal)) == 2
    assert (
        f"all is done anew: a was 1 and is 2; the journal so far is {tmp_path}/j.old.jsonl" in capsys.readouterr().err
    )


def test_torn_and_garbled_lines_are_done_again(tmp_path: Path, ledger: Path) -> None:
    journal = tmp_path / "j"
    first = work(SQUARES, journal, workers=0)
    written = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*written[:5], b"\0\0\0\n", *written[6:-1], written[-1][:9]]))
    ledger.write_text("")
    assert work(SQUARES, journal, workers=0) == first
    assert len(ledger.read_text().splitlines()) == 2
    assert all(line.startswith(b"{") for line in journal.read_bytes().splitlines() if b"\0" not in line)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_ends_the_run_and_keeps_what_was_done(tmp_path: Path, workers: int) -> None:
    with pytest.raises(KeyError, match="oops"):
        work({**SQUARES, "bug": ("bug", "oops"), "after": ("square", 1)}, tmp_path / "j", workers=workers)
    assert len(lines(tmp_path / "j")) == 21


def test_a_full_disk_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        work({**SQUARES, "full": ("disk full", "x"), "after": ("square", 1)}, tmp_path / "j", workers=1)
    assert len(lines(tmp_path / "j")) == 21


def test_a_journal_that_cannot_grow_keeps_whole_lines(tmp_path: Path) -> None:
    """A limit on the size of files acts as a full disk does: the first part of a line still fits."""
    code = (
        "import resource, signal; from pathlib import Path; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from lingen_kit.data.jobs.journal import Journal, Outcome\n"
        f"with Journal(Path({str(tmp_path / 'j')!r}), {{}}) as journal:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "    for i in range(100): journal.add(f'item {i}', Outcome({'value': 'x' * 50}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    written = lines(tmp_path / "j")
    assert 5 < len(written) < 15
    hint = f"{len(written) - 1} results are kept there: make room and run this again"
    assert hint in done.stderr


def start(tmp_path: Path, word: str, count: int) -> subprocess.Popen:
    arguments = (str(tmp_path / "ledger"), str(tmp_path / "j"), word, count, 2)
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", f"from tests.data.errands import run; run{arguments!r}"],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": root}, start_new_session=True,
    )  # fmt: skip


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def members(session: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(entry.parent.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_killed_goes_on(tmp_path: Path, how: signal.Signals) -> None:
    first = start(tmp_path, "slow square", 40)
    wait_for(lambda: count_lines(tmp_path / "j") > 8)
    if how is signal.SIGINT:
        os.killpg(first.pid, how)  # as Ctrl-C does
    else:
        first.kill()
    first.communicate(timeout=10)
    wait_for(lambda: not members(first.pid), 10)
    done = count_lines(tmp_path / "j") - 1
    assert 8 <= done < 40

    second = start(tmp_path, "slow square", 40)
    output, errors = second.communicate(timeout=30)
    assert output.strip() == str([i**2 for i in range(40)]), errors
    assert f"{40}/40" in errors
    # Each worker may have been in the middle of one when the run was killed.
    assert 40 <= len((tmp_path / "ledger").read_text().splitlines()) <= 42
    keys = [line["key"] for line in lines(tmp_path / "j")[1:]]
    assert sorted(keys) == sorted(f"item {i}" for i in range(40))


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_no_worker_outlives_a_killed_run(tmp_path: Path) -> None:
    """Not even one that is busy with a file for a long time."""
    process = start(tmp_path, "long nap", 2)
    wait_for(lambda: count_lines(tmp_path / "ledger") == 2)
    process.kill()
    process.communicate(timeout=10)
    wait_for(lambda: not members(process.pid), 10)


def test_one_run_at_a_time_writes_a_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[dict[str, Outcome]] = []

    def second() -> None:
        with Journal(tmp_path / "j", {}, wait=True) as journal:
            seen.append(dict(journal.known))

    thread = threading.Thread(target=second)
    with Journal(tmp_path / "j", {}) as journal:
        thread.start()
        thread.join(0.2)
        assert not seen
        with pytest.raises(ValueError, match="another run is writing"), Journal(tmp_path / "j", {}):
            pass
        journal.add("a", Outcome({"b": 1}))
    thread.join(10)
    assert seen == [{"a": Outcome({"b": 1})}]
    assert "waiting for another run" in capsys.readouterr().err


def test_keys_need_not_be_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe \xe4.mp4")
    work({name: ("square", 2)}, tmp_path / "j", workers=1)
    with Journal(tmp_path / "j", {"a": 1}) as journal:
        assert list(journal.known) == [name]


@pytest.mark.parametrize("options", [{"workers": -1}, {"timeout": 0.0}, {"timeout": float("nan")}])
def test_what_cannot_be_is_refused(tmp_path: Path, options: dict) -> None:
    with pytest.raises(ValueError, match="give the"):
        work(SQUARES, tmp_path / "j", **options)
    assert not (tmp_path / "j").exists()


def test_progress_is_told_in_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work({**SQUARES, "bad": ("bad value", "x")}, tmp_path / "j", workers=1)
    error = capsys.readouterr().err
    assert error.startswith("working: 21/21, ") and error.endswith(", 1 failed\n")
    work(SQUARES, tmp_path / "j", workers=1)
    assert capsys.readouterr().err == ""  # nothing to do, nothing to tell


def test_the_key_of_a_file_changes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"12345")
    os.utime(path, ns=(10, 10))
    clip = Clip(path, "a.mp4", "a caption")
    key = file_key(clip)
    assert key == file_key(Clip(path, "a.mp4", "another caption"))
    assert key != file_key(Clip(path, "a.mp4", "a caption", start=1.0))
    assert key != file_key(Clip(path, "a.mp4", "a caption", end=1.0))
    os.utime(path, ns=(10, 11))
    touched = file_key(clip)
    path.write_bytes(b"123456")
    os.utime(path, ns=(10, 11))
    parts = [
        FilePart(path, "a.mp4", 0, 3),
        FilePart(path, "a.mp4", 3, 3),
        FilePart(path, "a.mp4", 0, 3, url="http://x"),
    ]
    keys = [key, touched, file_key(clip), *(file_key(Clip(part, "a.mp4", "")) for part in parts)]
    path.unlink()
    keys.append(file_key(clip))
    assert len(set(keys)) == 7
