import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.arena.server import ArenaServer
from eval.arena.static_page import write_static_page
from eval.arena.study import Study, read_study
from eval.arena.votes import Ballots, Vote, read_votes
from tests.eval.arena.test_study import folder

PROMPTS = ["a dog", 'a "cat" / <script>alert(1)</script>', "a bird"]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return read_study([folder(tmp_path, name, PROMPTS) for name in ("secret_one", "secret_two")], PROMPTS)


@pytest.fixture
def server(study: Study, tmp_path: Path) -> Iterator[ArenaServer]:
    with ArenaServer(study, Ballots(tmp_path / "votes" / "votes.jsonl")) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def ask(server: ArenaServer, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    data = json.dumps(body).encode() if body is not None else None
    given = {"Content-Type": "application/json"} if body is not None else {}
    connection.request("GET" if data is None else "POST", path, data, given | headers)
    answer = connection.getresponse()
    result = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return result


def tasks(server: ArenaServer, rater: str = "anna") -> list[dict[str, Any]]:
    return json.loads(ask(server, f"/api/tasks?rater={rater}")[2])["tasks"]


def ballot(task: dict[str, Any], rater: str = "anna", **changes: Any) -> dict[str, Any]:
    answers = {"quality": "left", "text": "tie", "skipped": "", "seconds": 3.04}
    return {"rater": rater, "left": task["left"], "right": task["right"], **answers, **changes}


def test_a_vote_is_on_disk_with_models_and_counts_once(server: ArenaServer) -> None:
    first = tasks(server)[0]
    assert [json.loads(ask(server, "/api/vote", ballot(first))[2])["new"] for _ in range(2)] == [True, False]
    turned = ballot({"left": first["right"], "right": first["left"]})
    assert json.loads(ask(server, "/api/vote", turned)[2]) == {"new": False}
    [vote] = server.ballots.votes()
    assert {vote.left, vote.right} == {"secret_one", "secret_two"}
    assert (vote.rater, vote.prompt, vote.quality, vote.text, vote.seconds) == (
        "anna",
        first["prompt"],
        "left",
        "tie",
        3.0,
    )
    assert [task["done"] for task in tasks(server)] == [True, False, False]
    assert [task["done"] for task in tasks(server, "ben")] == [False] * 3


def test_nothing_that_a_rater_gets_names_a_model(server: ArenaServer) -> None:
    page, told = ask(server, "/"), ask(server, "/api/tasks?rater=anna")
    video = ask(server, f"/video/{tasks(server)[0]['left']}")
    for status, headers, body in (page, told):
        assert status == 200 and b"secret" not in body and "secret" not in str(headers)
    assert "secret" not in str(video[1]) and video[0] == 200


def test_videos_come_in_the_parts_that_a_player_asks_for(server: ArenaServer) -> None:
    task = next(task for task in tasks(server) if task["prompt"] == "a dog")
    address = f"/video/{task['left']}"
    whole = ask(server, address)[2]
    assert whole in (b"secret_one 0", b"secret_two 0")
    assert ask(server, address, Range="bytes=2-5")[2] == whole[2:6]
    status, headers, body = ask(server, address, Range="bytes=7-")
    assert (status, body, headers["Content-Range"]) == (206, whole[7:], f"bytes 7-11/{len(whole)}")
    assert ask(server, address, Range="bytes=-3")[2] == whole[-3:]
    assert ask(server, address, Range="bytes=99-")[0] == 416
    assert ask(server, address, Range="bytes=x")[2] == whole


@pytest.mark.parametrize(
    "path", ["/video/../votes.jsonl", "/video/%2e%2e/x", "/etc/passwd", "/video/", "/video/abc", "//etc/passwd", "/x"]
)
def test_nothing_else_is_served(server: ArenaServer, path: str) -> None:
    assert ask(server, path)[0] == 404


def test_other_names_other_pages_and_other_content_are_refused(server: ArenaServer) -> None:
    task = tasks(server)[0]
    assert ask(server, "/", Host="evil.example")[0] == 403
    assert ask(server, "/", Host=f"localhost:{server.server_address[1]}")[0] == 200
    assert ask(server, "/api/vote", ballot(task), Origin="http://evil.example")[0] == 403
    assert ask(server, "/api/vote", ballot(task), **{"Content-Type": "text/plain"})[0] == 403
    for bad in (
        ballot(task, rater=""),
        ballot(task, rater="x" * 61),
        ballot(task, rater="a\nb"),
        ballot(task, quality="up"),
        ballot(task, text=""),
        ballot({"left": task["left"], "right": tasks(server)[1]["right"]}),
        ballot({"left": "nothing", "right": task["right"]}),
        ballot({"left": task["left"], "right": task["left"]}),
        ["no", "vote"],
    ):
        assert ask(server, "/api/vote", bad)[0] == 400, bad
    assert ask(server, "/api/tasks?rater=")[0] == 400
    assert server.ballots.votes() == []
    assert server.server_address[0] == "127.0.0.1"


def test_two_raters_at_once_and_double_clicks_lose_and_double_nothing(server: ArenaServer) -> None:
    def rate(name: str) -> None:
        for task in tasks(server, name):
            clicks = [threading.Thread(target=ask, args=(server, "/api/vote", ballot(task, name))) for _ in range(3)]
            for click in clicks:
                click.start()
            for click in clicks:
                click.join()

    raters = [threading.Thread(target=rate, args=(name,)) for name in ("anna", "ben", "\u00e9va \U0001f600")[:2]]
    for rater in raters:
        rater.start()
    for rater in raters:
        rater.join()
    votes = server.ballots.votes()
    assert len(votes) == 6 and len({vote.key for vote in votes}) == 6


_SERVE = """
import sys
from pathlib import Path
from eval.arena.server import ArenaServer
from eval.arena.study import read_study
from eval.arena.votes import Ballots
root, prompts = Path(sys.argv[1]), sys.argv[2:]
study = read_study([root / "secret_one", root / "secret_two"], prompts)
server = ArenaServer(study, Ballots(root / "v" / "votes.jsonl"))
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def test_a_killed_server_has_kept_every_vote_that_it_confirmed(study: Study, tmp_path: Path) -> None:
    for start in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(tmp_path), *PROMPTS],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
        )
        assert process.stdout is not None
        port = int(process.stdout.readline())

        class Remote:
            server_address = ("127.0.0.1", port)

        left = [task for task in tasks(Remote) if not task["done"]]  # type: ignore[arg-type]
        assert len(left) == 3 - start
        assert ask(Remote, "/api/vote", ballot(left[0]))[0] == 200  # type: ignore[arg-type]
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert len(read_votes([tmp_path / "v"])) == 2


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


def test_votes_of_a_static_page_need_its_key(study: Study, tmp_path: Path) -> None:
    page, key_file = write_static_page(study, tmp_path / "arena.html")
    text = page.read_text()
    assert "secret" not in text.replace("c2VjcmV0", "")  # but for the files' own content
    assert "<script>alert" not in text
    key = json.loads(key_file.read_text())
    ids = {tuple(place): id_ for id_, place in key.items()}
    entry = {
        "rater": "anna",
        "left": ids["secret_two", "a dog"],
        "right": ids["secret_one", "a dog"],
        "quality": "left",
    }
    entry |= {"text": "tie", "skipped": "", "seconds": 1.0, "time": "now"}
    file = tmp_path / "votes anna.json"
    file.write_text(json.dumps({"study": "x", "votes": [entry, entry]}))
    [vote] = read_votes([file], key)
    assert (vote.left, vote.right, vote.prompt, vote.quality) == ("secret_two", "secret_one", "a dog", "left")
    with pytest.raises(ValueError, match="name the key"):
        read_votes([file])
    with pytest.raises(ValueError, match="of another page than the key"):
        read_votes([file], {})
