import resource
import threading
from pathlib import Path

import pytest

from eval.arena.votes import Ballots, Vote, read_votes


def test_a_line_that_was_cut_off_is_no_vote_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    ballots = Ballots(path)
    assert ballots.add(Vote("r", "p", "a", "b", quality="left", text="tie"))
    path.write_bytes(path.read_bytes() + b'{"rater": "r", "pro')
    again = Ballots(path)
    assert again.add(Vote("r", "q", "a", "b", quality="left", text="tie"))
    assert [vote.prompt for vote in again.votes()] == ["p", "q"]
    # Two servers on one file see each other's votes.
    assert not ballots.add(Vote("r", "q", "b", "a", quality="left", text="tie"))
    # While one runs, another was killed as it wrote.
    path.write_bytes(path.read_bytes() + b'{"rater": "s", "pro')
    assert [vote.prompt for vote in read_votes([path])] == ["p", "q"]
    assert ballots.add(Vote("r", "s", "a", "b", quality="left", text="tie"))
    assert again.votes() == ballots.votes() == Ballots(path).votes() == read_votes([path])
    assert len(again.votes()) == 3
    # An editor left out the last end of a line, and took a vote away.
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[1:3]))
    assert [vote.prompt for vote in read_votes([path])] == ["q", "s"]
    assert ballots.add(Vote("r", "p", "a", "b", quality="tie", text="tie"))
    assert [vote.prompt for vote in Ballots(path).votes()] == ["q", "s", "p"]


def test_a_server_that_starts_takes_no_vote_from_one_that_runs(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    running = Ballots(path)
    stop = threading.Event()

    def start() -> None:
        while not stop.is_set():
            Ballots(path)

    starting = threading.Thread(target=start)
    starting.start()
    try:
        votes = [Vote("r", f"p{number}", "a", "b", quality="left", text="tie") for number in range(60)]
        assert all(running.add(vote) for vote in votes)
    finally:
        stop.set()
        starting.join()
    assert Ballots(path).votes() == votes


def test_a_vote_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    ballots = Ballots(tmp_path / "votes.jsonl")
    assert ballots.add(Vote("r", "p", "a", "b", quality="left", text="tie"))
    before = ballots.path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    another = Vote("r", "q", "a", "b", quality="left", text="tie")
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))  # as if the disk were full within the line
    try:
        with pytest.raises(OSError):
            ballots.add(another)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ballots.path.read_bytes() == before
    assert ballots.add(another) and len(Ballots(ballots.path).votes()) == 2


def test_damaged_votes_are_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text('{"rater": "r"}\n')
    with pytest.raises(ValueError, match=r"votes\.jsonl, line 1 is no vote"):
        read_votes([path])
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_votes([tmp_path / "none.jsonl"])
    path.write_text("")
    with pytest.raises(ValueError, match="there are no votes"):
        read_votes([tmp_path])
