"""WebServer: `http.server.HTTPServer`, hardened."""

from __future__ import annotations

import http.server
import select
import socket
import socketserver
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from daemons.framings import Framing
from daemons.framings.http import HTTP
from daemons.serving.connection import Connection
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.service import Talk
from daemons.serving.conversation.service_binding import ServiceBinding
from daemons.serving.listening.listen import prepare
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from daemons.web.handlers.mixins import in_memory, without_version
from daemons.web.handlers.service import WebService

if TYPE_CHECKING:
    from typing import Self


class WebServer(StreamServer, http.server.HTTPServer):
    """A server of HTTP on one listener, with the stock constructor.  Mix an engine in front of it:
    ``class MyServer(Loop, WebServer)``.

    `RequestHandlerClass` is any subclass of `BaseHTTPRequestHandler`, or a `functools.partial` of one.  It is run in
    memory, so that it never waits for a peer, and can be run under every engine.  One that reads its socket itself
    (`daemons.web.handlers.mixins.in_memory` says which) is run as any other raw handler.
    """

    #: How requests are read, and how long they may be.
    framing: Framing = HTTP()
    #: The port is ours alone.
    allow_reuse_port = False

    def __init__(
        self, server_address: Any, RequestHandlerClass: Callable[..., Any], bind_and_activate: bool = True
    ) -> None:
        #: The handler's class as it was given.
        self.handler_class = RequestHandlerClass
        handler: Any = RequestHandlerClass
        handler = Pump.carrying(self.make_service(handler)) if in_memory(handler) else without_version(handler)
        self._tell_name(server_address)
        super().__init__(server_address, handler, bind_and_activate)

    @classmethod
    def adopt(cls, listener: socket.socket, handler: Callable[..., Any]) -> Self:
        """A server on a socket that is bound already, and listens."""
        server = super().adopt(listener, handler)
        server._tell_name(server.server_address)
        return server

    def make_service(self, handler: Callable[..., Any]) -> WebService:
        """What runs `handler` in memory."""
        return WebService(self.framing, handler)

    def server_bind(self) -> None:
        """Bind.  `HTTPServer.server_bind` asks DNS for the host's name, which may take long, and breaks on the path of
        a Unix socket."""
        prepare(self.socket)
        socketserver.TCPServer.server_bind(self)
        self._tell_name(self.server_address)

    def _tell_name(self, address: Any) -> None:
        over_unix = isinstance(address, (str, bytes))
        self.server_name, self.server_port = ("localhost", 0) if over_unix else address[:2]

    @property
    def greets(self) -> bool:
        """Nobody does in HTTP."""
        return False

    def bare_conversation(self, connection: Connection) -> Conversation:
        """A conversation that knows its visitor, and this server."""
        pump: Any = self.RequestHandlerClass
        return WebConversation(pump.service, pump.binding, self, connection)


class WebConversation(Conversation):
    """One visitor's requests and answers."""

    __slots__ = ("_connection", "_server", "_service")

    def __init__(self, service: WebService, binding: ServiceBinding, server: WebServer, connection: Connection) -> None:
        super().__init__(service, binding)
        self._service = service
        self._server = server
        self._connection: Connection | None = connection

    def begin(self) -> Talk:
        """The talk with this visitor, who by now is known even behind a proxy."""
        connection, self._connection = self._connection, None  # which has this conversation, and would stay with it
        assert connection is not None
        address, peer = connection.address, connection.peer
        # Handlers take the first part of an address for a host; a Unix peer has none.
        visitor = address if isinstance(address, tuple) else (peer, 0)
        is_gone = PeerCheck(connection, self._server.limits.write_timeout)
        return self._service.talk_to(self._server, visitor, peer, is_gone)


class PeerCheck:
    """Call it to learn whether the peer of `connection` cannot be sent anything any more; then the ending says so. It
    cannot if it has reset the connection, or the daemon has shut that down. A peer that has closed its sending half may
    still read: it counts as gone `patience` seconds after that was first seen, since most such peers have closed all.
    """

    __slots__ = ("_connection", "_half_closed", "_patience")

    def __init__(self, connection: Connection, patience: float) -> None:
        # Not the connection itself, which has the conversation that has this.
        self._connection = weakref.ref(connection)
        self._patience = patience
        #: When (monotonic) the peer was first seen to have closed its half.
        self._half_closed: float | None = None

    def __call__(self) -> bool:
        connection = self._connection()
        if connection is None or connection.socket.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(connection.socket, select.POLLRDHUP)  # POLLHUP and POLLERR are always reported
        events = poll.poll(0)
        if not events:
            return False
        if not events[0][1] & ~select.POLLRDHUP:
            now = time.monotonic()
            self._half_closed = self._half_closed or now
            if now < self._half_closed + self._patience:
                return False
        connection.ending = connection.ending or Ending.RESET
        return True
