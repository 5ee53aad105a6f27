"""WebServer: a hardened `http.server.HTTPServer`."""

from __future__ import annotations

import http.server
import socket
import socketserver
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from daemons.framings import Framing
from daemons.framings.http import HTTP
from daemons.serving.connection import Connection
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.service import Talk
from daemons.serving.conversation.service_binding import ServiceBinding
from daemons.serving.listening.listen import prepare
from daemons.serving.peer_check import PeerCheck
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from daemons.web.handlers.mixins import in_memory, without_version
from daemons.web.handlers.service import WebService

if TYPE_CHECKING:
    from typing import Self


class WebServer(StreamServer, http.server.HTTPServer):
    """HTTP server on one listener, with the stock constructor.  Mix an engine in front of it:
    ``class MyServer(Loop, WebServer)``.

    `RequestHandlerClass` is any subclass of `BaseHTTPRequestHandler`, or a `functools.partial` of one.  It is run in
    memory, so that it never blocks on the client, and runs under every engine.  A handler that reads its socket itself
    (see `daemons.web.handlers.mixins.in_memory`) is run as any other raw handler.
    """

    #: Decodes requests, and limits their length.
    framing: Framing = HTTP()
    #: No other process may bind the same port.
    allow_reuse_port = False

    def __init__(
        self, server_address: Any, RequestHandlerClass: Callable[..., Any], bind_and_activate: bool = True
    ) -> None:
        #: The handler class passed to the constructor.
        self.handler_class = RequestHandlerClass
        handler: Any = RequestHandlerClass
        handler = Pump.for_service(self.make_service(handler)) if in_memory(handler) else without_version(handler)
        self._set_name(server_address)
        super().__init__(server_address, handler, bind_and_activate)

    @classmethod
    def adopt(cls, listener: socket.socket, handler: Callable[..., Any]) -> Self:
        """Return a server on a listening socket."""
        server = super().adopt(listener, handler)
        server._set_name(server.server_address)
        return server

    def make_service(self, handler: Callable[..., Any]) -> WebService:
        """Return the service that runs `handler` in memory."""
        return WebService(self.framing, handler)

    def server_bind(self) -> None:
        """Bind the socket.  `HTTPServer.server_bind` looks up the host's name in the DNS, which may take long, and
        fails for the path of a Unix socket."""
        prepare(self.socket)
        socketserver.TCPServer.server_bind(self)
        self._set_name(self.server_address)

    def _set_name(self, address: Any) -> None:
        over_unix = isinstance(address, (str, bytes))
        self.server_name, self.server_port = ("localhost", 0) if over_unix else address[:2]

    @property
    def greets(self) -> bool:
        """Return False: in HTTP the client speaks first."""
        return False

    def make_bare_conversation(self, connection: Connection) -> Conversation:
        """Return a conversation with access to its connection and this server."""
        pump: Any = self.RequestHandlerClass
        return WebConversation(pump.service, pump.binding, self, connection)


class WebConversation(Conversation):
    """Requests and responses of one connection."""

    __slots__ = ("_connection", "_server", "_service")

    def __init__(self, service: WebService, binding: ServiceBinding, server: WebServer, connection: Connection) -> None:
        super().__init__(service, binding)
        self._service = service
        self._server = server
        self._connection: Connection | None = connection

    def begin(self) -> Talk:
        """Start the talk.  By now a PROXY header has been applied, so the client's address is known."""
        connection, self._connection = self._connection, None  # it refers to this conversation: no reference cycle
        assert connection is not None
        address, peer = connection.address, connection.peer
        # Handlers use the first item of an address as the host; a Unix peer has none.
        client_address = address if isinstance(address, tuple) else (peer, 0)
        is_gone = PeerCheck(connection, self._server.limits.write_timeout)
        return self._service.talk_to(self._server, client_address, peer, is_gone)
