"""A browser's cache, in a folder: RFC 9111, by hishel."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hishel
import httpx
from hishel import CacheStatus
from hishel.httpx import CacheTransport

from daemons.clients import tools
from daemons.clients.web.common import Failure, tell

#: Octets of the longest answer that is kept, and of all of them together.
LONGEST, LARGEST = 64 * 1024 * 1024, 1024 * 1024 * 1024

#: Its private answers are nobody else's business.
MODE = 0o700

_log = logging.getLogger("hishel")


class _Complaints(logging.Handler):
    """Tells once that a cache does not work.  What it would have known is fetched, and all goes on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(logging.ERROR)
        self._folder = folder
        self._told = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._told:
            self._told = True
            error = record.exc_info[1] if record.exc_info else None
            why = tools.reason_of(error) if isinstance(error, Exception) else record.getMessage()
            tell(f"the cache in {self._folder} is of no use: {why}")


class _Kept(httpx.SyncByteStream):
    """The body of an answer that was kept.  Raises `Failure` where it is not what it was."""

    def __init__(self, response: httpx.Response, folder: Path) -> None:
        self._stream: Any = response.stream
        self._length = response.headers.get("Content-Length") if response.request.method != "HEAD" else None
        self._folder = folder

    def __iter__(self) -> Iterator[bytes]:
        came = 0
        try:
            for piece in self._stream:
                came += len(piece)
                yield piece
        except (sqlite3.Error, RuntimeError) as error:
            raise self._damaged() from error
        if self._length is not None and self._length != str(came):
            raise self._damaged()

    def close(self) -> None:
        self._stream.close()

    def _damaged(self) -> Failure:
        return Failure(f"--cache {self._folder}: what was kept is damaged; delete the folder")


class Cache(httpx.BaseTransport):
    """Answers from `folder` what it may, and asks `transport` for the rest; tells which."""

    def __init__(self, folder: Path, transport: httpx.BaseTransport) -> None:
        try:
            folder.mkdir(MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise Failure(f"--cache {folder}: {tools.reason_of(error)}") from error
        self._folder = folder
        self._complaints = _Complaints(folder)
        _log.addHandler(self._complaints)
        self._propagated, _log.propagate = _log.propagate, False
        storage = hishel.SqliteStorage(database_path=folder / "answers.db", max_stream_size=LONGEST, max_size=LARGEST)
        self._cached = CacheTransport(transport, storage, rfc=hishel.CacheOptions(shared=False))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if who := request.headers.get("Authorization"):
            # What one is given, another is not.
            key = hashlib.sha256(f"{request.url}\n{who}".encode()).hexdigest()
            request.extensions = {**request.extensions, "caching": {"key": key}}
        try:
            response = self._cached.handle_request(request)
        except (sqlite3.Error, OSError, RuntimeError) as error:
            raise Failure(f"--cache {self._folder}: {tools.reason_of(error)}") from error
        status: CacheStatus = response.extensions["caching"]
        if status["from_cache"]:
            # Set when it was fetched; by now there may be others.
            response.headers.pop("Set-Cookie", None)
            response.request = request
            response.stream = _Kept(response, self._folder)
            tell("from the cache, 304 Not Modified" if status["revalidated"] else "from the cache")
        return response

    def close(self) -> None:
        try:
            self._cached.close()
        except sqlite3.Error as error:
            raise Failure(f"--cache {self._folder}: {tools.reason_of(error)}") from error
        finally:
            _log.removeHandler(self._complaints)
            _log.propagate = self._propagated
