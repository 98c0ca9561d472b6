"""A local server for raters: the page, the videos under names that say nothing, and the votes.

Only the videos of the study are served, by ids that say nothing: no path from a client touches the file
system. Requests must name this host (another name that resolves to it is not enough), and votes must be JSON with the
token that only this very page holds. Ids and token follow from a secret beside the votes: a page that is open goes on
when the server was started again.
"""

import hashlib
import hmac
import ipaddress
import json
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mimetypes import guess_type
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from eval.arena.page import TOKEN_HEADER, arena_page
from eval.arena.study import Study
from eval.arena.votes import QUESTIONS, Ballots, Vote

__all__ = ["ArenaServer"]

_LARGEST = 64 * 1024  # bytes of a vote
_LONGEST_NAME = 60
_CHUNK = 1 << 20
_POLICY = (  # the page is one file with its style and script in it, and talks to nobody but this server
    "default-src 'none'; media-src 'self'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


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
        self.token = _drawn(ballots.secret, "token")
        self.id_of = {place: _drawn(ballots.secret, "video", *place) for place in study.videos}
        self.ids = {id_: place for place, id_ in self.id_of.items()}
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about browsers that close a connection; show what is an error of ours."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def is_private(self) -> bool:
        """Whether this machine alone can reach it."""
        return ipaddress.ip_address(str(self.server_address[0])).is_loopback

    @property
    def address(self) -> str:
        """Where the page is."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_address[1]}/"

    def is_own(self, host: str) -> bool:
        """Whether a Host header names this server: an address, localhost, or the name of this machine or of `host`."""
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if not name:
            return False
        try:
            ipaddress.ip_address(name)  # no name that somebody could point here
        except ValueError:
            return name in ("localhost", self.host.lower(), socket.gethostname().lower())
        return True


class _Handler(BaseHTTPRequestHandler):
    server: ArenaServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "arena", ""
    timeout = 300  # seconds of silence after which a connection is given up; a player that goes on asks again

    def do_GET(self) -> None:
        if not self._own():
            return
        try:
            address = urlsplit(self.path)
        except ValueError:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
            return
        if address.path == "/":
            page = arena_page(token=self.server.token).encode()
            self._send(HTTPStatus.OK, page, "text/html; charset=utf-8", {"Content-Security-Policy": _POLICY})
        elif address.path == "/api/tasks":
            self._tasks(parse_qs(address.query).get("rater", [""])[0])
        elif address.path.startswith("/video/") and (place := self.server.ids.get(address.path[7:])):
            self._video(self.server.study.videos[place])
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

    def do_POST(self) -> None:
        if not self._own():
            return
        token = self.headers.get(TOKEN_HEADER, "").encode("latin-1")
        if self.headers.get_content_type() != "application/json" or not hmac.compare_digest(
            token, self.server.token.encode()
        ):
            self._refuse(HTTPStatus.FORBIDDEN, "votes come as JSON, from this page: load it again")
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/api/vote" or not length.isdecimal() or int(length) > _LARGEST:
            self._refuse(HTTPStatus.BAD_REQUEST, "this is no vote")
            return
        try:
            vote = self._vote(json.loads(self.rfile.read(int(length))))
        except KeyError:
            self._refuse(HTTPStatus.BAD_REQUEST, "this vote is about no video of this study: load the page again")
            return
        except (ValueError, TypeError, OverflowError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, f"this is no vote: {error}")
            return
        try:
            new = self.server.ballots.add(vote)
        except OSError as error:
            self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, f"it cannot be written: {error.strerror}")
            return
        except ValueError as error:  # somebody has damaged the file
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
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
        try:
            done = {vote.key[1:] for vote in self.server.ballots.votes() if vote.rater == name}
        except (ValueError, OSError) as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"the votes cannot be read: {error}")
            return
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
            if start >= size > 0:
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
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            file.seek(start)
            left = end - start
            try:
                while left and (data := file.read(min(_CHUNK, left))):
                    self.wfile.write(data)
                    left -= len(data)
            except (ConnectionError, TimeoutError):  # the player has seen enough
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

    def _send(self, status: HTTPStatus, body: bytes, kind: str, more: Mapping[str, str] = MappingProxyType({})) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        for name, value in more.items():
            self.send_header(name, value)
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


def _drawn(secret: bytes, *words: str) -> str:
    """What nobody can tell from chance without the secret, the same for the same words."""
    return hmac.new(secret, json.dumps(words).encode(), hashlib.sha256).hexdigest()[:32]


def _range(header: str, size: int) -> tuple[int, int]:
    """First byte and the one after the last, of a Range header; the whole file for any other than a single range."""
    unit, _, spec = header.partition("=")
    first, dash, last = spec.partition("-")
    if unit != "bytes" or not dash or "," in spec or len(spec) > 40 or not (first + last).isdecimal():
        return 0, size
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return 0, size
    return int(first), min(size, int(last) + 1) if last else size
