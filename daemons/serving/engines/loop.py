"""``engine = loop``: all conversations in one thread, by readiness.

No conversation waits: the thread goes from one that has something to say to the next, and what a
service computes holds up all the others.  In return a conversation costs a kilobyte, not a thread.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from daemons.serving import signals
from daemons.serving.conclude import BETWEEN_MESSAGES
from daemons.serving.engines.flow import LoopConnection
from daemons.serving.engines.loop_poller import LoopPoller
from daemons.serving.poller import Poller
from daemons.serving.pump import OURS
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

#: What stands between an accept and the first read, and between the last write and the close.  Where none of it
#: is overridden, it is done in one piece: it is most of what a short conversation costs.
WAY_IN = ("accept", "get_request", "judge", "verify_request", "process_request", "conversation")
WAY_OUT = ("shutdown_request", "log_access", "close_request", "leave")

#: Hosts that are remembered as having nothing to fear from the guards; those of the loopback alone are 2**24.
EXEMPT = 256

#: Where in struct tcp_info, linux/tcp.h, the kernel says how many connections wait at a listener.
_QUEUED = slice(24, 28)


class ByReadiness(_Server):
    """What servers of streams and of datagrams share here: the poller that their daemon waits with."""

    capacity = 10_000
    raw_handlers = False
    ends_in_one_thread = True

    def make_poller(self) -> Poller:
        return LoopPoller()

    def drain(self) -> None:
        super().drain()
        self._poller.draining = True

    @property
    def _poller(self) -> LoopPoller:
        assert self.daemon is not None
        assert isinstance(self.daemon.poller, LoopPoller)
        return self.daemon.poller


class DatagramLoop(ByReadiness):
    """A datagram is answered when it is read: there is nothing to wait for."""


class Loop(ByReadiness, _StreamServer):
    """Many conversations in one thread.  Only for services: a raw handler would wait on its socket, so that it raises
    `TypeError` with one."""

    connection_class = LoopConnection

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        plain = getattr(self.RequestHandlerClass, "carries_messages", False)
        if not (plain or self.raw_handlers):
            self.server_close()
            name = getattr(self.RequestHandlerClass, "__qualname__", self.RequestHandlerClass)
            raise TypeError(
                f"{name} is a raw handler, which waits on its socket; under Loop nobody may: mix in Threads"
            )
        #: Whether `accept_several` and `end` may do in one piece what these verbs would.
        self._short_in = plain and self._is_as_shipped(WAY_IN)
        self._short_out = plain and self._is_as_shipped(WAY_OUT)
        #: Hosts against which the guards have nothing, and whose connections nobody counts, under these rules.
        self._exempt: set[str] = set()
        self._rules: tuple[object, object] = (None, None)

    def _is_as_shipped(self, verbs: Iterable[str]) -> bool:
        """Whether a server with no more than an engine mixed in has the same methods."""
        mixins = (kind for kind in type(self).__mro__ if not issubclass(kind, StreamServer))
        engine = next(kind for kind in mixins if kind.__module__.startswith(__package__))
        shipped = type("Shipped", (engine, StreamServer), {})
        return all(getattr(type(self), verb) is getattr(shipped, verb) for verb in verbs)

    def accept_several(self, most: int) -> None:
        """As `Server.accept_several`."""
        most = min(most, self._queued(most))
        limits = self.limits
        if not self._short_in or self.tls or self.access.proxies or limits.max_rate or limits.spool:
            super().accept_several(most)
            return
        accept = self.socket._accept  # type: ignore[attr-defined]
        pump: Any = self.RequestHandlerClass
        binding = pump.binding
        # The conversation of one that does not greet is made when it is needed.
        greets = self.greets
        replies, again = binding.cache.replies, binding.again if binding.plain else None
        timeout = limits.handshake_timeout if greets else limits.idle_timeout
        family = int(self.address_family)
        register, flows, connections = self._poller.register, self._poller.flows, self.connections
        reading = select.EPOLLIN if family == socket.AF_UNIX else self._poller.reading
        if self._rules != (self.access, self.limits):
            self._rules, self._exempt = (self.access, self.limits), set()
        exempt = self._exempt
        now = time.monotonic()
        # All that the kernel has to do first: between system calls, other code is slow.
        arrived: list[tuple[Any, int, Any]] = []
        for _ in range(most):
            try:
                descriptor, client_address = accept()
            except Exception as error:
                self.rest.after(error)
                break
            request = socket.SocketType(family, socket.SOCK_STREAM, 0, descriptor)
            arrived.append((request, descriptor, client_address))
        for request, descriptor, client_address in arrived:
            try:
                flow = connections[request] = LoopConnection(request, client_address, timeout, now)
                if (host := client_address[0] if client_address else "unix") not in exempt:
                    self.judge(flow)
                    if flow.ending is not None:
                        self.shutdown_request(request)
                        continue
                    if not flow.counted and len(exempt) < EXEMPT:
                        exempt.add(host)
                if greets:
                    flow.begin(self, self.bare_conversation(flow))
                    self._poller.take(flow)
                    continue
                flow.server = self
                flow.made = None
                flow.replies = replies
                flow.again = again
                flow.descriptor = descriptor
                flow.overdue = BETWEEN_MESSAGES
                register(descriptor, reading)
                flows[descriptor] = flow
            except BaseException as error:
                if signals.is_from_handler(error):
                    raise
                self._handle_error_safely(request, client_address)
                self._shutdown_safely(request)
        if self.metrics is not None:
            self.metrics.accept(len(arrived))

    def _queued(self, most: int) -> int:
        """How many connections wait; `most` where the kernel does not say.  To find the queue empty by an accept
        costs eight times as much."""
        try:
            tcp_info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUED.stop)
        except OSError:  # a Unix socket
            return most
        return int.from_bytes(tcp_info[_QUEUED], sys.byteorder) or 1

    def get_request(self) -> tuple[Any, Any]:
        # The plain socket type of C: the class around it would cost more than all else about accepting.
        if self.limits.spool is not None:
            return super().get_request()
        descriptor, client_address = self.socket._accept()  # type: ignore[attr-defined]
        request = socket.SocketType(int(self.address_family), socket.SOCK_STREAM, 0, descriptor)
        return request, client_address

    def process_request(self, request: Any, client_address: Any) -> None:
        flow = self.connections[request]
        assert isinstance(flow, LoopConnection)
        flow.begin(self, self.conversation(flow))
        self._poller.take(flow)

    def end(self, flow: LoopConnection) -> bool:
        """The end of a conversation: `shutdown_request`.  Returns whether the rest of that is for `account`."""
        if not self._short_out:
            self.shutdown_request(flow.socket)
            return False
        if flow.ending not in GONE and flow.ending not in OURS:  # after these it has been done, before lingering
            with suppress(OSError):
                flow.socket.shutdown(socket.SHUT_WR)
        del self.connections[flow.socket]
        self.leave(flow)
        return True

    def account(self, ended: Sequence[LoopConnection]) -> None:
        """What `close_request` and `log_access` do, for conversations that have ended in one turn of the loop: all
        together, that takes half of the time."""
        now = time.monotonic()
        try:
            if self.metrics is not None:
                self.metrics.end_all(ended, now)
            if self.access_log is not None:
                self.access_log.tell_all(ended, now)
        except BaseException as error:
            if signals.is_from_handler(error):
                raise
            log.exception("the access lines of %d conversations could not be written", len(ended))
        for flow in ended:
            flow.socket.close()  # not before: of a Unix peer, the socket knows the name

    def close_request(self, request: Any) -> None:
        connection = self.connections.pop(request, None)
        request.close()
        if connection is not None:
            self.leave(connection)

    def give_way(self, connection: Connection) -> None:
        """As `Server.give_way`; in the thread that leads, which alone holds connections."""
        if self.connections.get(connection.socket) is connection:
            assert isinstance(connection, LoopConnection)
            self._poller.give_way(connection)

    def server_close(self) -> None:
        """Close the listener, and every conversation: with the loop, who served them has gone."""
        super().server_close()
        connections = list(self.connections.values())
        self.connections.clear()
        for connection in connections:
            assert isinstance(connection, LoopConnection)
            self.drop(connection)

    def drop(self, flow: LoopConnection) -> None:
        """Let go of a conversation that nobody serves any more."""
        self.hold(flow, 0)
        if flow.made is not None:
            flow.made.close()
            # What a signal handler has raised has ended the loop already.
            if (failure := flow.made.failure) is not None and not signals.is_from_handler(failure):
                self.log_failure(flow, failure)
        flow.socket.close()
