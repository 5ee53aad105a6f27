"""``engine = loop``: all connections in one thread, event-driven.

The thread handles readable and writable connections in turn; a service that computes or blocks delays all others.  In
return a connection costs about one kilobyte instead of a thread.
"""

from __future__ import annotations

import os
import select
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from daemons.serving import signals
from daemons.serving.conclude import BETWEEN_MESSAGES
from daemons.serving.conversation.endings import LINGERING, Refusal
from daemons.serving.engines.loop_connection import LoopConnection
from daemons.serving.engines.loop_poller import LoopPoller
from daemons.serving.guards.accept_backoff import NoResourcesError
from daemons.serving.inlinable import INLINABLE, inlinable
from daemons.serving.poller import Poller
from daemons.serving.safe_logger import SafeLogger
from daemons.serving.stream import GONE, StreamServer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from daemons.serving.connection import Connection
    from daemons.serving.server import Server as _Server

    _StreamServer = StreamServer
else:
    _Server = _StreamServer = object

log = SafeLogger(__name__)

#: Methods called between accept and the first read, and between the last write and close.  They are most of the cost of
#: a short connection, so `accept_many` and `end` do their work without calling them, if none is overridden.
WAY_IN = ("accept", "get_request", "check_peer", "verify_request", "process_request", "make_conversation")
WAY_OUT = ("shutdown_request", "log_access", "close_request", "uncount")

#: Maximum size of the set of exempt hosts; the loopback network alone has 2**24 addresses.
EXEMPT = 256


class EventDriven(_Server):
    """Common base of event-driven stream and datagram servers: it provides the poller."""

    capacity = 10_000
    raw_handlers = False
    ends_in_one_thread = True

    def make_poller(self) -> Poller:
        return LoopPoller()

    def drain(self) -> None:
        super().drain()
        self._poller.draining = True

    def push(self, connection: Connection) -> None:
        """As `HandlerServer.push`."""
        if isinstance(connection, LoopConnection):
            self._poller.push(connection)

    @property
    def _poller(self) -> LoopPoller:
        assert self.daemon is not None
        assert isinstance(self.daemon.poller, LoopPoller)
        return self.daemon.poller


class DatagramLoop(EventDriven):
    """Datagram server that replies to each datagram in the leading thread."""


class Loop(EventDriven, _StreamServer):
    """Event-driven stream server for services.

    Raise `TypeError` for a raw handler, which would block the only thread."""

    connection_class = LoopConnection

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        carries_messages = self.carries_messages
        if not (carries_messages or self.raw_handlers):
            self.server_close()
            name = getattr(self.RequestHandlerClass, "__qualname__", self.RequestHandlerClass)
            raise TypeError(
                f"{name} is a raw handler, which blocks on its socket and cannot run under Loop; use Threads"
            )
        #: Whether `accept_many` and `end` may inline these methods.
        self._inlines_accept = carries_messages and self._may_inline(WAY_IN)
        self._inlines_end = carries_messages and self._may_inline(WAY_OUT)
        #: Hosts exempt from per-connection checks under the current rules.
        self._exempt: set[str] = set()
        self._rules: tuple[object, object] = (None, None)

    def _may_inline(self, methods: Iterable[str]) -> bool:
        """Return whether all of these methods are marked as `inlinable`, so that none is overridden."""
        return all(getattr(type(self), method) in INLINABLE for method in methods)

    def accept_many(self, most: int) -> None:
        """As `Server.accept_many`."""
        most = min(most, self.queued(most))
        limits = self.limits
        if not self._inlines_accept or self.tls or self.access.proxies or limits.max_rate or limits.spool:
            super().accept_many(most)
            return
        accept = self.socket._accept  # type: ignore[attr-defined]
        pump: Any = self.RequestHandlerClass
        binding = pump.binding
        # Without a greeting, the conversation is created when it is needed.
        greets = self.greets
        replies, respond_if_known = binding.cache.replies, binding.respond_if_known if binding.plain else None
        timeout = limits.handshake_timeout if greets else limits.idle_timeout
        family = int(self.address_family)
        poller, connections = self._poller, self.connections
        register, reading_connections = poller.register, poller.reading_connections
        reading = select.EPOLLIN if family == socket.AF_UNIX else poller.reading
        if self._rules != (self.access, self.limits):
            self._rules, self._exempt = (self.access, self.limits), set()
        exempt = self._exempt
        now = time.monotonic()
        # All accept(2) calls first: Python code that runs between system calls is slower.
        arrived: list[tuple[Any, int, Any]] = []
        for _ in range(most):
            try:
                descriptor, client_address = accept()
            except Exception as error:
                self.backoff.after(error)
                break
            try:
                request = socket.SocketType(family, socket.SOCK_STREAM, 0, descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            arrived.append((request, descriptor, client_address))
        for request, descriptor, client_address in arrived:
            try:
                connection = connections[request] = LoopConnection(request, client_address, timeout, now)
                if (host := client_address[0] if client_address else "unix") not in exempt:
                    self.check_peer(connection)
                    if connection.ending is not None:
                        self.shutdown_request(request)
                        continue
                    if not connection.counted and len(exempt) < EXEMPT:
                        exempt.add(host)
                if greets:
                    connection.begin(self, self.make_bare_conversation(connection))
                    poller.start_conversation(connection)
                    continue
                connection.server = self
                connection.existing_conversation = None
                connection.replies = replies
                connection.respond_if_known = respond_if_known
                connection.descriptor = descriptor
                connection.timeout_ending = BETWEEN_MESSAGES
                register(descriptor, reading)
                reading_connections[descriptor] = connection
            except OSError as error:  # only epoll_ctl(2) raises it here
                self.defer(request, client_address, _no_entry(error))
            except BaseException as error:
                if signals.is_from_handler(error):
                    raise
                self._handle_error_safely(request, client_address)
                self._shutdown_safely(request)
        if self.metrics is not None:
            self.metrics.accept(len(arrived))

    @inlinable
    def get_request(self) -> tuple[Any, Any]:
        # The plain C socket type: Python's subclass would cost more than the rest of the accept.
        if self.limits.spool is not None:
            return super().get_request()
        descriptor, client_address = self.socket._accept()  # type: ignore[attr-defined]
        request = socket.SocketType(int(self.address_family), socket.SOCK_STREAM, 0, descriptor)
        return request, client_address

    @inlinable
    def process_request(self, request: Any, client_address: Any) -> None:
        connection = self.connections[request]
        assert isinstance(connection, LoopConnection)
        connection.begin(self, self.make_conversation(connection))
        poller = self._poller
        try:
            poller.start_conversation(connection)
        except OSError as error:
            if connection.descriptor in poller.reading_connections:
                raise
            raise _no_entry(error) from error

    def end(self, connection: LoopConnection) -> bool:
        """End a connection, like `shutdown_request`.  Return whether `log_and_close` must still log and close it."""
        if not self._inlines_end:
            self.shutdown_request(connection.socket)
            return False
        # For LINGERING, shutdown was called before.
        if connection.ending not in GONE and connection.ending not in LINGERING:
            with suppress(OSError):
                connection.socket.shutdown(socket.SHUT_WR)
        del self.connections[connection.socket]
        if connection.counted:
            self.uncount(connection)
        return True

    def log_and_close(self, ended: Sequence[LoopConnection]) -> None:
        """Log and close the connections that ended in one turn of the loop.

        Doing this in a batch takes half of the time of `log_access` and `close_request` for each."""
        now = time.monotonic()
        try:
            if self.metrics is not None:
                self.metrics.end_all(ended, now)
            if self.access_log is not None:
                self.access_log.log_all(ended, now)
        except BaseException as error:
            if signals.is_from_handler(error):
                raise
            log.exception("access lines of %d connections could not be written", len(ended))
        for connection in ended:
            connection.socket.close()  # after logging, which reads a Unix peer's credentials from the socket
        self._wake_daemon()

    @inlinable
    def close_request(self, request: Any) -> None:
        connection = self.connections.pop(request, None)
        request.close()
        if connection is not None:
            self.uncount(connection)

    def evict(self, connection: Connection, refusal: Refusal = Refusal.HELD) -> None:
        """As `Server.evict`; called in the leading thread only."""
        if self.holds(connection):
            assert isinstance(connection, LoopConnection)
            self._poller.evict(connection, refusal)

    def server_close(self) -> None:
        """Close the listener and all connections: after the loop has ended, no thread serves them."""
        super().server_close()
        connections = list(self.connections.values())
        self.connections.clear()
        for connection in connections:
            assert isinstance(connection, LoopConnection)
            self.drop(connection)

    def drop(self, connection: LoopConnection) -> None:
        """Close a connection after the loop has ended."""
        self.hold(connection, 0)
        if connection.existing_conversation is not None:
            connection.existing_conversation.close()
            # An exception of a signal handler has been raised already, and has ended the loop.
            if (failure := connection.existing_conversation.failure) is not None and not signals.is_from_handler(
                failure
            ):
                self.log_failure(connection, failure)
        connection.socket.close()


def _no_entry(error: OSError) -> NoResourcesError:
    """Return the error for a connection that could not be added to epoll: epoll_ctl(2), ENOMEM and ENOSPC."""
    return NoResourcesError(f"a connection could not be polled ({error.strerror})")
