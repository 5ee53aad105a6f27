"""StreamServer: `socketserver.TCPServer`, hardened.

The verbs are socketserver's own and keep their meaning: get_request, verify_request,
process_request (the place of the engines), finish_request, shutdown_request.  What is mended:

* no exception from any of them ends the loop; in the stock class one from `verify_request` does,
  and the process lives on with a deaf port;
* full means *not listening*: the listener leaves the selector, and the kernel's queue waits;
* out of descriptors means a rest of 100 ms, where the stock class spins;
* every phase of a conversation has a total deadline;
* errors are logged, one line each, where the stock class prints a traceback between dashes.
"""

from __future__ import annotations

import errno
import selectors
import socket
import socketserver
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from daemons.framings import FramingError
from daemons.framings.proxy import Header
from daemons.operating.access_log import AccessLog
from daemons.serving.connection import Connection
from daemons.serving.conversation import Conversation
from daemons.serving.daemon import OVER, Daemon
from daemons.serving.endings import Ending, Refusal
from daemons.serving.guards.access import Access
from daemons.serving.guards.limits import Limits, Rate, Tally, is_local
from daemons.serving.journal import Journal
from daemons.serving.listen import prepare
from daemons.serving.poller import Poller
from daemons.serving.proxy import ProxiedConversation, read_header
from daemons.serving.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemons.operating.slot import Slot
    from daemons.serving.tls import TLS

log = Journal(__name__)

#: accept(2): "EMFILE The per-process limit on the number of open file descriptors has been reached",
#: ENFILE the same for the system, ENOBUFS and ENOMEM "Not enough free memory".  The connection stays
#: in the queue, so the listener stays readable: without a rest the loop would spin.
CAPACITY = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

#: accept(2): "Linux accept() passes already-pending network errors on the new socket as an error code
#: from accept().  […] Application should […] treat them like EAGAIN by retrying."
TRANSIENT = frozenset(
    (
        errno.EAGAIN,
        errno.EINTR,
        errno.ECONNABORTED,
        errno.ENETDOWN,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
        errno.EPERM,
    )
)

#: Endings after which there is nobody to say goodbye to.
GONE = frozenset((Ending.DONE, Ending.CUT, Ending.RESET))

#: Seconds.  Long enough to cost nothing, short enough that nobody notices (the same as trio's).
REST = 0.1


class StreamServer(socketserver.TCPServer):
    """A stream server on one listener, with the stock constructor, and usable bare, as a stock server is.

    ``server_address`` is ``(host, port)`` for IPv4 or IPv6, or the path of a Unix socket.  Mix an engine
    in front of it: ``class MyServer(Threads, StreamServer)``.  Without one, conversations are served in
    the accept loop as in the stock class, and each socket operation has `Limits.idle_timeout`.
    """

    allow_reuse_address = True
    #: The stock 5 makes 64 clients that come at once wait for SYN retransmissions: nine seconds.
    request_queue_size = 1024
    limits = Limits()
    #: Who may come.  To change the rules, give it another.
    access = Access()
    #: What makes it a TLS server; None: it speaks in clear.
    tls: TLS | None = None
    #: How many connections this engine serves at once where `Limits.max_connections` is auto.
    capacity = 1000
    #: Whether this engine can run a handler that waits on its socket itself.
    raw_handlers = True
    connection_class = Connection

    def __init__(
        self, server_address: Any, RequestHandlerClass: Callable[..., Any], bind_and_activate: bool = True
    ) -> None:
        if isinstance(server_address, (str, bytes)):
            self.address_family = socket.AF_UNIX
        elif ":" in server_address[0]:
            self.address_family = socket.AF_INET6
        #: Every connection that was accepted and not yet closed, by its socket.
        self.connections: dict[Any, Connection] = {}
        #: The daemon that serves it, which may have other servers too; None before it is served.
        self.daemon: Daemon | None = None
        #: Where its access lines go; None writes none.
        self.access_log: AccessLog | None = None
        #: Where its conversations are counted; None counts nothing.
        self.metrics: Slot | None = None
        self.draining = False
        #: `shutdown` was called while nobody served.
        self._stop_at_once = False
        #: Not polled before this time (monotonic).
        self.rests_until = 0.0
        self._lock = threading.Lock()
        self._tally = Tally()
        self._rate: Rate | None = None
        super().__init__(server_address, RequestHandlerClass, bind_and_activate)

    @classmethod
    def adopt(cls, listener: socket.socket, handler: Callable[..., Any]) -> StreamServer:
        """A server on a socket that already listens."""
        server = cls(listener.getsockname(), handler, bind_and_activate=False)
        server.socket.close()
        server.socket = listener
        server.server_address = listener.getsockname()
        return server

    # --- what the daemon's loop asks ---------------------------------------------------------------

    @property
    def active(self) -> int:
        """Conversations under way."""
        return len(self.connections)

    @property
    def max_connections(self) -> int:
        return self.limits.max_connections or self.capacity

    def accept(self) -> bool:
        """Take one connection from the queue and see it on its way, from get_request to process_request.
        Returns whether there was one; raises nothing."""
        try:
            request, client_address = self.get_request()
        except Exception as error:
            self._rest_after(error)
            return False
        try:
            connection = self._enter(request, client_address)
            if self.verify_request(request, client_address):
                self.process_request(request, client_address)
            else:
                connection.ending = connection.ending or Ending.REFUSED
                self.shutdown_request(request)
        except Exception:
            self._handle_error_safely(request, client_address)
            self._shutdown_safely(request)
        except BaseException:
            self.shutdown_request(request)
            raise
        return True

    def wait(self) -> float:
        """Seconds until the listener should be polled again: 0.0 now, or a rest for lack of
        descriptors, or for the sake of `Limits.max_rate`."""
        if not self.rests_until and not self.limits.max_rate:
            return 0.0
        rest = max(0.0, self.rests_until - time.monotonic())
        if self.limits.max_rate:
            if self._rate is None:
                self._rate = Rate(self.limits.max_rate)
            rest = max(rest, self._rate.wait())
        return rest

    def conversation(self, connection: Connection) -> Conversation:
        """A conversation for a new visitor, of the service that the pump carries."""
        pump: Any = self.RequestHandlerClass
        conversation = Conversation(pump.service, pump.memory)
        if self.tls is not None:
            conversation = self.tls.secure(conversation, connection.explain)
        # Outermost, also around TLS: the proxy speaks first.
        if connection.proxied:
            conversation = ProxiedConversation(conversation, partial(self.introduce, connection))
        return conversation

    @property
    def service(self) -> Service | None:
        """The service that is served; None for a raw handler."""
        return getattr(self.RequestHandlerClass, "service", None)

    @property
    def talks(self) -> bool:
        """Whether the service has a `Service.talk` of its own, which may greet."""
        return self.service is not None and type(self.service).talk is not Service.talk

    def make_poller(self) -> Poller:
        """What the daemon waits with; an engine that serves by readiness has its own."""
        return Poller()

    def lead(self, daemon: Daemon) -> None:
        """Take `daemon` through its life, from the first turn to the last."""
        while daemon.state != OVER:
            daemon.turn_safely()

    def stop_listening(self) -> None:
        """Close the listener.  Conversations under way go on."""
        self.socket.close()

    # --- socketserver's verbs, in their order ------------------------------------------------------

    def server_bind(self) -> None:
        prepare(self.socket)
        super().server_bind()

    def _handle_request_noblock(self) -> None:
        self.accept()

    def get_request(self) -> tuple[Any, Any]:
        request, client_address = self.socket.accept()
        return request, client_address

    def _enter(self, request: Any, client_address: Any) -> Connection:
        """Count somebody in, and ask the guards; their verdict is the connection's ending.  Not a part of
        get_request: what a subclass makes of that may fail after the accept, or return another socket than
        the one accepted."""
        if self._rate is not None:
            self._rate.take()
        connection = self.connections[request] = self.connection_class(
            request, client_address, self.limits.handshake_timeout
        )
        if self.metrics is not None:
            self.metrics.accept()
        if self.access.proxies and self.access.is_proxy(connection.host):
            connection.proxied = True
        else:
            self.judge(connection)
        return connection

    def judge(self, connection: Connection) -> None:
        """Ask the guards about a peer, in their order."""
        host = connection.host
        refusal = self.access.refusal(host)
        limits = self.limits
        if refusal is None and (limits.max_per_peer is not None or not is_local(host)):
            with self._lock:
                count = self._tally.enter(host)
            connection.counted = True
            if count > self._most_per_peer(host):
                refusal = Refusal.CROWDED
        if refusal is not None:
            connection.refuse(refusal)

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
            self.judge(connection)
        return connection.ending

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether this peer may come in.  Extend it; the guards are asked first."""
        return self.connections[request].ending is None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Run the handler.  A raw one knows nothing of deadlines, so that it gets a timeout for each
        operation on its socket, and one for the whole conversation."""
        connection = self.connections[request]
        handler: Any = self.RequestHandlerClass
        carries_messages = getattr(handler, "carries_messages", False)
        if not carries_messages and connection.proxied and not self._introduced(connection):
            return
        client_address = connection.address
        # Without an engine, it is the accept loop that is about to serve, so that nobody keeps the deadlines.
        unwatched = self.daemon is None or type(self).process_request is socketserver.BaseServer.process_request
        if unwatched or not carries_messages:
            request.settimeout(self.limits.idle_timeout)
        if not carries_messages:
            connection.messages = None
            connection.expect(Ending.OVERLONG, self.limits.conversation_timeout)
        try:
            if self.tls is None or connection.messages is not None:
                super().finish_request(request, client_address)
            else:
                from daemons.serving.tls_socket import over_tls  # ssl is dear, and most do without it

                with over_tls(self.tls, request, connection, self.limits) as lent:
                    super().finish_request(lent, client_address)
        except TimeoutError:
            connection.ending = connection.ending or Ending.IDLE
        except OSError as error:
            # A peer that has gone is no error of ours; and once we cut it, neither is what follows.
            if connection.ending is None and not isinstance(error, ConnectionError):
                raise
            connection.ending = connection.ending or Ending.RESET
        except SystemExit:
            # A handler's sys.exit() is no Exception, but a bug like any other: it must not end the daemon.
            self.handle_error(request, client_address)
        connection.ending = connection.ending or Ending.FINISHED

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log the exception being handled, with its traceback and the peer, as one line."""
        connection = self.connections.get(request)
        if connection is not None:
            connection.ending = connection.ending or Ending.FAILED
        peer = client_address if connection is None else connection.peer
        log.error("%s: the conversation failed", peer, exc_info=sys.exception())

    def log_failure(self, connection: Connection, failure: BaseException) -> None:
        """Log what a service raised, with its traceback, as one line; the peer is never told."""
        log.error("%s: the service failed", connection.peer, exc_info=failure)

    def shutdown_request(self, request: Any) -> None:
        """The end of every conversation: one access line, then the socket is closed."""
        connection = self.connections.get(request)
        if connection is not None:
            try:
                self.log_access(connection)
            except Exception:
                log.exception("%s: the access line could not be written", connection.peer)
        if connection is not None and connection.ending in GONE:
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def close_request(self, request: Any) -> None:
        """Close the socket and forget the connection.  Under the lock, so that the daemon's thread never
        shuts down a descriptor that has meanwhile become somebody else's."""
        with self._lock:
            connection = self.connections.pop(request, None)
            if connection is not None and connection.counted:
                # Together with the place it held: else the next one may be counted before this one is not.
                self._tally.leave(connection.host)
            super().close_request(request)
        self._tell_daemon()

    # --- beneath them ------------------------------------------------------------------------------

    def log_access(self, connection: Connection) -> None:
        """Count a conversation that has ended, and write its one line."""
        if self.metrics is not None:
            self.metrics.end(connection)
        if self.access_log is not None:
            self.access_log.tell(connection)

    def _most_per_peer(self, host: str) -> int:
        if self.limits.max_per_peer is not None:
            return self.limits.max_per_peer
        return self.max_connections if is_local(host) else max(1, self.max_connections // 2)

    def leave(self, connection: Connection) -> None:
        """A conversation has ended: somebody may be waiting for its place."""
        if connection.counted:
            with self._lock:
                self._tally.leave(connection.host)
        self._tell_daemon()

    def _tell_daemon(self) -> None:
        daemon = self.daemon
        if daemon is not None:
            daemon.left()

    def _introduced(self, connection: Connection) -> bool:
        """For a raw handler: read the PROXY header.  Returns whether the guards let that peer in."""
        try:
            header = read_header(connection.socket, self.limits.handshake_timeout)
        except OSError as error:
            late = isinstance(error, TimeoutError)
            connection.ending = connection.ending or (Ending.HANDSHAKE if late else Ending.RESET)
            return False
        return self.introduce(connection, header) is None

    def count(self) -> None:
        """Have the metrics know of conversations under way."""
        if self.metrics is not None:
            with self._lock:
                self.metrics.tell_of(self.connections.values())

    def sweep(self, now: float) -> None:
        """Cut every connection whose deadline has passed."""
        with self._lock:
            for connection in self.connections.values():
                if connection.deadline <= now and connection.timed:
                    connection.cut(connection.overdue)

    def drain(self) -> None:
        """The daemon is stopping: mute whoever is between two messages.  Each of the others sees
        `draining` when it gets there."""
        self.draining = True
        with self._lock:
            for connection in self.connections.values():
                if connection.waiting and not connection.muted:
                    connection.mute()

    def cut(self) -> None:
        """The time to drain is over: end every conversation now."""
        with self._lock:
            for connection in self.connections.values():
                connection.cut(Ending.STOPPED)

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Serve until `shutdown`.  Unlike the stock loop it does not wake up to look whether it should
        stop; `poll_interval` is only the time between two calls of an overridden `service_actions`."""
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
        """Stop `serve_forever` and wait until it has stopped; in the thread that serves, do not wait.
        Called before it, it is remembered, as in the stock class."""
        with self._lock:
            daemon = self.daemon
            self._stop_at_once = daemon is None
        if daemon is not None:
            daemon.shutdown()

    def handle_request(self) -> None:
        """Wait for one visitor, for at most `timeout` seconds, and serve them.  The stock method takes a
        listener that does not block, as ours, for one whose time is up."""
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            if selector.select(self.timeout):
                self.accept()
            else:
                self.handle_timeout()

    def server_close(self) -> None:
        """Close the listener, and forget the conversations still under way."""
        self.cut()
        super().server_close()

    def _rest_after(self, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno in TRANSIENT:
            return
        self.rests_until = time.monotonic() + REST
        if isinstance(error, OSError) and error.errno in CAPACITY:
            log.error("accept: %s; resting %d ms", error.strerror, REST * 1000)
        else:
            log.error("accept failed; resting %d ms", REST * 1000, exc_info=error)

    def _handle_error_safely(self, request: Any, client_address: Any) -> None:
        try:
            self.handle_error(request, client_address)
        except Exception:
            log.exception("handle_error failed")

    def _shutdown_safely(self, request: Any) -> None:
        try:
            self.shutdown_request(request)
        except Exception:
            log.exception("shutdown_request failed")
            StreamServer.close_request(self, request)
