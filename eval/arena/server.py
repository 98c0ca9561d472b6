"""A local server for raters: the page, the videos under names that say nothing, and the votes.

Only the videos of the study are served, by random ids that the server has drawn: no path from a client touches the file
system. Requests must name this host (another name that resolves to it is not enough), and votes must be JSON from this
very page.
"""

import ipaddress
import json
import secrets
import socket
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mimetypes import guess_type
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from eval.arena.page import arena_page
from eval.arena.study import Study
from eval.arena.votes import QUESTIONS, Ballots, Vote

__all__ = ["ArenaServer"]

_LARGEST = 64 * 1024  # bytes of a vote
_LONGEST_NAME = 60
_CHUNK = 1 << 20


class ArenaServer(ThreadingHTTPServer):
    """Serves a study.

    Args:
        study: Models, prompts and videos.
        ballots: Where votes go.
        host: Address to listen on; loopback unless the caller says otherwise.
        port: 0 for any that is free.
    """

    daemon_threads = True

    def __init__(self, study: Study, ballots: Ballots, host: str = "127.0.0.1", port: int = 0) -> None:
        self.study, self.ballots, self.host = study, ballots, host
        self.ids = {secrets.token_urlsafe(12): place for place in study.videos}
        self.id_of = {place: id_ for id_, place in self.ids.items()}
        super().__init__((host, port), _Handler)

    @property
    def address(self) -> str:
        """Where the page is."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_address[1]}/"

    def is_own(self, host: str) -> bool:
        """Whether a Host header names this server: an address, localhost, or the name of this machine or of `host`."""
        name = urlsplit(f"//{host}").hostname or ""
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in ("localhost", self.host, socket.gethostname().lower())
        return True


class _Handler(BaseHTTPRequestHandler):
    server: ArenaServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "arena", ""

    def do_GET(self) -> None:
        if not self._own():
            return
        address = urlsplit(self.path)
        if address.path == "/":
            self._send(HTTPStatus.OK, arena_page().encode(), "text/html; charset=utf-8")
        elif address.path == "/api/tasks":
            self._tasks(parse_qs(address.query).get("rater", [""])[0])
        elif address.path.startswith("/video/") and (place := self.server.ids.get(address.path[7:])):
            self._video(self.server.study.videos[place])
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

    def do_POST(self) -> None:
        if not self._own():
            return
        origin = self.headers.get("Origin")
        if self.headers.get_content_type() != "application/json" or (
            origin and urlsplit(origin).netloc != self.headers.get("Host")
        ):
            self._refuse(HTTPStatus.FORBIDDEN, "votes come as JSON, from this page")
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/api/vote" or not length.isdecimal() or int(length) > _LARGEST:
            self._refuse(HTTPStatus.BAD_REQUEST, "this is no vote")
            return
        try:
            vote = self._vote(json.loads(self.rfile.read(int(length))))
        except (ValueError, KeyError, TypeError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, f"this is no vote: {error}")
            return
        try:
            new = self.server.ballots.add(vote)
        except OSError as error:
            self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, f"it cannot be written: {error.strerror}")
            return
        self._json({"new": new})

    def _vote(self, told: dict[str, Any]) -> Vote:
        """What the page says, with models in place of ids.

        Raises:
            ValueError, KeyError, TypeError: If it says nothing that can be.
        """
        (left, prompt), (right, other) = self.server.ids[told["left"]], self.server.ids[told["right"]]
        if prompt != other:
            raise ValueError("the videos are of two prompts")
        return Vote(
            rater=_name(told["rater"]),
            prompt=prompt,
            left=left,
            right=right,
            **{question: str(told[question]) for question in QUESTIONS},
            skipped=str(told["skipped"])[:200],
            seconds=round(float(told["seconds"]), 1),
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _tasks(self, rater: str) -> None:
        try:
            name = _name(rater)
        except ValueError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        done = {vote.key[1:] for vote in self.server.ballots.votes() if vote.rater == name}
        tasks = [
            {
                "number": number,
                "prompt": task.prompt,
                "left": self.server.id_of[task.left, task.prompt],
                "right": self.server.id_of[task.right, task.prompt],
                "done": task.key in done,
            }
            for number, task in enumerate(self.server.study.tasks(name))
        ]
        self._json({"tasks": tasks})

    def _video(self, path: Path) -> None:
        """A file, or the part of it that a player asks for when it seeks."""
        try:
            size = path.stat().st_size
            file = path.open("rb")
        except OSError:
            self._refuse(HTTPStatus.NOT_FOUND, "the file is gone")
            return
        with file:
            start, end = _range(self.headers.get("Range", ""), size)
            if start >= size:
                self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            part = (start, end) != (0, size)
            self.send_response(HTTPStatus.PARTIAL_CONTENT if part else HTTPStatus.OK)
            self.send_header("Content-Type", guess_type(path.name)[0] or "application/octet-stream")
            self.send_header("Accept-Ranges", "bytes")
            if part:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self.send_header("Content-Length", str(end - start))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            file.seek(start)
            left = end - start
            try:
                while left and (data := file.read(min(_CHUNK, left))):
                    self.wfile.write(data)
                    left -= len(data)
            except ConnectionError:  # the player has seen enough
                self.close_connection = True

    def _own(self) -> bool:
        if self.server.is_own(self.headers.get("Host", "")):
            return True
        self._refuse(HTTPStatus.FORBIDDEN, "this server has another name")
        return False

    def _json(self, content: Any) -> None:
        self._send(HTTPStatus.OK, json.dumps(content).encode(), "application/json")

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self.close_connection = True  # what the client sent with it may not have been read
        self._send(status, why.encode(), "text/plain; charset=utf-8")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: names of raters are nobody's business."""


def _name(text: Any) -> str:
    """A rater's name.

    Raises:
        ValueError: If it is none.
    """
    name = text.strip() if isinstance(text, str) else ""
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise ValueError(f"a name has 1 to {_LONGEST_NAME} letters, and this is {str(text)[:80]!r}")
    return name


def _range(header: str, size: int) -> tuple[int, int]:
    """First byte and the one after the last, of a Range header; the whole file for any other than a single range."""
    unit, _, spec = header.partition("=")
    first, dash, last = spec.partition("-")
    if unit != "bytes" or not dash or "," in spec or not (first + last).isdecimal():
        return 0, size
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size
