"""From a request to a handler's ``do_`` method, and from what that wrote to a reply.  Without a socket."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, cast

from daemons.framings import Framing
from daemons.framings.http import Request
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.service import Reply, Service, Talk
from daemons.web.handlers.head_cache import Head, Heads, Messages
from daemons.web.handlers.memory_socket import MemorySocket, RequestBody
from daemons.web.handlers.mixins import class_of, for_memory, writes_log
from daemons.web.handlers.response_buffer import Bounds, ResponseBuffer
from daemons.web.responses import BODILESS, CONTINUE

if TYPE_CHECKING:
    from daemons.serving.guards.limits import Limits

log = logging.getLogger(__name__)

#: What says how long a body is.
FRAMING_FIELDS = (b"content-length:", b"transfer-encoding:")

#: What is said of a handler that has failed: no more than that it has.
FAILED = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 26\r\nConnection: close\r\n\r\n500 Internal Server Error\n"
)


#: The octets of its body.
FAILED_SIZE = 26


class WebServer(Protocol):
    """The server of a conversation, `daemons.web.handlers.server.WebServer`, as its service and handlers see it."""

    server_address: Any
    access_log: Any
    limits: Limits

    @property
    def draining(self) -> bool: ...


class WebService(Service):
    """What all visitors of a handler class share."""

    def __init__(self, framing: Framing, handler: Any) -> None:
        self.framing = framing
        self._make = for_memory(handler)
        self._writes_log = writes_log(handler)
        self._heads = Heads()
        self._messages = Messages(getattr(class_of(handler), "MessageClass"))  # noqa: B009, it may be of any class
        super().__init__()

    def talk(self) -> Talk:
        """There is none without a server and a visitor: `talk_to`."""
        raise NotImplementedError

    def apology(self, ending: Ending, /) -> bytes:
        """500 for a handler that has failed.  What is wrong with a request, its error says."""
        return FAILED if ending is Ending.FAILED else b""

    def talk_to(self, server: WebServer, address: Any, peer: str, is_gone: Callable[[], bool] = bool) -> Talk:
        """The conversation with one visitor: one handler, made when the first request has come.  `is_gone` returns
        whether nothing can be sent any more."""
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
        """The line of a request in the log; a handler that writes its own has done so."""
        if self.requests is not None and not self._writes_log:
            self.requests.tell(handler.client_address[0], self.requests.entry(request, status, size))

    def _handler(self, server: WebServer, address: Any, peer: str, response: ResponseBuffer) -> Any:
        """A handler that has not been asked anything yet."""
        handler = self._make(MemorySocket(server.server_address, address, response), address, server)
        handler.peer_in_memory = peer
        handler.logged_in_memory = not self._writes_log and server.access_log is not None
        return handler

    def _respond(self, handler: Any, request: Request, response: ResponseBuffer) -> Reply:
        """What `BaseHTTPRequestHandler.handle_one_request` does."""
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
            raise response.failure  # whatever the method has made of it
        if not request.keep_alive or handler.server.draining:
            handler.close_connection = True
        if not response.headed:
            return self._headless(handler, request, head, response)
        return self._complete(handler, request, head, response)

    def _headless(self, handler: Any, request: Request, head: Head, response: ResponseBuffer) -> Reply:
        """The handler has not made a head as the stock class does: then it is taken at its word, and not at another
        after it."""
        if not response.size or response.head or getattr(handler, "_headers_buffer", None):
            name = f"{type(handler).__name__}.do_{head.command}"
            raise RuntimeError(f"{name} has not called end_headers(): there is no answer to send")
        handler.close_connection = True
        self._log_request(handler, request, 0, response.size)
        return response.reply(b"", response.content())

    def _complete(self, handler: Any, request: Request, head: Head, response: ResponseBuffer) -> Reply:
        """What stock handlers leave out of their answers, or put into them though it must not be there."""
        fields = response.head
        size = announced = response.announced
        if head.command == "HEAD" or response.status in BODILESS:
            if response.size and announced is None and not response.chunked and response.status not in BODILESS:
                fields.append(b"Content-Length: %d\r\n" % response.size)  # as for GET
            if response.status == HTTPStatus.NO_CONTENT and (announced is not None or response.chunked):
                # RFC 9110, section 8.6, and RFC 9112, section 6.1: it must have neither.
                fields[:] = [line for line in fields if not line.lower().startswith(FRAMING_FIELDS)]
            size = 0
        elif response.chunked:
            size = None
            if announced is not None or head.version == "HTTP/1.0" or not response.last_chunk:
                handler.close_connection = True  # nobody can be sure where it ends
        elif announced is None:
            size = response.size
            fields.append(b"Content-Length: %d\r\n" % size)
        elif response.size != announced:
            handler.close_connection |= response.size < announced
            name = f"{type(handler).__name__}.do_{head.command}"
            log.warning("%s announced %d octets and wrote %d", name, announced, response.size)
        if handler.close_connection:
            fields.append(b"Connection: close\r\n")
        elif response.keeps or head.version == "HTTP/1.0":
            fields.append(b"Connection: keep-alive\r\n")
        fields.append(b"\r\n")
        self._log_request(handler, request, response.status, response.size if size is None else size)
        return response.reply(b"".join(fields), response.content(size))
