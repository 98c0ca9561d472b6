"""Files from URLs, kept in a cache: fetched once, whole or not at all, whatever many processes do at the same time."""

import errno
import hashlib
import logging
import os
import time
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from lingen_kit.errors import MissingPackage

PAUSES = (1.0, 3.0)
"""Seconds between the attempts to fetch a file, so there is one attempt more than pauses."""

_log = logging.getLogger(__name__)


class CannotFetch(OSError):
    """A URL that gives no file.

    Args:
        url: The URL.
        reason: Why, in a few words.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"cannot fetch {shown(url)}: {reason}")
        self.url, self.reason = url, reason

    def __reduce__(self) -> tuple[type["CannotFetch"], tuple[str, str]]:
        """Let the error travel between processes."""
        return type(self), (self.url, self.reason)


class NotThere(CannotFetch):
    """A URL where there is nothing."""


def is_url(text: str) -> bool:
    """Whether a text is a URL rather than a path."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme.isascii() and scheme.replace("+", "").replace("-", "").isalnum()


def shown(url: str) -> str:
    """A URL without what follows `?`, which may be a key that nobody else should read; a path as it is."""
    return url.partition("?")[0] if is_url(url) else url


def cache_folder() -> Path:
    """Where fetched files are kept: `$LINGEN_KIT_CACHE`, or else ~/.cache/lingen_kit."""
    return Path(os.environ.get("LINGEN_KIT_CACHE") or "~/.cache/lingen_kit").expanduser().absolute()


def cached_path(url: str) -> Path:
    """Where the file of a URL is kept once it is fetched."""
    digest = hashlib.blake2b(url.encode(errors="backslashreplace"), digest_size=8).hexdigest()
    return cache_folder() / "urls" / f"{digest}-{PurePosixPath(urlsplit(url).path).name[-150:]}"


def fetch(url: str) -> Path:
    """Give the file of a URL, fetching it if it is not in the cache.

    Processes that want the same file wait for one of them to fetch it. A file appears in the cache when it is whole.
    A failure is tried again twice, except where that cannot help. What is in the cache is not compared with the URL
    again: delete it there if it has changed.

    Args:
        url: `http://`, `https://`, or any other that the installed fsspec packages know.

    Raises:
        NotThere: If there is nothing at the URL.
        CannotFetch: If it cannot be fetched.
        OSError: If it cannot be stored, for example because the disk is full.
        MissingPackage: If its scheme needs a package that is not installed.
    """
    path = cached_path(url)
    if path.is_file():
        return path
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with FileLock(path.with_name(path.name + ".lock")):
        if path.is_file():  # another process was faster
            return path
        try:
            _download(url, partial)
            os.replace(partial, path)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                what = (
                    f"the disk is full, so {shown(url)} cannot be kept; set LINGEN_KIT_CACHE to a folder with more room"
                )
                raise OSError(error.errno, what, str(path.parent)) from error
            raise
        finally:
            with suppress(FileNotFoundError):
                partial.unlink()
    return path


def remote_size(url: str) -> int | None:
    """Bytes of the file of a URL, as far as the server says.

    Raises:
        NotThere: If there is nothing at the URL.
        CannotFetch: If the server does not answer.
    """
    size = _patiently(url, lambda: _file_system(url).info(url).get("size"))
    return None if size is None else int(size)


def _download(url: str, target: Path) -> None:
    def once() -> None:
        files = _file_system(url)
        files.get_file(url, str(target))
        expected, got = files.info(url).get("size"), target.stat().st_size
        if expected is not None and got != expected:
            raise ConnectionError(f"{got:,} of {expected:,} bytes came")

    _log.info("fetching %s", shown(url))
    _patiently(url, once)


def _patiently(url: str, attempt: Any) -> Any:
    """Do something with a URL, several times if need be; every failure but that of the disk becomes `CannotFetch`."""
    for pause in (*PAUSES, None):
        try:
            return attempt()
        except ImportError as error:
            raise MissingPackage(f"{shown(url)} needs another package: {error}") from error
        except Exception as raised:  # each file system has errors of its own
            if isinstance(raised, OSError) and raised.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            # fsspec says that a file is not found whatever kept it from asking.
            cause = (raised.__cause__ or raised) if isinstance(raised, FileNotFoundError) else raised
            status = getattr(cause, "status", 0)
            if isinstance(cause, FileNotFoundError) or status in (404, 410):
                raise NotThere(url, "there is nothing at this URL") from raised
            final = isinstance(cause, ValueError | PermissionError)
            hopeless = final or (400 <= status < 500 and status not in (408, 429))
            reason = f"the server answers {status}" if status else str(cause) or type(cause).__name__
            if hopeless or pause is None:
                tries = "" if hopeless else f" ({len(PAUSES) + 1} attempts)"
                raise CannotFetch(url, f"{reason}{tries}".replace(url, shown(url))) from raised
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _file_system(url: str) -> Any:
    import fsspec

    scheme = url.partition("://")[0]
    options: dict[str, Any] = {}
    if scheme in ("http", "https"):
        import aiohttp

        # Of the whole download there is no limit, as a shard is large: only of the time without a byte.
        patience = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
        options = {"client_kwargs": {"timeout": patience, "trust_env": True}}
    return fsspec.filesystem(scheme, **options)
