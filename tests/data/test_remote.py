"""Shards from URLs, against a web server of the standard library in a thread: fetched once, whole, or with a reason."""

import errno
import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import webdataset

from lingen_kit.data import remote
from lingen_kit.data.layouts import read_index, write_shard_index
from lingen_kit.data.media import UnreadableVideo, open_bytes
from lingen_kit.data.remote import CannotFetch, NotThere, cache_folder, cached_path, fetch
from lingen_kit.errors import MissingPackage


class Web(SimpleHTTPRequestHandler):
    """Serves a folder, counts what is asked for, and fails as it is told."""

    asked: Counter[str] = Counter()
    failures: dict[str, int] = {}
    cut: set[str] = set()
    slow: float = 0.0

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2].partition("?")[0]
        self.asked[name] += 1
        time.sleep(self.slow)
        if self.failures.get(name, 0) > 0:
            self.failures[name] -= 1
            self.send_error(503)
        elif name in self.cut:
            data = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        else:
            super().do_GET()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("web")
    web = ThreadingHTTPServer(("127.0.0.1", 0), partial(Web, directory=str(folder)))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_port}", folder
    web.shutdown()
    web.server_close()


@pytest.fixture
def web(server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """The server's URL and its folder, which holds three shards; a fresh cache, and no pauses."""
    monkeypatch.setenv("LINGEN_KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0))
    Web.asked.clear()
    Web.failures, Web.cut, Web.slow = {}, set(), 0.0
    url, folder = server
    for path in folder.iterdir():
        path.unlink()
    for number in range(3):
        with webdataset.TarWriter(str(folder / f"s-{number}.tar")) as writer:
            writer.write({"__key__": "a", "mp4": f"video {number}".encode() * 5000, "txt": f"text {number}"})
    return url, folder


def contents(clip: object) -> bytes:
    with open_bytes(clip.path) as file:  # type: ignore[attr-defined]
        return file.read()


def left_in_cache() -> list[str]:
    return sorted(path.name for path in (cache_folder() / "urls").iterdir() if path.suffix != ".lock")


def test_shards_are_fetched_once(web: tuple[str, Path]) -> None:
    url, _ = web
    pattern = f"{url}/s-{{0..2}}.tar?key=secret"
    index = read_index(pattern)
    assert [(clip.name, clip.caption) for clip in index.clips] == [(f"s-{n}.tar/a.mp4", f"text {n}") for n in range(3)]
    assert [contents(clip) for clip in index.clips] == [f"video {n}".encode() * 5000 for n in range(3)]
    assert index.layout == "3 WebDataset shards from URLs: 3 videos"
    assert (str(index.clips[0].path), index.root) == (f"{url}/s-0.tar/a.mp4", f"{url}/s-{{0..2}}.tar")
    assert [Web.asked[f"s-{n}.tar"] for n in range(3)] == [1, 1, 1]
    Web.asked.clear()
    assert read_index(pattern).clips == index.clips
    assert not Web.asked


def test_of_shards_with_an_index_only_that_is_fetched_at_first(web: tuple[str, Path]) -> None:
    url, folder = web
    write_shard_index(folder / "s-0.tar")
    [clip] = read_index(f"{url}/s-0.tar").clips
    assert (clip.name, clip.caption) == ("s-0.tar/a.mp4", "text 0")
    assert Web.asked == {"s-0.tar.index.jsonl": 1}
    assert contents(clip) == b"video 0" * 5000
    assert Web.asked["s-0.tar"] == 1
    (folder / "s-1.tar.index.jsonl").write_bytes((folder / "s-0.tar.index.jsonl").read_bytes()[:-9])  # damaged
    [clip] = read_index(f"{url}/s-1.tar").clips
    assert contents(clip) == b"video 1" * 5000
    (folder / "s-2.tar").write_bytes((folder / "s-2.tar").read_bytes() + b"\0" * 512)
    (folder / "s-2.tar.index.jsonl").write_bytes((folder / "s-0.tar.index.jsonl").read_bytes())  # of a smaller shard
    [clip] = read_index(f"{url}/s-2.tar").clips
    assert (clip.caption, contents(clip)) == ("text 2", b"video 2" * 5000)


def test_failures_are_tried_again_and_then_named(web: tuple[str, Path]) -> None:
    url, _ = web
    Web.failures = {"s-0.tar": 2, "s-1.tar": 99}
    index = read_index(f"{url}/s-{{0..3}}.tar")
    assert [clip.name for clip in index.clips] == ["s-0.tar/a.mp4", "s-2.tar/a.mp4"]
    assert index.unusable == [
        (f"{url}/s-1.tar", "the server answers 503 (3 attempts)"),
        (f"{url}/s-3.tar", "there is nothing at this URL"),
    ]
    assert (Web.asked["s-1.tar"], Web.asked["s-3.tar"]) == (3, 1)
    Web.failures = {}
    assert len(read_index(f"{url}/s-{{0..2}}.tar").clips) == 3  # the rest is fetched by the next run
    assert Web.asked["s-0.tar"] == 3


def test_a_file_that_comes_in_part_is_not_kept(web: tuple[str, Path]) -> None:
    url, folder = web
    Web.cut = {"s-0.tar"}
    with pytest.raises(CannotFetch, match=r"cannot fetch http.*/s-0\.tar: .*\(3 attempts\)"):
        fetch(f"{url}/s-0.tar?key=secret")
    assert left_in_cache() == []
    Web.cut = set()
    assert fetch(f"{url}/s-0.tar?key=secret").read_bytes() == (folder / "s-0.tar").read_bytes()


def test_a_server_that_is_not_there_is_named(web: tuple[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"the one clip in http://127\.0\.0\.1:9/x\.tar cannot be used[^$]*3 attempts"):
        read_index("http://127.0.0.1:9/x.tar")
    with pytest.raises(CannotFetch, match="Protocol not known: nosuch"):
        fetch("nosuch://host/x.tar")
    with pytest.raises(MissingPackage, match=r"s3://bucket/x\.tar needs another package: .*s3fs"):
        fetch("s3://bucket/x.tar")


def test_a_shard_that_cannot_be_fetched_makes_its_clips_unreadable(web: tuple[str, Path]) -> None:
    url, folder = web
    write_shard_index(folder / "s-0.tar")
    [clip] = read_index(f"{url}/s-0.tar").clips
    (folder / "s-0.tar").unlink()
    with pytest.raises(UnreadableVideo, match=r"cannot read http.*/s-0\.tar/a\.mp4: there is nothing at this URL"):
        open_bytes(clip.path)
    with pytest.raises(NotThere):
        fetch(f"{url}/s-0.tar")


def test_a_full_disk_is_said_and_leaves_nothing(web: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    url, _ = web

    class Full:
        def get_file(self, source: str, target: str) -> None:
            Path(target).write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(remote, "_file_system", lambda url: Full())
    with pytest.raises(
        OSError, match=r"the disk is full, so .* cannot be kept; set LINGEN_KIT_CACHE to a folder"
    ) as caught:
        read_index(f"{url}/s-{{0..2}}.tar")
    assert caught.value.errno == errno.ENOSPC
    assert left_in_cache() == []


def test_processes_that_want_one_file_fetch_it_once(web: tuple[str, Path]) -> None:
    url, _ = web
    fetch(f"{url}/s-1.tar")  # so that the forked processes inherit an event loop that is not theirs
    Web.slow = 0.2
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=fetch, args=(f"{url}/s-0.tar",)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert Web.asked["s-0.tar"] == 1
    assert cached_path(f"{url}/s-0.tar").is_file()
    assert [name for name in left_in_cache() if name.endswith(".partial")] == []


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LINGEN_KIT_CACHE", str(tmp_path))
    place = cached_path("https://host/../../etc/passwd")
    assert place.parent == tmp_path / "urls"
    assert place.name.endswith("-passwd")
    assert len(os.fsencode(cached_path("https://host/" + "x" * 300).name + ".partial")) < 255
    monkeypatch.delenv("LINGEN_KIT_CACHE")
    assert cache_folder() == Path("~/.cache/lingen_kit").expanduser()
