"""Base class of all servers: `socketserver.BaseServer`, hardened.

The methods are those of socketserver and keep their meaning: get_request, verify_request, process_request (overridden
by the engines), finish_request, shutdown_request.  Differences from the standard library's classes:

* No exception from any of these methods ends the loop.  In the standard library an exception from `verify_request`
  does, and the process lives on without accepting.
* A server at its limit of connections does not accept: the listener is removed from the poller, and new connections
  wait in the kernel's queue.
* Out of file descriptors, the server pauses for 100 ms before the next accept, instead of busy-waiting.
* Every phase of a conversation has a total deadline.
* Each error is logged as one line, with its traceback, instead of printed to standard error.

The base classes are `daemons.serving.guarded_server`, with the open connections and the limits on them,
`daemons.serving.handler_server`, with the service, and `daemons.serving.deferring_server`, with the pauses of the
accept loop.  The concrete classes are in `daemons.serving.stream` and `daemons.serving.datagram`.
"""

from __future__ import annotations

import selectors
import socket
import socketserver
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from daemons.serving import signals
from daemons.serving.connection import BlockingConnection, Connection
from daemons.serving.conversation.endings import Ending
from daemons.serving.daemon import OVER, Daemon
from daemons.serving.deferring_server import DeferringServer
from daemons.serving.guards.accept_backoff import NoResourcesError
from daemons.serving.guards.networks import peer_network
from daemons.serving.inlinable import inlinable
from daemons.serving.listening.listen import prepare
from daemons.serving.poller import Poller
from daemons.serving.safe_logger import SafeLogger

if TYPE_CHECKING:
    from typing import Self


log = SafeLogger(__name__)


class Server(DeferringServer):
    """A server on one bound socket, with socketserver's constructor.

    The order of base classes is: an engine, this class, a class of socketserver.  Without an engine, conversations are
    served in the accept loop, as in the standard library.

    ``server_address`` is ``(host, port)`` for IPv4 or IPv6, or the path of a Unix socket.
    """

    #: Whether this engine can run a handler that blocks on its socket.
    raw_handlers = True
    #: Whether conversations always end in the leading thread.
    ends_in_one_thread = False
    #: Number of connections that may be accepted now beyond `Limits.max_connections`.
    spare = 0
    #: Factory of connections; called with the two values of get_request and the handshake timeout in seconds.
    connection_class: Callable[..., Connection] = BlockingConnection

    def __init__(
        self, server_address: Any, RequestHandlerClass: Callable[..., Any], bind_and_activate: bool = True
    ) -> None:
        if isinstance(server_address, (str, bytes)):
            self.address_family = socket.AF_UNIX
        elif ":" in server_address[0]:
            self.address_family = socket.AF_INET6
        #: `shutdown` was called before `serve_forever`.
        self._stop_at_once = False
        super().__init__(server_address, RequestHandlerClass, bind_and_activate)

    @classmethod
    def adopt(cls, listener: socket.socket, handler: Callable[..., Any]) -> Self:
        """Return a server on a bound socket, which is listening already if it is a stream socket."""
        server = cls(listener.getsockname(), handler, bind_and_activate=False)
        server.socket.close()
        server.socket = listener
        server.server_address = listener.getsockname()
        return server

    # --- called by the daemon's loop ---------------------------------------------------------------

    @property
    def overrides_service_actions(self) -> bool:
        """Whether a subclass overrides `service_actions`, which does nothing in socketserver."""
        return type(self).service_actions is not socketserver.BaseServer.service_actions

    @inlinable
    def accept(self) -> bool:
        """Accept one connection and process it, from get_request to process_request.

        Return False if the accept failed, for example because the queue is empty.  Raises only the exception of a
        signal handler."""
        try:
            request, client_address = self.get_request()
        except BaseException as error:
            if signals.is_from_handler(error):
                raise
            self.backoff.after(error)
            return False
        try:
            connection = self._register(request, client_address)
            if self.verify_request(request, client_address):
                self.process_request(request, client_address)
            else:
                connection.ending = connection.ending or Ending.REFUSED
                self.shutdown_request(request)
        except NoResourcesError as error:
            self.defer(request, client_address, error)
        except BaseException as error:
            self._end_failed(request, client_address, error)
        return True

    def process_again(self, request: Any, client_address: Any) -> None:
        try:
            self.process_request(request, client_address)
        except NoResourcesError:
            raise
        except BaseException as error:
            self._end_failed(request, client_address, error)

    def accept_many(self, most: int) -> None:
        """Accept at most `most` connections."""
        for _ in range(most):
            if not self.accept() or self.wait():
                break

    def make_poller(self) -> Poller:
        """Return the poller of the daemon's loop; event-driven engines override this."""
        return Poller()

    def lead(self, daemon: Daemon) -> None:
        """Run the loop of `daemon` until its state is OVER."""
        while daemon.state != OVER:
            daemon.turn_safely()

    def stop_listening(self) -> None:
        """Accept no more connections; open ones stay open."""
        raise NotImplementedError

    # --- socketserver's methods, in the order of their calls ---------------------------------------

    def server_bind(self) -> None:
        prepare(self.socket)
        super().server_bind()

    def _handle_request_noblock(self) -> None:
        self.accept()

    def _register(self, request: Any, client_address: Any) -> Connection:
        """Register an accepted connection and check its access; a refusal sets its ending.

        This is not part of get_request, because an override of that may fail after the accept, or return another
        socket than the accepted one."""
        self.backoff.count()
        connection = self.connections[request] = self.connection_class(
            request, client_address, self.limits.handshake_timeout
        )
        if self.metrics is not None:
            self.metrics.accept()
        self.check_peer(connection)
        return connection

    @inlinable
    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether to serve this connection.  May be extended; access rules were checked before."""
        return self.connections[request].ending is None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Run the handler, and set the ending of the connection."""
        connection = self.connections[request]
        try:
            self.run_handler(connection)
        except TimeoutError as error:
            # Of a socket of this connection, or of another one that the handler waited for?
            if connection.ending is None and not self.means_peer_silent(connection, error):
                raise
            connection.ending = connection.ending or Ending.IDLE
        except OSError as error:
            # Not errors of this server: the peer closed the connection, or the daemon cut it before.
            if connection.ending is None and not self.means_peer_closed(connection, error):
                raise
            connection.ending = connection.ending or Ending.RESET
        except Exception:
            raise
        except BaseException as error:
            # sys.exit() in a handler must not end the daemon: treat it like any other failure.
            if signals.is_from_handler(error):
                raise
            self.handle_error(request, client_address)
        connection.ending = connection.ending or Ending.FINISHED

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log the current exception with the peer and the traceback, as one line."""
        connection = self.connections.get(request)
        if connection is not None:
            connection.ending = connection.ending or Ending.FAILED
        peer = client_address if connection is None else connection.peer
        log.error("%s: the conversation failed", peer, exc_info=sys.exception())

    @inlinable
    def shutdown_request(self, request: Any) -> None:
        """Log the end of a connection, and close it."""
        connection = self.connections.get(request)
        if connection is not None:
            self._log_access_safely(connection)
        super().shutdown_request(request)

    @inlinable
    def close_request(self, request: Any) -> None:
        """Close the request and remove its connection.

        Under the lock, because the daemon's thread could otherwise shut down a new connection that reuses the
        descriptor number."""
        with self._lock:
            connection = self.connections.pop(request, None)
            if connection is not None and connection.counted:
                # Under the same lock as the removal: otherwise the peer's next connection could be counted first.
                self._connections_per_peer.leave(peer_network(connection.host))
            super().close_request(request)
        self._wake_daemon()

    @inlinable
    def log_access(self, connection: Connection) -> None:
        """Update the metrics for a connection that has ended, and write its access line."""
        if self.metrics is not None:
            self.metrics.end(connection)
        if self.access_log is not None:
            self.access_log.log(connection)

    # --- socketserver's loop, as a daemon of one server ---------------------------------------------

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Serve until `shutdown`.

        `poll_interval` is the time in seconds between two calls of an overridden `service_actions`.  Unlike
        socketserver's loop, this one does not wake up periodically to check for a shutdown."""
        daemon = Daemon([self], poll_interval=poll_interval)
        with self._lock:
            stop_at_once, self._stop_at_once = self._stop_at_once, False
        if stop_at_once:
            daemon.shutdown()
        try:
            daemon.serve_forever()
        finally:
            with self._lock:
                if self.daemon is daemon:
                    self.daemon = None

    def shutdown(self) -> None:
        """Stop `serve_forever` and, unless called in the serving thread, wait until it has stopped.

        If called before `serve_forever`, make the next `serve_forever` return at once."""
        with self._lock:
            daemon = self.daemon
            self._stop_at_once = daemon is None
        if daemon is not None:
            daemon.shutdown()

    def handle_request(self) -> None:
        """Wait at most `timeout` seconds for one connection, and serve it.

        socketserver's method would not wait: the listener is non-blocking, which it takes for a timeout of 0."""
        self.retry()
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            if selector.select(self.timeout):
                self.accept()
            else:
                self.handle_timeout()

    def server_close(self) -> None:
        """Close the listener, and cut the open connections."""
        self.cut()
        for request in self.take_deferred():
            self._shutdown_safely(request)
        super().server_close()

    # --- no exception of an override ends the loop --------------------------------------------------

    def _end_failed(self, request: Any, client_address: Any, error: BaseException) -> None:
        """Log `error`, which ended the processing of a request, and close it; raise that of a signal handler again."""
        if signals.is_from_handler(error):
            self.shutdown_request(request)
            raise error
        self._handle_error_safely(request, client_address)
        self._shutdown_safely(request)

    def _handle_error_safely(self, request: Any, client_address: Any) -> None:
        try:
            self.handle_error(request, client_address)
        except BaseException as error:
            if signals.is_from_handler(error):
                raise
            log.exception("handle_error failed")

    def _shutdown_safely(self, request: Any) -> None:
        try:
            self.shutdown_request(request)
        except BaseException as error:
            if signals.is_from_handler(error):
                raise
            log.exception("shutdown_request failed")
            Server.close_request(self, request)

    def _log_access_safely(self, connection: Connection) -> None:
        try:
            self.log_access(connection)
        except BaseException as error:
            if signals.is_from_handler(error):
                raise
            log.exception("%s: the access line could not be written", connection.peer)
