import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from eval.arena.votes import Ballots, Vote
from tests.eval.arena.test_study import folder

PROMPTS = ["a dog", "a cat"]


@pytest.fixture
def models(run_dir: Path) -> list[Path]:
    (run_dir / "prompts.txt").write_text("\n".join([*PROMPTS, "a fish"]))
    return [folder(run_dir, name, PROMPTS) for name in ("a", "b")]


def test_a_study_is_served_on_this_machine_alone(models: list[Path], run_dir: Path) -> None:
    call = [sys.executable, "-m", "lingen_kit", "arena", *map(str, models), "--prompts", "prompts.txt"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        call, cwd=run_dir, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            assert process.stdout.readline() == "2 models, 2 prompts: 2 comparisons a rater\n"
            address = process.stdout.readline().split()[-1]
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(address, timeout=20) as answer:
                assert b"Which is better?" in answer.read()
        finally:
            process.kill()
        assert "left out: a: a fish: no video of this prompt" in process.stderr.read()


def test_export_and_report(
    lingen: Callable, models: list[Path], run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lingen("arena", "export", *models, "--prompts", "prompts.txt", "--out", run_dir / "page.html")
    assert (run_dir / "page.html").is_file() and len(json.loads((run_dir / "page.key.json").read_text())) == 4
    lingen("arena", "export", *models, "--prompts", "prompts.txt", "--out", run_dir / "linked.html", "--link")
    assert len(list((run_dir / "linked_videos").iterdir())) == 4
    ballots = Ballots(run_dir / "votes" / "votes.jsonl")
    for number, rater in enumerate(("anna", "ben", "cleo")):
        ballots.add(Vote(rater, "a dog", "a", "b", quality="left", text="tie"))
        ballots.add(Vote(rater, "a cat", "b", "a", quality="right" if number else "tie", text="left"))
    capsys.readouterr()
    lingen("arena", "report", run_dir / "votes", "--out", run_dir / "report")
    printed = capsys.readouterr().out
    assert "6 votes of 3 raters on 2 prompts" in printed
    assert "a wins 91.7% (" in printed and "5 won, 1 tied, 0 lost" in printed
    assert (run_dir / "report" / "arena.html").is_file() and (run_dir / "report" / "arena.csv").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "--prompts", "prompts.txt"], "name two models at least"),
        (["a", "nowhere", "--prompts", "prompts.txt"], "nowhere does not exist"),
        (["a", "b", "--prompts", "none.txt"], "prompts none.txt does not exist"),
        (["a", "b", "--prompts", "prompts.txt", "--strict"], "a: a fish: no video of this prompt"),
        (["a", "b", "--prompts", "prompts.txt", "--port", "99999"], "99999"),
        (["report", "none"], "none does not exist; `arena` writes it"),
        (["a", "b", "--prompts", "prompts.txt", "--host", "203.0.113.9"], "cannot listen on 203.0.113.9"),
    ],
)
def test_wrong_calls_are_explained(
    lingen: Callable, models: list[Path], capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        lingen("arena", *words)
    assert message in capsys.readouterr().err
