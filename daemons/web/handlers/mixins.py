"""Base classes with which handlers of ``http.server`` run in memory, and the test which handlers can."""

from __future__ import annotations

import http.server
import logging
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from daemons.framings.cache import FIELD, BoundedCache
from daemons.web.dates import http_date, http_date_now
from daemons.web.handlers.response_buffer import ResponseBuffer
from daemons.web.handlers.response_head import MOST_FIELDS, TOO_MANY
from daemons.web.responses import SERVER

log = logging.getLogger(__name__)

#: Methods that read the socket.  A handler that overrides one of them is run with a socket.
READING = ("handle", "handle_one_request", "parse_request")

#: Limits of a path that is looked up: names, and percent signs.  A request line of 8 KiB has room for 2730 escapes
#: (``%XX``), so in a path with more percent signs, not all of them begin an escape.
MOST_NAMES, MOST_ENCODED = 256, 2730

#: Cache of encoded field lines: characters of the longest field, and number of fields.
REMEMBERED_FIELD = 200
REMEMBERED_COUNT = 512
_lines: BoundedCache[tuple[str, str], bytes] = BoundedCache(REMEMBERED_COUNT)


def in_memory(handler: object) -> bool:
    """Return whether `handler` can be run in memory.

    It can if it is a subclass of `BaseHTTPRequestHandler`, or a `functools.partial` of one, that does not read the
    socket itself.  A handler without a buffer (``rbufsize = 0``, as the stock CGI handler) passes its socket to another
    process, so it cannot."""
    kind = class_of(handler)
    stock = http.server.BaseHTTPRequestHandler
    if not (isinstance(kind, type) and issubclass(kind, stock)):
        return False
    return kind.rbufsize != 0 and all(getattr(kind, name) is getattr(stock, name) for name in READING)


def writes_log(handler: object) -> bool:
    """Return whether a handler overrides the methods that log requests."""
    kind, stock = class_of(handler), http.server.BaseHTTPRequestHandler
    return any(getattr(kind, name) is not getattr(stock, name) for name in ("log_request", "log_message"))


def class_of(handler: object) -> object:
    """Return the class of a `functools.partial`; anything else unchanged."""
    return handler.func if isinstance(handler, partial) else handler


def without_version(handler: Any) -> Any:
    """Return a subclass of a raw handler that omits the version of Python from its Server field.

    Return the handler itself if its author has set `sys_version`, or if it is not a handler of ``http.server``."""
    kind: Any = class_of(handler)
    stock = http.server.BaseHTTPRequestHandler
    if not (isinstance(kind, type) and issubclass(kind, stock)) or kind.sys_version != stock.sys_version:
        return handler
    more: dict[str, Any] = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "sys_version": ""}
    if kind.version_string is stock.version_string:
        more["version_string"] = HandlerInMemory.version_string
    if kind.server_version == stock.server_version:
        more["server_version"] = SERVER
    made = type(kind.__name__, (kind,), more)
    return partial(made, *handler.args, **handler.keywords) if isinstance(handler, partial) else made


def for_memory(handler: Any) -> Callable[..., Any]:
    """Return a subclass of `handler` that runs in memory.

    The replaced methods come *after* the handler's own classes and before the standard library's in the method
    resolution order, so that the handler's own overrides and ``super()`` calls work unchanged."""
    kind: Any = class_of(handler)
    files = issubclass(kind, http.server.SimpleHTTPRequestHandler)
    behind = FileHandlerInMemory if files else HandlerInMemory
    bases = (_PostponedFinish, behind) if issubclass(behind, kind) else (_PostponedFinish, kind, behind)
    made = type(kind.__name__, bases, {"__module__": kind.__module__, "__qualname__": kind.__qualname__})
    return partial(made, *handler.args, **handler.keywords) if isinstance(handler, partial) else made


class HandlerInMemory(http.server.BaseHTTPRequestHandler):
    """Replaces methods of `BaseHTTPRequestHandler`: there is no socket, and a response is sent when it is complete."""

    #: The response.  The long names of these attributes do not clash with those of handlers.
    response_in_memory: ResponseBuffer
    #: The client, as the log shows it.
    peer_in_memory = ""
    #: Whether the daemon logs requests, so that the handler does not.
    logged_in_memory = False

    #: Without the version of Python, unlike the stock class.
    server_version, sys_version = SERVER, ""

    _headers_buffer: list[bytes]

    def version_string(self) -> str:
        """As the stock method, without a space if `sys_version` is empty."""
        return f"{self.server_version} {self.sys_version}" if self.sys_version else self.server_version

    def handle(self) -> None:
        """Do nothing: the service calls the ``do_`` method of each request."""

    def finish(self) -> None:
        """Do nothing: there is nothing to flush."""

    def flush_headers(self) -> None:
        """Add the buffered head to the response.  Every field passes through here, however the handler added it.
        Raises `ValueError` for a malformed line."""
        if buffer := getattr(self, "_headers_buffer", None):
            self._headers_buffer = []
            self.response_in_memory.write_head(buffer)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """As the stock method; the current date is formatted once per second."""
        return http_date_now() if timestamp is None else http_date(int(timestamp))

    def send_header(self, keyword: str, value: str) -> None:
        """As the stock method, with a cache of encoded lines.  Raises `ValueError` for too many fields."""
        # Only strings are cached: handlers may pass any type, and 1 and True are the same key.
        plain = type(keyword) is type(value) is str
        if plain and (line := _lines.get((keyword, value))) is not None:
            try:
                buffer = self._headers_buffer
            except AttributeError:
                self._headers_buffer = [line]
                return
            buffer.append(line)
            if len(buffer) > MOST_FIELDS:
                raise ValueError(TOO_MANY)
            return
        if len(getattr(self, "_headers_buffer", ())) >= MOST_FIELDS:
            raise ValueError(TOO_MANY)
        super().send_header(keyword, value)
        # Connection is not cached, since the stock method sets close_connection from it.
        if plain and len(keyword) + len(value) <= REMEMBERED_FIELD and keyword.lower() != "connection":
            _lines.put((keyword, value), f"{keyword}: {value}\r\n".encode("latin-1", "strict"), 2 * FIELD)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """As the stock method, unless the daemon logs requests, with their size."""
        if not self.logged_in_memory:
            super().log_request(code, size)

    def log_message(self, format: str, *args: Any) -> None:
        """Log to the daemon's log, which adds the time and escapes control characters."""
        if log.isEnabledFor(logging.INFO):
            log.info("%s: %s", self.peer_in_memory, format % args)


class _NotAFile(Exception):
    """The target of a request is neither a file nor a folder."""


class FileHandlerInMemory(http.server.SimpleHTTPRequestHandler, HandlerInMemory):
    """Replaces methods of `SimpleHTTPRequestHandler`."""

    server_version = SERVER

    def translate_path(self, path: str) -> str:
        """As the stock method, but return a path that does not exist in two cases.

        A path has thousands of names: the stock method takes quadratic time.  Or no file can have it, since it has a
        NUL or an unpaired surrogate: the stock `send_head` raises `ValueError`."""
        if path.count("/") <= MOST_NAMES and path.count("%") <= MOST_ENCODED:
            found = super().translate_path(path)
            with suppress(UnicodeEncodeError):
                if b"\0" not in os.fsencode(found):
                    return found
        return os.path.join(self.directory, "x" * 256)  # longer than a name can be

    def send_head(self) -> Any:
        """As the stock method, but respond with 404 for a FIFO, since opening it would block, or a device."""
        try:
            return super().send_head()
        except _NotAFile:
            self.send_error(HTTPStatus.NOT_FOUND, "File not found")
            return None

    def guess_type(self, path: Any) -> str:
        """As the stock method, which is called just before the file is opened; raise `_NotAFile` for special files."""
        with suppress(OSError, ValueError):
            mode = os.stat(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise _NotAFile
        return super().guess_type(path)

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """As the stock method; a long file is read as it is sent."""
        if outputfile is not self.response_in_memory or not self.response_in_memory.write_file(source):
            super().copyfile(source, outputfile)


class _PostponedFinish:
    """Comes first in the method resolution order: postpones the handler's own `finish` to the end of the
    conversation."""

    #: Whether the conversation has ended.
    finished_in_memory = False

    def finish(self) -> None:
        if self.finished_in_memory:
            super().finish()  # type: ignore[misc]
