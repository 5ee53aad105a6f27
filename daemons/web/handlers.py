"""Which handlers of ``http.server`` can be run in memory, and what they inherit when they are."""

from __future__ import annotations

import http.server
import io
import logging
import re
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from daemons.web.answer import Answer

log = logging.getLogger("daemons.web")

#: What reads the socket.  A handler with a method of its own in the place of one of these is run with a socket.
READING = ("handle", "handle_one_request", "parse_request")

#: What must not be in a field or a reason phrase, RFC 9110, section 5.5: with a line end in it one becomes two.
FORBIDDEN = re.compile(r"[\0-\x08\x0a-\x1f\x7f]")

#: The second of `date_time_string`, and its text.
_date: tuple[int, str] = (0, "")


def in_memory(handler: object) -> bool:
    """Whether `handler` is a subclass of `BaseHTTPRequestHandler`, or a `functools.partial` of one, that leaves it to
    that class to read its socket.  One without a buffer (``rbufsize = 0``, as the class for CGI has it) means to hand
    the socket to another process."""
    kind = class_of(handler)
    stock = http.server.BaseHTTPRequestHandler
    if not (isinstance(kind, type) and issubclass(kind, stock)):
        return False
    return kind.rbufsize != 0 and all(getattr(kind, name) is getattr(stock, name) for name in READING)


def class_of(handler: object) -> object:
    """The class that a `functools.partial` is of; any other as it is."""
    return handler.func if isinstance(handler, partial) else handler


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
    answer_in_memory: Answer
    #: Who asks, as the log shows it.
    peer_in_memory = ""

    _headers_buffer: list[bytes]

    def handle(self) -> None:
        """Nothing: each request calls its method."""

    def finish(self) -> None:
        """Nothing: there is nothing to be flushed."""

    def send_response_only(self, code: int, message: str | None = None) -> None:
        """As the stock method.  The version is the server's, whatever `protocol_version` says: a client that is told
        1.0 would take what follows for the end (RFC 9110, section 6.2).  Raises `ValueError`: a control character."""
        if message is None:
            message = self.responses[code][0] if code in self.responses else ""
        line = f"HTTP/1.1 {int(code):d} {message}"
        _look_for_controls(line)
        self.answer_in_memory.status = int(code)
        self._buffer(line)

    def send_header(self, keyword: str, value: str) -> None:
        """As the stock method.  Whether the connection is kept is said when the answer is complete.  Raises
        `ValueError`: a control character, or a Content-Length that is no number."""
        line = f"{keyword}: {value}"
        _look_for_controls(line)
        name = keyword.lower()
        answer = self.answer_in_memory
        if name == "connection":
            said = value.lower()
            if said in ("close", "keep-alive"):
                self.close_connection = said == "close"
                return
        elif name == "content-length":
            if not (text := str(value).strip()).isdecimal() or not text.isascii():
                raise ValueError(f"Content-Length: {value!r}; a number of octets is expected")
            answer.announced = int(text)
        elif name == "transfer-encoding":
            answer.chunked = True
        self._buffer(line)

    def _buffer(self, line: str) -> None:
        try:
            buffer = self._headers_buffer
        except AttributeError:
            buffer = self._headers_buffer = []
        buffer.append(f"{line}\r\n".encode("latin-1"))

    def end_headers(self) -> None:
        """As the stock method; what is missing is added when the answer is complete."""
        answer = self.answer_in_memory
        self.flush_headers()
        if answer.status == HTTPStatus.SWITCHING_PROTOCOLS:
            raise io.UnsupportedOperation("101: no other protocol is spoken in memory; override handle() for a socket")
        if 100 <= answer.status < 200:
            answer.head = []  # the request is here already, so there is nothing to wait for
        else:
            answer.headed = True

    def flush_headers(self) -> None:
        """As the stock method; nothing is sent before the answer is complete."""
        if buffer := getattr(self, "_headers_buffer", None):
            self.answer_in_memory.head += buffer
            self._headers_buffer = []

    def date_time_string(self, timestamp: float | None = None) -> str:
        """As the stock method; that of now is made once a second."""
        global _date
        if timestamp is not None:
            return super().date_time_string(timestamp)
        now = int(time.time())
        second, text = _date
        if second != now:
            text = super().date_time_string(now)
            _date = now, text
        return text

    def log_message(self, format: str, *args: Any) -> None:
        """To the shared log, which escapes control characters and adds the time."""
        if log.isEnabledFor(logging.INFO):
            log.info("%s: %s", self.peer_in_memory, format % args)


class FileHandlerInMemory(http.server.SimpleHTTPRequestHandler, HandlerInMemory):
    """What is other than in `SimpleHTTPRequestHandler`."""

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


def _look_for_controls(line: str) -> None:
    if not line.isprintable() and (found := FORBIDDEN.search(line)):
        raise ValueError(f"{found[0]!r} in a status line or field: {line!r}")
