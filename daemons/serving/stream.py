"""StreamServer: `socketserver.TCPServer`, hardened."""

from __future__ import annotations

import select
import socket
import socketserver
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from daemons.framings import FramingError
from daemons.framings.proxy import Header
from daemons.serving.connection import Connection
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.proxy import ProxiedConversation
from daemons.serving.inlinable import inlinable
from daemons.serving.proxy_socket import read_header
from daemons.serving.safe_logger import SafeLogger
from daemons.serving.server import Server
from daemons.serving.spool import SpooledSocket

if TYPE_CHECKING:
    from daemons.serving.conversation.tls import TLS

log = SafeLogger(__name__)

#: tcpi_unacked in struct tcp_info, linux/tcp.h; for a listener it is the number of connections in the accept queue.
_QUEUED = slice(24, 28)

#: Endings after which the peer has closed the connection, so that no shutdown(2) is needed.
GONE = frozenset((Ending.DONE, Ending.CUT, Ending.RESET))


class StreamServer(Server, socketserver.TCPServer):
    """A stream server on one listener, with socketserver's constructor.

    ``server_address`` is ``(host, port)`` for IPv4 or IPv6, or the path of a Unix socket.  An engine is mixed in
    before it: ``class MyServer(Threads, StreamServer)``.  Without an engine, conversations are served in the accept
    loop as in `socketserver.TCPServer`, and each socket operation has a timeout of `Limits.idle_timeout`.
    """

    allow_reuse_address = True
    #: With socketserver's 5, 64 simultaneous connects wait up to nine seconds for SYN retransmissions.
    request_queue_size = 1024
    #: TLS configuration; None: plain text.
    tls: TLS | None = None

    @inlinable
    def make_conversation(self, connection: Connection) -> Conversation:
        """Return a new conversation for `connection`, inside TLS and behind a PROXY header if configured."""
        conversation = super().make_conversation(connection)
        if self.tls is not None:
            conversation = self.tls.secure(conversation, connection.explain)
        # Outermost, also around TLS: the PROXY header comes first.
        if connection.awaits_proxy_header:
            conversation = ProxiedConversation(conversation, partial(self.apply_proxy_header, connection))
        return conversation

    @property
    def secure(self) -> bool:
        """Whether connections use TLS."""
        return self.tls is not None

    def stop_listening(self) -> None:
        """Close the listener.  Open connections stay open."""
        self.socket.close()

    @inlinable
    def get_request(self) -> tuple[Any, Any]:
        request, client_address = self.socket.accept()
        return self.spooled(request), client_address

    def queued(self, most: int) -> int:
        """As `Server.queued`; unknown for a Unix socket.

        This costs an eighth of an accept(2) that finds the queue empty."""
        try:
            tcp_info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUED.stop)
        except OSError:  # a Unix socket
            return most
        return int.from_bytes(tcp_info[_QUEUED], sys.byteorder) or 1

    def spooled(self, request: socket.socket) -> socket.socket:
        """Return the socket; with `Limits.spool`, wrapped so that it buffers unsent replies."""
        if self.limits.spool is None or self.service is None:
            return request
        return SpooledSocket(request, self.limits.spool)

    def settle_spool(self, connection: Connection) -> OSError | None:
        """At the end of a connection, subtract the unsent bytes from its figures.

        Return the error of the spool file, if any, for the log."""
        if (spool := connection.spool) is None:
            return None
        connection.sent -= spool.unsent
        if spool.failure is not None:
            connection.ending = Ending.FAILED
        return spool.failure

    @inlinable
    def check_peer(self, connection: Connection) -> None:
        """As in `Server`; from a trusted proxy, wait for the PROXY header first."""
        if not connection.awaits_proxy_header and self.access.proxies and self.access.is_proxy(connection.host):
            connection.awaits_proxy_header = True
        else:
            super().check_peer(connection)

    def apply_proxy_header(self, connection: Connection, header: Header | FramingError) -> Ending | None:
        """Set the peer's address from a PROXY header, and check its access.

        Return the ending if the header is malformed or the peer is refused, else None."""
        connection.awaits_proxy_header = False
        if isinstance(header, FramingError):
            log.debug("%s: no PROXY header: %s", connection.peer, header)
            connection.ending = connection.ending or Ending.HANDSHAKE
            connection.reason = f"proxy-{type(header).__name__.lower()}"
        else:
            connection.address = header.source or connection.address
            super().check_peer(connection)
        return connection.ending

    def run_handler(self, connection: Connection) -> None:
        """Run the handler.

        A raw handler sets no deadlines.  So its socket gets a timeout for each operation, and its connection a deadline
        for the whole conversation."""
        request = connection.socket
        handler: Any = self.RequestHandlerClass
        carries_messages = self.carries_messages
        if not carries_messages and connection.awaits_proxy_header and not self._read_proxy_header(connection):
            return
        # Without an engine the handler blocks the accept loop, and no other thread can enforce the deadlines.
        unwatched = self.daemon is None or type(self).process_request is socketserver.BaseServer.process_request
        if unwatched or not carries_messages:
            request.settimeout(self.limits.idle_timeout)
        if not carries_messages:
            connection.messages = None
            if self.tls is None:  # else after the handshake
                connection.expect(Ending.OVERLONG, self.limits.conversation_timeout)
        if self.tls is None or connection.messages is not None:
            handler(request, connection.address, self)
            return
        from daemons.serving.tls.handler_socket import over_tls  # importing ssl is slow

        with over_tls(self.tls, request, connection, self.limits) as tls_socket:
            handler(tls_socket, connection.address, self)

    def means_peer_closed(self, connection: Connection, error: OSError) -> bool:
        """As in `Server`.

        A ConnectionError may also come from another connection, opened by the handler.  If the peer of this connection
        has not closed it, the error is a failure of the handler."""
        if not isinstance(error, ConnectionError):
            return False
        if connection.reason or connection.socket.fileno() < 0:
            return True  # TLS failed, or the handler closed the socket
        return self._has_ended(connection)

    def means_peer_silent(self, connection: Connection, error: TimeoutError) -> bool:
        """As in `Server`.

        A TimeoutError may also come from another connection, or from a future.  It does not come from the socket of
        this connection if that exists for a shorter time than its timeout."""
        if self.tls is not None or connection.socket.fileno() < 0:
            return False  # `over_tls` has set the ending if the timeout was of its socket
        if error.errno is not None:
            return self._has_ended(connection)  # ETIMEDOUT, tcp(7)
        timeout = connection.socket.gettimeout()
        return timeout is not None and time.monotonic() - connection.opened >= timeout

    def _has_ended(self, connection: Connection) -> bool:
        """Return whether the peer has closed at least its sending half, or the connection has failed."""
        poll = select.poll()
        poll.register(connection.socket, select.POLLRDHUP)
        return bool(poll.poll(0))

    @inlinable
    def shutdown_request(self, request: Any) -> None:
        """Log the end of a connection, and close it."""
        connection = self.connections.get(request)
        if connection is not None and connection.ending in GONE:
            self._log_access_safely(connection)
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def _read_proxy_header(self, connection: Connection) -> bool:
        """Read the PROXY header for a raw handler.  Return whether the peer is admitted."""
        try:
            header = read_header(connection.socket, self.limits.handshake_timeout)
        except OSError as error:
            late = isinstance(error, TimeoutError)
            connection.ending = connection.ending or (Ending.HANDSHAKE if late else Ending.RESET)
            return False
        return self.apply_proxy_header(connection, header) is None
