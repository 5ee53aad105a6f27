"""Private HTTP cache (RFC 9111) in a folder, based on hishel."""

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
from daemons.clients.web.common import Failure, is_secret, log
from daemons.clients.web.cookies import LATEST
from daemons.clients.web.location import host_field

#: Maximum bytes of a stored response, and of all stored responses.
LONGEST, LARGEST = 64 * 1024 * 1024, 1024 * 1024 * 1024

#: Mode of the folder: responses may be private.
MODE = 0o700

#: Directives of requests that hishel ignores: a response that is revalidated meets them (RFC 9111, section 5.2.1).
#: With no-cache, Cache-Control replaces Pragma, which hishel ignores as well.
_FRESH = frozenset(("max-age", "min-fresh", "no-cache"))

_log = logging.getLogger("hishel")


class _ErrorHandler(logging.Handler):
    """Logs the first error of the cache.  hishel continues without the cache."""

    def __init__(self, folder: Path) -> None:
        super().__init__(logging.ERROR)
        self._folder = folder
        self._logged = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._logged:
            self._logged = True
            error = record.exc_info[1] if record.exc_info else None
            reason = tools.reason_of(error) if isinstance(error, Exception) else record.getMessage()
            log(f"the cache in {self._folder} cannot be used: {reason}")


class _CachedBody(httpx2.SyncByteStream):
    """The body of a stored response.  Raises `Failure` if it is damaged."""

    def __init__(self, response: httpx2.Response, folder: Path) -> None:
        self._stream: Any = response.stream
        declared = response.headers.get("Content-Length", "") if response.request.method != "HEAD" else ""
        self._length = int(declared) if re.fullmatch("[0-9]{1,18}", declared) else None
        self._folder = folder

    def __iter__(self) -> Iterator[bytes]:
        received = 0
        try:
            for piece in self._stream:
                received += len(piece)
                yield piece
        except (sqlite3.Error, RuntimeError) as error:
            raise self._damaged() from error
        if self._length is not None and self._length != received:
            raise self._damaged()

    def close(self) -> None:
        self._stream.close()

    def _damaged(self) -> Failure:
        return Failure(f"--cache {self._folder}: a stored response is damaged; delete the folder")


class _DateAdjuster(httpx2.BaseTransport):
    """Corrects Date for hishel, which computes the age of a response from Date alone.

    The corrected Date gives the age of RFC 9111, section 4.2.3, which includes the field Age and is independent of the
    server's clock.  Expires is shifted by the same time, since the lifetime is counted from Date.  The extension
    `ORIGINAL` has the original fields."""

    ORIGINAL = "camelot_date_fields"

    def __init__(self, transport: httpx2.BaseTransport) -> None:
        self._transport = transport

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if "only-if-cached" in _directives(request):  # RFC 9111, section 5.2.1.7
            return httpx2.Response(504)
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
            # 0 is in the past as well; years before 1 cannot be formatted.
            response.headers["Expires"] = formatdate(min(max(moved, 0), LATEST), usegmt=True)
        response.headers["Date"] = formatdate(now - age, usegmt=True)
        return response

    def close(self) -> None:
        self._transport.close()


def _directives(request: httpx2.Request) -> frozenset[str]:
    """Return the names of the cache directives of a request, in lower case; Pragma counts without Cache-Control (RFC
    9111, section 5.4)."""
    text = request.headers.get("Cache-Control", request.headers.get("Pragma", ""))
    return frozenset(part.partition("=")[0].strip().lower() for part in text.split(","))


def _seconds(date: str | None) -> float | None:
    """Return an HTTP date as seconds since 1970, None if it is malformed."""
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


class Cache(httpx2.BaseTransport):
    """Serves responses from `folder` if RFC 9111 permits, and forwards other requests to `transport`.  Logs each cache
    hit.  Raises `Failure`.

    `route` identifies the server, if that is not the verified host of the URL: responses of another are not served."""

    def __init__(self, folder: Path, transport: httpx2.BaseTransport, route: str = "") -> None:
        try:
            folder.mkdir(MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise Failure(f"--cache {folder}: {tools.reason_of(error)}") from error
        self._folder = folder
        self._transport = transport
        self._route = route
        self._errors = _ErrorHandler(folder)
        _log.addHandler(self._errors)
        self._propagated, _log.propagate = _log.propagate, False
        storage = hishel.SqliteStorage(database_path=folder / "answers.db", max_stream_size=LONGEST, max_size=LARGEST)
        self._cached = CacheTransport(_DateAdjuster(transport), storage, rfc=hishel.CacheOptions(shared=False))

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        directives = _directives(request)
        if "no-store" in directives:  # hishel would store the response (RFC 9111, section 5.2.1.5)
            return self._transport.handle_request(request)
        if directives & _FRESH:
            request.headers["Cache-Control"] = "no-cache"
        if key := self._key(request):
            request.extensions = {**request.extensions, "caching": {"key": key}}
        try:
            response = self._cached.handle_request(request)
        except (sqlite3.Error, OSError, RuntimeError) as error:
            raise Failure(f"--cache {self._folder}: {tools.reason_of(error)}") from error
        for name, value in response.extensions.pop(_DateAdjuster.ORIGINAL, {}).items():
            if value is not None:
                response.headers[name] = value
            else:
                response.headers.pop(name, None)
        status: CacheStatus = response.extensions["caching"]
        if status["from_cache"]:
            # These cookies were set when the response was stored, and may have been changed since.
            response.headers.pop("Set-Cookie", None)
            response.request = request
            response.stream = _CachedBody(response, self._folder)
            log("from the cache, 304 Not Modified" if status["revalidated"] else "from the cache")
        return response

    def _key(self, request: httpx2.Request) -> str:
        """Return the key of a request that differs from others for its URL, empty for the default: a response to one
        user must not be served to another, nor one of a virtual host or server as that of another."""
        secrets = sorted(f"{name.lower()}: {text}" for name, text in request.headers.multi_items() if is_secret(name))
        host = request.headers.get("Host", "")
        if host == host_field(request.url).decode("ascii"):
            host = ""
        if not (secrets or host or self._route):
            return ""
        text = "\n".join((str(request.url), *secrets, host, self._route))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def close(self) -> None:
        try:
            self._cached.close()
        except sqlite3.Error as error:
            raise Failure(f"--cache {self._folder}: {tools.reason_of(error)}") from error
        finally:
            _log.removeHandler(self._errors)
            _log.propagate = self._propagated
