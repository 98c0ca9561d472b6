import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eval.arena.page import TOKEN_HEADER
from eval.arena.server import ArenaServer
from eval.arena.static_page import write_static_page
from eval.arena.study import Study, read_study
from eval.arena.votes import Ballots, read_votes
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
    given = {"Content-Type": "application/json", TOKEN_HEADER: server.token} if body is not None else {}
    with closing(connection):  # also where the server is killed in the middle of it
        connection.request("GET" if data is None else "POST", path, data, given | headers)
        with connection.getresponse() as answer:
            return answer.status, dict(answer.getheaders()), answer.read()


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
    for odd in ("bytes=x", "bytes=5-2", "bytes=", "bytes=-", "bytes=1-2,4-5", "lines=1-2", "bytes=" + "9" * 5000 + "-"):
        assert ask(server, address, Range=odd)[::2] == (200, whole), odd
    path = server.study.videos[server.ids[task["left"]]]
    path.write_bytes(b"")
    assert ask(server, address)[::2] == (200, b"")
    path.unlink()
    assert ask(server, address)[0] == 404
    assert str(path.parent) not in str(ask(server, address))


@pytest.mark.parametrize(
    "path",
    [
        "/video/../votes.jsonl",
        "/video/%2e%2e/x",
        "/etc/passwd",
        "/video/",
        "/video/abc",
        "//etc/passwd",
        "//[",
        "/x",
        "/secret",
    ],
)
def test_nothing_else_is_served(server: ArenaServer, path: str) -> None:
    assert ask(server, path)[0] == 404


def test_other_names_other_pages_and_other_content_are_refused(server: ArenaServer) -> None:
    task = tasks(server)[0]
    port = server.server_address[1]
    for host in ("evil.example", f"evil.example:{port}", "", "[bad", "127.0.0.1.evil.example"):
        assert ask(server, "/", Host=host)[0] == 403, host
        assert ask(server, f"/video/{task['left']}", Host=host)[0] == 403
        assert ask(server, "/api/vote", ballot(task), Host=host)[0] == 403
    assert ask(server, "/", Host=f"localhost:{port}")[0] == 200
    # Another page can have a browser send a form, or plain text, but neither JSON nor the token, which it cannot read.
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert ask(server, "/api/vote", ballot(task), **{"Content-Type": kind})[0] == 403
    for token in ("", "x", "\u00e9", server.token[:-1]):
        assert ask(server, "/api/vote", ballot(task), **{TOKEN_HEADER: token})[0] == 403
    page = ask(server, "/")
    assert server.token.encode() in page[2]
    assert "default-src 'none'" in page[1]["Content-Security-Policy"] and "Access-Control-Allow-Origin" not in page[1]
    for bad in (
        ballot(task, rater=""),
        ballot(task, rater="x" * 61),
        ballot(task, rater="a\nb"),
        ballot(task, quality="up"),
        ballot(task, text=""),
        ballot(task, quality=["left"]),
        ballot(task, skipped="and answered"),
        ballot(task, quality="", text="", skipped="half a letter \ud800"),
        ballot(task, seconds=float("nan")),
        ballot(task, seconds=-1),
        ballot(task, seconds="long"),
        ballot(task, seconds=10**400),
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

    raters = [threading.Thread(target=rate, args=(name,)) for name in ("anna", "ben", "cleo")]
    for rater in raters:
        rater.start()
    for rater in raters:
        rater.join()
    votes = server.ballots.votes()
    assert len(votes) == 9 and len({vote.key for vote in votes}) == 9
    assert len(read_votes([server.ballots.path])) == 9  # and on the disk, each a whole line


_SERVE = """
import sys
from pathlib import Path
from eval.arena.server import ArenaServer
from eval.arena.study import read_study
from eval.arena.votes import Ballots
root, prompts = Path(sys.argv[1]), sys.argv[2:]
study = read_study([root / "secret_one", root / "secret_two"], prompts)
server = ArenaServer(study, Ballots(root / "v" / "votes.jsonl"))
print(server.server_address[1], server.token, flush=True)
server.serve_forever()
"""


class Remote:
    """A server in another process, as `ask` sees it."""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(root), *PROMPTS],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
        )
        assert self.process.stdout is not None
        port, self.token = self.process.stdout.readline().split()
        self.server_address = ("127.0.0.1", int(port))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_killed_at_any_moment_the_server_has_kept_every_vote_that_it_confirmed(study: Study, tmp_path: Path) -> None:
    confirmed: set[tuple[str, str]] = set()
    held: dict[str, Any] = {}
    for start in range(2):
        server: Any = Remote(tmp_path)
        try:
            if held:  # a page that was open before the server was killed goes on: its ids and its token still hold
                assert server.token == held["token"]
                answer = json.loads(ask(server, "/api/vote", ballot(held["task"], "patient"))[2])
                assert answer == {"new": True}
                confirmed.add(("patient", held["task"]["prompt"]))
            held = {"token": server.token, "task": tasks(server, "patient")[0]}
            first = threading.Event()

            def rate(name: str, server: Any = server, first: threading.Event = first) -> None:
                for number in range(1000):
                    try:
                        for task in tasks(server, f"{name}-{number}"):
                            if ask(server, "/api/vote", ballot(task, f"{name}-{number}"))[0] == 200:
                                confirmed.add((f"{name}-{number}", task["prompt"]))
                                first.set()
                    except (OSError, http.client.HTTPException, ValueError):
                        return  # killed between or within requests

            raters = [threading.Thread(target=rate, args=(f"rater-{start}-{name}",)) for name in "ab"]
            for rater in raters:
                rater.start()
            assert first.wait(30)
            time.sleep(0.3)
        finally:
            server.kill()
        for rater in raters:
            rater.join()
    assert len(confirmed) > 5
    votes = read_votes([tmp_path / "v"])
    assert confirmed <= {(vote.rater, vote.prompt) for vote in votes}
    lines = (tmp_path / "v" / "votes.jsonl").read_bytes().split(b"\n")
    assert len(Ballots(tmp_path / "v" / "votes.jsonl").votes()) == len(votes)  # none doubled
    assert len(lines) - 1 == len(votes)


def test_ids_and_token_say_nothing_and_differ_from_study_to_study(study: Study, tmp_path: Path) -> None:
    found = []
    for name in ("one", "two", "one"):
        with ArenaServer(study, Ballots(tmp_path / name / "votes.jsonl")) as server:
            assert len(set(server.ids)) == 6 and all(len(id_) == 32 for id_ in [*server.ids, server.token])
            found.append((server.token, server.id_of))
    assert found[0] == found[2] != found[1]
    assert not set(found[0][1].values()) & set(found[1][1].values())
    assert (tmp_path / "one" / "secret").stat().st_mode & 0o077 == 0


def test_votes_of_a_static_page_need_its_key(study: Study, tmp_path: Path) -> None:
    page, key_file = write_static_page(study, tmp_path / "arena.html")
    text = page.read_text()
    assert "secret" not in text.replace("c2VjcmV0", "")  # but for the files' own content
    assert "<script>alert" not in text
    with pytest.raises(ValueError, match=r"more than a page can hold.*--link"):
        big = tmp_path / "big.mp4"
        with big.open("wb") as file:
            file.truncate(600 * 2**20)
        write_static_page(Study({**study.videos, ("secret_one", "a dog"): big}, study.models, study.prompts), page)
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


def test_a_linked_page_has_its_videos_beside_it_under_names_that_say_nothing(study: Study, tmp_path: Path) -> None:
    page, key_file = write_static_page(study, tmp_path / "out" / "my page.html", link=True)
    text, key = page.read_text(), json.loads(key_file.read_text())
    assert "secret" not in text and "data:video" not in text
    videos = {path.stem: path for path in (tmp_path / "out" / "my page_videos").iterdir()}
    assert set(videos) == set(key)
    for id_, (model, prompt) in key.items():
        assert videos[id_].read_bytes() == study.videos[model, prompt].read_bytes() and not videos[id_].is_symlink()
        assert f'"my%20page_videos/{id_}.mp4"' in text
    with pytest.raises(ValueError, match="is there already, and its videos belong to another page"):
        write_static_page(study, tmp_path / "out" / "my page.html", link=True)
