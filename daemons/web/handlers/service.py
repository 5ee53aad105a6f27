"""Service that calls a handler's ``do_`` method for each request, and completes its response.  Without a socket."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, cast

from daemons.framings import Framing
from daemons.framings.http import Request
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.peer import Peer
from daemons.serving.conversation.service import Reply, Service, Talk
from daemons.web.handlers.head_cache import Head, Heads, Messages
from daemons.web.handlers.memory_socket import MemorySocket, RequestBody
from daemons.web.handlers.mixins import class_of, for_memory, writes_log
from daemons.web.handlers.response_buffer import Bounds, ResponseBuffer
from daemons.web.responses import BODILESS, CONTINUE

if TYPE_CHECKING:
    from daemons.serving.guards.limits import Limits

log = logging.getLogger(__name__)

#: Beginnings of the fields that delimit a body, in lower case.
FRAMING_FIELDS = (b"content-length:", b"transfer-encoding:")

#: The response after an exception in a handler; it does not disclose the exception.
FAILED = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 26\r\nConnection: close\r\n\r\n500 Internal Server Error\n"
)

#: Length of its body, in bytes.
FAILED_SIZE = 26


class WebServer(Protocol):
    """Interface of `daemons.web.handlers.server.WebServer` that services and handlers use."""

    server_address: Any
    access_log: Any
    limits: Limits

    @property
    def draining(self) -> bool: ...


class WebService(Service):
    """Runs a handler class for all connections of a process."""

    def __init__(self, framing: Framing, handler: Any) -> None:
        self.framing = framing
        self._make = for_memory(handler)
        self._writes_log = writes_log(handler)
        self._heads = Heads()
        self._messages = Messages(getattr(class_of(handler), "MessageClass"))  # noqa: B009, the class may be any
        super().__init__()

    def talk(self, peer: Peer) -> Talk:
        """Raises `NotImplementedError`: `talk_to` needs the server and the client."""
        raise NotImplementedError

    def apology(self, ending: Ending, /) -> bytes:
        """Return a 500 response after an exception.  For malformed requests, the framing's error is the response."""
        return FAILED if ending is Ending.FAILED else b""

    def talk_to(self, server: WebServer, address: Any, peer: str, is_gone: Callable[[], bool] = bool) -> Talk:
        """Run one handler object for the requests of one connection.

        `address` and `peer` are the client's address and its name in the log.  `is_gone` returns True if the client can
        receive nothing more."""
        handler: Any = None
        reply: Reply | None = None
        bounds = Bounds(server.limits.response, is_gone)
        try:
            while True:
                request = cast(Request, (yield reply))
                if request.expects:
                    reply = CONTINUE
                    continue
                response = ResponseBuffer(bounds)
                if handler is None:
                    handler = self._handler(server, address, peer, response)
                try:
                    reply = self._respond(handler, request, response)
                except BaseException:
                    response.discard()
                    if isinstance(response.failure, BrokenPipeError):
                        self._log_request(handler, request, response.status, 0)
                        return b""
                    self._log_request(handler, request, 500, FAILED_SIZE)
                    raise
                if handler.close_connection and request.keep_alive:
                    return reply
        finally:
            if handler is not None:
                handler.finished_in_memory = True
                handler.finish()

    def _log_request(self, handler: Any, request: Request, status: int, size: int | None) -> None:
        """Log a request, unless the handler logs its own."""
        if self.request_log is not None and not self._writes_log:
            self.request_log.log(handler.client_address[0], self.request_log.entry(request, status, size))

    def _handler(self, server: WebServer, address: Any, peer: str, response: ResponseBuffer) -> Any:
        """Create the handler of a connection."""
        handler = self._make(MemorySocket(server.server_address, address, response), address, server)
        handler.peer_in_memory = peer
        handler.logged_in_memory = not self._writes_log and server.access_log is not None
        return handler

    def _respond(self, handler: Any, request: Request, response: ResponseBuffer) -> Reply:
        """Call the method of one request, as `BaseHTTPRequestHandler.handle_one_request` does."""
        head = self._heads.of(request)
        handler.command, handler.path, handler.request_version, handler.requestline = head[:4]
        handler.raw_requestline = head.raw_line
        handler.headers = self._messages.make(head, len(request.body))
        handler.rfile = handler.request.rfile = RequestBody(request.body)
        handler.wfile = handler.request.wfile = handler.response_in_memory = response
        handler.close_connection = not request.keep_alive
        method = getattr(handler, f"do_{head.command}", None)
        if method is None:
            handler.send_error(HTTPStatus.NOT_IMPLEMENTED, f"Unsupported method ({head.command!r})")
        else:
            method()
        if response.failure is not None:
            raise response.failure  # even if the method caught it
        if not request.keep_alive or handler.server.draining:
            handler.close_connection = True
        if not response.headed:
            return self._headless(handler, request, head, response)
        return self._complete(handler, request, head, response)

    def _headless(self, handler: Any, request: Request, head: Head, response: ResponseBuffer) -> Reply:
        """Return a response that the handler wrote without a head, unchanged, and close the connection after it.
        Raises `RuntimeError` for an incomplete head, or no response."""
        if not response.size or response.head or getattr(handler, "_headers_buffer", None):
            name = f"{type(handler).__name__}.do_{head.command}"
            raise RuntimeError(f"{name} did not call end_headers(): there is no response to send")
        handler.close_connection = True
        self._log_request(handler, request, 0, response.size)
        return response.reply(b"", response.content())

    def _complete(self, handler: Any, request: Request, head: Head, response: ResponseBuffer) -> Reply:
        """Return the response with correct Content-Length and Connection fields, which stock handlers often omit."""
        fields = response.head
        size = announced = response.announced
        if head.command == "HEAD" or response.status in BODILESS:
            if response.size and announced is None and not response.chunked and response.status not in BODILESS:
                fields.append(b"Content-Length: %d\r\n" % response.size)  # as for GET
            if response.status == HTTPStatus.NO_CONTENT and (announced is not None or response.chunked):
                # It must have neither field (RFC 9110, section 8.6; RFC 9112, section 6.1).
                fields[:] = [line for line in fields if not line.lower().startswith(FRAMING_FIELDS)]
            size = 0
        elif response.chunked:
            size = None
            if announced is not None or head.version == "HTTP/1.0" or not response.last_chunk:
                handler.close_connection = True  # clients may disagree about the end of the body
        elif announced is None:
            size = response.size
            fields.append(b"Content-Length: %d\r\n" % size)
        elif response.size != announced:
            handler.close_connection |= response.size < announced
            name = f"{type(handler).__name__}.do_{head.command}"
            log.warning("%s: Content-Length is %d, but the handler wrote %d bytes", name, announced, response.size)
        if handler.close_connection:
            fields.append(b"Connection: close\r\n")
        elif response.keeps or head.version == "HTTP/1.0":
            fields.append(b"Connection: keep-alive\r\n")
        fields.append(b"\r\n")
        self._log_request(handler, request, response.status, response.size if size is None else size)
        return response.reply(b"".join(fields), response.content(size))
