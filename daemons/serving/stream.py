"""StreamServer: `socketserver.TCPServer`, hardened."""

from __future__ import annotations

import select
import socket
import socketserver
from functools import partial
from typing import TYPE_CHECKING, Any

from daemons.framings import FramingError
from daemons.framings.proxy import Header
from daemons.serving.connection import Connection
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.proxy import ProxiedConversation
from daemons.serving.proxy_socket import read_header
from daemons.serving.safe_logger import SafeLogger
from daemons.serving.server import Server
from daemons.serving.spool import SpooledSocket

if TYPE_CHECKING:
    from daemons.serving.conversation.tls import TLS

log = SafeLogger(__name__)

#: Endings after which there is nobody to say goodbye to.
GONE = frozenset((Ending.DONE, Ending.CUT, Ending.RESET))


class StreamServer(Server, socketserver.TCPServer):
    """A stream server on one listener, with the stock constructor, and usable bare, as a stock server is.

    ``server_address`` is ``(host, port)`` for IPv4 or IPv6, or the path of a Unix socket.  Mix an engine
    in front of it: ``class MyServer(Threads, StreamServer)``.  Without one, conversations are served in
    the accept loop as in the stock class, and each socket operation has `Limits.idle_timeout`.
    """

    allow_reuse_address = True
    #: The stock 5 makes 64 clients that come at once wait for SYN retransmissions: nine seconds.
    request_queue_size = 1024
    #: What makes it a TLS server; None: it speaks in clear.
    tls: TLS | None = None

    def conversation(self, connection: Connection) -> Conversation:
        """A conversation for a new visitor, in TLS and behind a PROXY header where that is so."""
        conversation = super().conversation(connection)
        if self.tls is not None:
            conversation = self.tls.secure(conversation, connection.explain)
        # Outermost, also around TLS: the proxy speaks first.
        if connection.proxied:
            conversation = ProxiedConversation(conversation, partial(self.introduce, connection))
        return conversation

    @property
    def secure(self) -> bool:
        """Whether conversations are over TLS."""
        return self.tls is not None

    def stop_listening(self) -> None:
        """Close the listener.  Conversations under way go on."""
        self.socket.close()

    def get_request(self) -> tuple[Any, Any]:
        request, client_address = self.socket.accept()
        return self.spooled(request), client_address

    def spooled(self, request: socket.socket) -> socket.socket:
        """The same connection; under `Limits.spool` one that keeps what its peer has yet to read."""
        if self.limits.spool is None or self.service is None:
            return request
        return SpooledSocket(request, self.limits.spool)

    def settle_spool(self, connection: Connection, request: SpooledSocket) -> OSError | None:
        """At the end: what is still kept was not sent.  Return the error, if it was that of the file it is kept in, for
        the log."""
        connection.sent -= request.unsent
        if request.failure is not None:
            connection.ending = Ending.FAILED
        return request.failure

    def judge(self, connection: Connection) -> None:
        """Ask the guards about a peer; of one that comes through a proxy, not before the proxy has said who it is."""
        if not connection.proxied and self.access.proxies and self.access.is_proxy(connection.host):
            connection.proxied = True
        else:
            super().judge(connection)

    def introduce(self, connection: Connection, header: Header | FramingError) -> Ending | None:
        """A proxy has said for whom it comes, or nothing that could be read: from now on the connection is
        that peer's, and the guards are asked about it.  Returns the ending that this means, None: go on."""
        connection.proxied = False
        if isinstance(header, FramingError):
            log.debug("%s: no PROXY header: %s", connection.peer, header)
            connection.ending = connection.ending or Ending.HANDSHAKE
            connection.reason = f"proxy-{type(header).__name__.lower()}"
        else:
            connection.address = header.source or connection.address
            super().judge(connection)
        return connection.ending

    def run_handler(self, connection: Connection) -> None:
        """Run the handler.  A raw one knows nothing of deadlines, so that it gets a timeout for each
        operation on its socket, and one for the whole conversation."""
        request = connection.socket
        handler: Any = self.RequestHandlerClass
        carries_messages = getattr(handler, "carries_messages", False)
        if not carries_messages and connection.proxied and not self._introduced(connection):
            return
        # Without an engine, it is the accept loop that is about to serve, so that nobody keeps the deadlines.
        unwatched = self.daemon is None or type(self).process_request is socketserver.BaseServer.process_request
        if unwatched or not carries_messages:
            request.settimeout(self.limits.idle_timeout)
        if not carries_messages:
            connection.messages = None
            connection.expect(Ending.OVERLONG, self.limits.conversation_timeout)
        if self.tls is None or connection.messages is not None:
            handler(request, connection.address, self)
            return
        from daemons.serving.tls.handler_socket import over_tls  # ssl is dear, and most do without it

        with over_tls(self.tls, request, connection, self.limits) as lent:
            handler(lent, connection.address, self)

    def is_of_peer(self, connection: Connection, error: OSError) -> bool:
        """As in `Server`.  The same error may come from another connection that a handler has made: then its peer is
        still there, and the error is a failure of ours."""
        if not isinstance(error, ConnectionError):
            return False
        if connection.reason or connection.socket.fileno() < 0:
            return True  # TLS has failed, or the handler closed the socket
        poll = select.poll()
        poll.register(connection.socket, select.POLLRDHUP)
        return bool(poll.poll(0))

    def shutdown_request(self, request: Any) -> None:
        """The end of every conversation: one access line, then the socket is closed."""
        connection = self.connections.get(request)
        if connection is not None and connection.ending in GONE:
            self._log_access_safely(connection)
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def _introduced(self, connection: Connection) -> bool:
        """For a raw handler: read the PROXY header.  Returns whether the guards let that peer in."""
        try:
            header = read_header(connection.socket, self.limits.handshake_timeout)
        except OSError as error:
            late = isinstance(error, TimeoutError)
            connection.ending = connection.ending or (Ending.HANDSHAKE if late else Ending.RESET)
            return False
        return self.introduce(connection, header) is None
