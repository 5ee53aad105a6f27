"""A browser's cache, in a folder: RFC 9111, by hishel."""

from __future__ import annotations

import hashlib
import logging
import re
import sqlite3
import time
from collections.abc import Iterator
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Any

import hishel
import httpx2
from hishel import CacheStatus
from hishel.httpx2 import CacheTransport

from daemons.clients import tools
from daemons.clients.web.common import Failure, tell
from daemons.clients.web.cookies import LATEST

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


class _Kept(httpx2.SyncByteStream):
    """The body of an answer that was kept.  Raises `Failure` where it is not what it was."""

    def __init__(self, response: httpx2.Response, folder: Path) -> None:
        self._stream: Any = response.stream
        declared = response.headers.get("Content-Length", "") if response.request.method != "HEAD" else ""
        self._length = int(declared) if re.fullmatch("[0-9]{1,18}", declared) else None
        self._folder = folder

    def __iter__(self) -> Iterator[bytes]:
        came = 0
        try:
            for piece in self._stream:
                came += len(piece)
                yield piece
        except (sqlite3.Error, RuntimeError) as error:
            raise self._damaged() from error
        if self._length is not None and self._length != came:
            raise self._damaged()

    def close(self) -> None:
        self._stream.close()

    def _damaged(self) -> Failure:
        return Failure(f"--cache {self._folder}: what was kept is damaged; delete the folder")


class _Aged(httpx2.BaseTransport):
    """Gives hishel, which computes the age of a response from its Date alone, a Date from which the right age follows
    (RFC 9111, section 4.2.3): the Age that other caches counted is included, and a server's wrong clock is not.
    Expires is moved with it, since the lifetime is counted from Date.  `ORIGINAL` keeps the fields as they were."""

    ORIGINAL = "camelot_date_fields"

    def __init__(self, transport: httpx2.BaseTransport) -> None:
        self._transport = transport

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        began = time.time()
        response = self._transport.handle_request(request)
        now = time.time()
        date = _seconds(response.headers.get("Date"))
        text = response.headers.get("Age", "")
        counted = int(text) if re.fullmatch("[0-9]{1,10}", text) else 0
        age = max(now - date if date is not None else 0, counted + now - began, 0)
        response.extensions[self.ORIGINAL] = {name: response.headers.get(name) for name in ("Date", "Expires")}
        expires = _seconds(response.headers.get("Expires"))
        if expires is not None:
            moved = expires + now - age - (now if date is None else date)
            response.headers["Expires"] = formatdate(min(moved, LATEST), usegmt=True)
        response.headers["Date"] = formatdate(now - age, usegmt=True)
        return response

    def close(self) -> None:
        self._transport.close()


def _seconds(date: str | None) -> float | None:
    """Return the seconds since 1970 that an HTTP date stands for, None if it is none."""
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


class Cache(httpx2.BaseTransport):
    """Answers from `folder` what it may, and asks `transport` for the rest; tells which."""

    def __init__(self, folder: Path, transport: httpx2.BaseTransport) -> None:
        try:
            folder.mkdir(MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise Failure(f"--cache {folder}: {tools.reason_of(error)}") from error
        self._folder = folder
        self._complaints = _Complaints(folder)
        _log.addHandler(self._complaints)
        self._propagated, _log.propagate = _log.propagate, False
        storage = hishel.SqliteStorage(database_path=folder / "answers.db", max_stream_size=LONGEST, max_size=LARGEST)
        self._cached = CacheTransport(_Aged(transport), storage, rfc=hishel.CacheOptions(shared=False))

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if who := request.headers.get("Authorization"):
            # What one is given, another is not.
            key = hashlib.sha256(f"{request.url}\n{who}".encode()).hexdigest()
            request.extensions = {**request.extensions, "caching": {"key": key}}
        try:
            response = self._cached.handle_request(request)
        except (sqlite3.Error, OSError, RuntimeError) as error:
            raise Failure(f"--cache {self._folder}: {tools.reason_of(error)}") from error
        for name, value in response.extensions.pop(_Aged.ORIGINAL, {}).items():
            if value is not None:
                response.headers[name] = value
            else:
                response.headers.pop(name, None)
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
