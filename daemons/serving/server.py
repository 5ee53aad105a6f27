"""What every server of ours has in common: `socketserver.BaseServer`, hardened.

The verbs are socketserver's own and keep their meaning: get_request, verify_request,
process_request (the place of the engines), finish_request, shutdown_request.  What is mended:

* no exception from any of them ends the loop; in the stock classes one from `verify_request` does,
  and the process lives on with a deaf port;
* full means *not listening*: the socket leaves the selector, and the kernel's queue waits;
* out of descriptors means a rest of 100 ms, where the stock classes spin;
* every phase of a conversation has a total deadline;
* errors are logged, one line each, where the stock classes print a traceback between dashes.

`daemons.serving.stream` and `daemons.serving.datagram` have the two kinds.
"""

from __future__ import annotations

import selectors
import socket
import socketserver
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from daemons.serving import signals
from daemons.serving.connection import BlockingConnection, Connection
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.endings import Ending, Refusal
from daemons.serving.conversation.service import Peer, ReplyCutShort, Service
from daemons.serving.conversation.with_peer import ConversationWithPeer
from daemons.serving.daemon import OVER, Daemon
from daemons.serving.guards import budget
from daemons.serving.guards.accept_backoff import AcceptBackoff
from daemons.serving.guards.access import Access
from daemons.serving.guards.budget import Verdict
from daemons.serving.guards.limits import ConnectionCounter, Limits, is_local
from daemons.serving.guards.networks import peer_network
from daemons.serving.listening.listen import prepare
from daemons.serving.poller import Poller
from daemons.serving.safe_logger import SafeLogger

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from daemons.serving.interfaces import AccessLog, Metrics

    _Base = socketserver.TCPServer
else:
    _Base = socketserver.BaseServer

log = SafeLogger(__name__)


class Server(_Base):
    """A server on one bound socket, with the stock constructor.  Mix it in front of a stock server, and an
    engine in front of it.  Without an engine, conversations are served in the accept loop, as in the stock
    classes.

    ``server_address`` is ``(host, port)`` for IPv4 or IPv6, or the path of a Unix socket.
    """

    limits = Limits()
    #: Who may come.  To change the rules, give it another.
    access = Access()
    #: How many connections this engine serves at once where `Limits.max_connections` is auto.
    capacity = 1000
    #: Whether this engine can run a handler that waits on its socket itself.
    raw_handlers = True
    #: Whether it is always the leading thread in which a conversation ends.
    ends_in_one_thread = False
    #: Called with what get_request returned, and the seconds for a handshake.
    connection_class: Callable[..., Connection] = BlockingConnection

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
        self.metrics: Metrics | None = None
        self.draining = False
        #: `shutdown` was called while nobody served.
        self._stop_at_once = False
        #: When it must not be polled.
        self.rest = AcceptBackoff()
        self.rest.on_pause = self._count_pause
        self._lock = threading.Lock()
        self._tally = ConnectionCounter()
        super().__init__(server_address, RequestHandlerClass, bind_and_activate)

    @classmethod
    def adopt(cls, listener: socket.socket, handler: Callable[..., Any]) -> Self:
        """A server on a socket that is bound already, and listens where it is for streams."""
        server = cls(listener.getsockname(), handler, bind_and_activate=False)
        server.socket.close()
        server.socket = listener
        server.server_address = listener.getsockname()
        return server

    def apply(self, limits: Limits) -> None:
        """Take up `limits`, also while it serves."""
        self.limits = limits

    # --- what the daemon's loop asks ---------------------------------------------------------------

    @property
    def active(self) -> int:
        """Conversations under way."""
        return len(self.connections)

    @property
    def acts(self) -> bool:
        """Whether `service_actions` does anything, which it does not in the stock classes."""
        return type(self).service_actions is not socketserver.BaseServer.service_actions

    @property
    def max_connections(self) -> int:
        return self.limits.max_connections or self.capacity

    def accept(self) -> bool:
        """Take one connection from the queue and see it on its way, from get_request to process_request.
        Returns whether there was one; raises nothing."""
        try:
            request, client_address = self.get_request()
        except BaseException as error:
            if signals.is_from_handler(error):
                raise
            self.rest.after(error)
            return False
        try:
            connection = self._enter(request, client_address)
            if self.verify_request(request, client_address):
                self.process_request(request, client_address)
            else:
                connection.ending = connection.ending or Ending.REFUSED
                self.shutdown_request(request)
        except BaseException as error:
            if signals.is_from_handler(error):
                self.shutdown_request(request)
                raise
            self._handle_error_safely(request, client_address)
            self._shutdown_safely(request)
        return True

    def accept_several(self, most: int) -> None:
        """Take up to so many connections from the queue."""
        for _ in range(most):
            if not self.accept() or self.wait():
                break

    def wait(self) -> float:
        """Seconds until the listener should be polled again: 0.0 now, or a rest for lack of
        descriptors, or for the sake of `Limits.max_rate`."""
        return self.rest.wait(self.limits.max_rate)

    def _count_pause(self) -> None:
        if self.metrics is not None:
            self.metrics.pause()

    def conversation(self, connection: Connection) -> Conversation:
        """A conversation for a new visitor, with all that is around it."""
        return self.bare_conversation(connection)

    def bare_conversation(self, connection: Connection) -> Conversation:
        """The conversation itself, of the service that the pump carries."""
        pump: Any = self.RequestHandlerClass
        if pump.service.visited:
            return ConversationWithPeer(pump.service, pump.binding, partial(self.visitor, connection))
        return Conversation(pump.service, pump.binding)

    def visitor(self, connection: Connection) -> Peer:
        """What its service may know of a connection."""
        return Peer(connection.peer, connection.host, self.secure)

    @property
    def secure(self) -> bool:
        """Whether conversations are over TLS."""
        return False

    @property
    def service(self) -> Service | None:
        """The service that is served; None for a raw handler."""
        # Another's handler may have something of that name as well.
        service = getattr(self.RequestHandlerClass, "service", None)
        return service if isinstance(service, Service) else None

    @property
    def greets(self) -> bool:
        """Whether the service may say something before it is asked."""
        return self.service is not None and self.service.talks and self.service.greets

    def make_poller(self) -> Poller:
        """What the daemon waits with; an engine that serves by readiness has its own."""
        return Poller()

    def lead(self, daemon: Daemon) -> None:
        """Take `daemon` through its life, from the first turn to the last."""
        while daemon.state != OVER:
            daemon.turn_safely()

    def stop_listening(self) -> None:
        """Let nobody in any more; conversations under way go on."""
        raise NotImplementedError

    # --- socketserver's verbs, in their order ------------------------------------------------------

    def server_bind(self) -> None:
        prepare(self.socket)
        super().server_bind()

    def _handle_request_noblock(self) -> None:
        self.accept()

    def _enter(self, request: Any, client_address: Any) -> Connection:
        """Count somebody in, and ask the guards; their verdict is the connection's ending.  Not a part of
        get_request: what a subclass makes of that may fail after the accept, or return another socket than
        the one accepted."""
        self.rest.count()
        connection = self.connections[request] = self.connection_class(
            request, client_address, self.limits.handshake_timeout
        )
        if self.metrics is not None:
            self.metrics.accept()
        self.judge(connection)
        return connection

    def judge(self, connection: Connection) -> None:
        """Ask the guards about a peer, in their order."""
        host = connection.host
        refusal = self.access.refusal(host)
        limits = self.limits
        if refusal is None and (limits.max_per_peer is not None or not is_local(host)):
            with self._lock:
                count = self._tally.enter(peer_network(host))
            connection.counted = True
            if count > self._most_per_peer(host):
                refusal = Refusal.CROWDED
        if refusal is not None:
            connection.refuse(refusal)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether this peer may come in.  Extend it; the guards are asked first."""
        return self.connections[request].ending is None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Run the handler, and see what its end means."""
        connection = self.connections[request]
        try:
            self.run_handler(connection)
        except TimeoutError:
            connection.ending = connection.ending or Ending.IDLE
        except OSError as error:
            # A peer that has gone is no error of ours; and once we cut it, neither is what follows.
            if connection.ending is None and not self.is_of_peer(connection, error):
                raise
            connection.ending = connection.ending or Ending.RESET
        except Exception:
            raise
        except BaseException as error:
            # A handler's sys.exit() is no Exception, but a bug like any other: it must not end the daemon.
            if signals.is_from_handler(error):
                raise
            self.handle_error(request, client_address)
        connection.ending = connection.ending or Ending.FINISHED

    def is_of_peer(self, connection: Connection, error: OSError) -> bool:
        """Return whether an error that a handler raised says that its peer has gone."""
        return isinstance(error, ConnectionError)

    def run_handler(self, connection: Connection) -> None:
        """Have the conversation of `connection` run, to its end."""
        raise NotImplementedError

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log the exception being handled, with its traceback and the peer, as one line."""
        connection = self.connections.get(request)
        if connection is not None:
            connection.ending = connection.ending or Ending.FAILED
        peer = client_address if connection is None else connection.peer
        log.error("%s: the conversation failed", peer, exc_info=sys.exception())

    def log_to(self, access_log: AccessLog) -> None:
        """Have its conversations, and their requests, written to this log."""
        self.access_log = access_log
        if self.service is not None:
            self.service.requests = access_log.requests

    def log_failure(self, connection: Connection, failure: BaseException) -> None:
        """Log what a service raised, with its traceback, as one line; the peer is never told.  Raises it again if a
        signal handler has raised it."""
        if signals.is_from_handler(failure):
            raise failure
        if isinstance(failure, ReplyCutShort):
            log.warning("%s: %s", connection.peer, failure)
            return
        log.error("%s: the service failed", connection.peer, exc_info=failure)

    def shutdown_request(self, request: Any) -> None:
        """The end of every conversation: one access line, and the request is closed."""
        connection = self.connections.get(request)
        if connection is not None:
            self._log_access_safely(connection)
        super().shutdown_request(request)

    def close_request(self, request: Any) -> None:
        """Close the request and forget the connection.  Under the lock, so that the daemon's thread never
        shuts down a descriptor that has meanwhile become somebody else's."""
        with self._lock:
            connection = self.connections.pop(request, None)
            if connection is not None and connection.counted:
                # Together with the place it held: else the next one may be counted before this one is not.
                self._tally.leave(peer_network(connection.host))
            super().close_request(request)
        self._tell_daemon()

    # --- beneath them ------------------------------------------------------------------------------

    def _log_access_safely(self, connection: Connection) -> None:
        try:
            self.log_access(connection)
        except BaseException as error:
            if signals.is_from_handler(error):
                raise
            log.exception("%s: the access line could not be written", connection.peer)

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
                self._tally.leave(peer_network(connection.host))
        self._tell_daemon()

    def _tell_daemon(self) -> None:
        if (daemon := self.daemon) is not None and daemon.wants_news:
            daemon.wake()

    def hold(self, connection: Connection, size: int, *, writing: bool = False) -> bool:
        """Charge `connection` to the budget of the process: `size` bytes of an unfinished message or, `writing`, of a
        reply that the peer has not taken; 0 releases it.  Return whether it may be read from now.

        Connections that have to give way are closed, this one included."""
        if size < budget.FREE:
            if connection.charged:
                connection.charged = 0
                budget.PROCESS.release(connection)
            return True
        connection.charged = size
        verdict, closed = budget.PROCESS.hold(connection, size, writing=writing)
        if verdict is Verdict.REFUSE:
            closed.append(connection)
        for each in closed:
            assert isinstance(each, Connection)
            for server in [self] if self.daemon is None else self.daemon.servers:
                server.give_way(each)
        return verdict is Verdict.GO

    def give_way(self, connection: Connection) -> None:
        """Close a connection, if it is one of this server, for lack of room in the budget of the process."""
        with self._lock:
            if self.connections.get(connection.socket) is connection:
                connection.refuse(Refusal.HELD)
                connection.cut(Ending.REFUSED)

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
                if isinstance(connection, BlockingConnection) and connection.waiting and not connection.muted:
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
