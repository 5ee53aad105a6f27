"""Which handlers of ``http.server`` can be run in memory, and what they inherit when they are."""

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
from daemons.web.dates import now_written, written
from daemons.web.handlers.response_buffer import MOST_FIELDS, TOO_MANY, ResponseBuffer
from daemons.web.responses import SERVER

log = logging.getLogger(__name__)

#: What reads the socket.  A handler with a method of its own in the place of one of these is run with a socket.
READING = ("handle", "handle_one_request", "parse_request")

#: Names of a path that is looked for, and bytes of it that may be encoded: in a request line of 8 KiB, more than 2730
#: ``%`` are not the beginnings of as many ``%XX``.
MOST_NAMES, MOST_ENCODED = 256, 2730

#: Fields of up to so many characters are remembered with their lines, and so many of them.
REMEMBERED_FIELD = 200
REMEMBERED_COUNT = 512
_lines: BoundedCache[tuple[str, str], bytes] = BoundedCache(REMEMBERED_COUNT)


def in_memory(handler: object) -> bool:
    """Whether `handler` is a subclass of `BaseHTTPRequestHandler`, or a `functools.partial` of one, that leaves it to
    that class to read its socket.  One without a buffer (``rbufsize = 0``, as the class for CGI has it) means to hand
    the socket to another process."""
    kind = class_of(handler)
    stock = http.server.BaseHTTPRequestHandler
    if not (isinstance(kind, type) and issubclass(kind, stock)):
        return False
    return kind.rbufsize != 0 and all(getattr(kind, name) is getattr(stock, name) for name in READING)


def writes_log(handler: object) -> bool:
    """Whether a handler has methods of its own for the log's lines of requests."""
    kind, stock = class_of(handler), http.server.BaseHTTPRequestHandler
    return any(getattr(kind, name) is not getattr(stock, name) for name in ("log_request", "log_message"))


def class_of(handler: object) -> object:
    """The class that a `functools.partial` is of; any other as it is."""
    return handler.func if isinstance(handler, partial) else handler


def without_version(handler: Any) -> Any:
    """Return a subclass of a raw handler whose Server field has no version of Python, unless its author has set one.
    Return any other handler unchanged."""
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
    """The same handler, with what it needs in memory.

    What is overridden is put *behind* the handler's own classes and before the standard library's, so that whatever
    the handler overrides itself, and calls by ``super()``, is as it was."""
    kind: Any = class_of(handler)
    files = issubclass(kind, http.server.SimpleHTTPRequestHandler)
    behind = FileHandlerInMemory if files else HandlerInMemory
    bases = (_Guarded, behind) if issubclass(behind, kind) else (_Guarded, kind, behind)
    made = type(kind.__name__, bases, {"__module__": kind.__module__, "__qualname__": kind.__qualname__})
    return partial(made, *handler.args, **handler.keywords) if isinstance(handler, partial) else made


class HandlerInMemory(http.server.BaseHTTPRequestHandler):
    """What is other than in `BaseHTTPRequestHandler`, where no socket is and the answer is sent when it is complete."""

    #: Where the answer is.  The name is this long because the handler's author may have any shorter one.
    answer_in_memory: ResponseBuffer
    #: Who asks, as the log shows it.
    peer_in_memory = ""
    #: Whether requests are told by the daemon, or are not to be told.
    told_in_memory = False

    #: Without the version of Python, unlike the stock class.
    server_version, sys_version = SERVER, ""

    _headers_buffer: list[bytes]

    def version_string(self) -> str:
        """As the stock method, without a blank where `sys_version` is empty."""
        return f"{self.server_version} {self.sys_version}" if self.sys_version else self.server_version

    def handle(self) -> None:
        """Nothing: each request calls its method."""

    def finish(self) -> None:
        """Nothing: there is nothing to be flushed."""

    def flush_headers(self) -> None:
        """As the stock method; nothing is sent before the answer is complete.  All fields come this way, however they
        were added.  Raises `ValueError` for what cannot be sent."""
        if buffer := getattr(self, "_headers_buffer", None):
            self._headers_buffer = []
            self.answer_in_memory.write_head(buffer)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """As the stock method; that of now is made once a second."""
        return now_written() if timestamp is None else written(int(timestamp))

    def send_header(self, keyword: str, value: str) -> None:
        """As the stock method; a field that has been said before is not made again."""
        # Any type may be given, and 1 is as good a key as True.
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
        # What is said of the connection, the stock method takes note of.
        if plain and len(keyword) + len(value) <= REMEMBERED_FIELD and keyword.lower() != "connection":
            _lines.put((keyword, value), f"{keyword}: {value}\r\n".encode("latin-1", "strict"), 2 * FIELD)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """As the stock method; where the daemon writes a line for each request, nothing: it knows the size."""
        if not self.told_in_memory:
            super().log_request(code, size)

    def log_message(self, format: str, *args: Any) -> None:
        """To the shared log, which escapes control characters and adds the time."""
        if log.isEnabledFor(logging.INFO):
            log.info("%s: %s", self.peer_in_memory, format % args)


class _NotAFile(Exception):
    """What a request is about is neither a file nor a folder."""


class FileHandlerInMemory(http.server.SimpleHTTPRequestHandler, HandlerInMemory):
    """What is other than in `SimpleHTTPRequestHandler`."""

    server_version = SERVER

    def translate_path(self, path: str) -> str:
        """As the stock method, which takes quadratic time for paths with thousands of names; these name no file."""
        if path.count("/") > MOST_NAMES or path.count("%") > MOST_ENCODED:
            return os.path.join(self.directory, "x" * 256)  # longer than a name can be
        return super().translate_path(path)

    def send_head(self) -> Any:
        """As the stock method, which would open a FIFO, and wait for who writes to it, or a device: 404."""
        try:
            return super().send_head()
        except _NotAFile:
            self.send_error(HTTPStatus.NOT_FOUND, "File not found")
            return None

    def guess_type(self, path: Any) -> str:
        """As the stock method, which is asked just before the file is opened."""
        with suppress(OSError, ValueError):
            mode = os.stat(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise _NotAFile
        return super().guess_type(path)

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """As the stock method; a long file is read while it is sent."""
        if outputfile is not self.answer_in_memory or not self.answer_in_memory.write_file(source):
            super().copyfile(source, outputfile)


class _Guarded:
    """Before the handler's own classes: a `finish` of its own waits for the end of the conversation."""

    #: Whether it has come.
    over_in_memory = False

    def finish(self) -> None:
        if self.over_in_memory:
            super().finish()  # type: ignore[misc]
