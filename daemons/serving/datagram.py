"""DatagramServer: `socketserver.UDPServer`, hardened.

One datagram is one whole conversation: it is taken as the peer's complete input, and all output of the service (its
greeting, its replies, its final message) is sent back as one datagram.  The source address of a datagram may be
spoofed.  So failures are not answered, and neither are requests from other hosts whose response is larger than
`Limits.amplification` allows.
"""

from __future__ import annotations

import errno
import socket
import socketserver
import struct
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from daemons.serving.conclude import conclude
from daemons.serving.connection import Connection
from daemons.serving.conversation.endings import Ending, Refusal
from daemons.serving.conversation.states import OVER, PENDING, WAITING
from daemons.serving.guards.eviction import Candidate
from daemons.serving.guards.limits import Limits, is_local
from daemons.serving.guards.reflection import may_loop
from daemons.serving.listening.address import WILDCARDS
from daemons.serving.receive_buffer import resize
from daemons.serving.safe_logger import SafeLogger
from daemons.serving.server import Server

if TYPE_CHECKING:
    from typing import Self

log = SafeLogger(__name__)

#: Bytes in the largest datagram over IPv4: 65,535 less 20 for the IP header and 8 for the UDP header, RFC 768.
LARGEST = 65_507

#: ip(7), linux/in.h; not in Python's socket module before 3.14.
IP_PKTINFO = 8

#: Buffer size for the control message with a datagram's destination address, cmsg(3).
ANCILLARY = socket.CMSG_SPACE(struct.calcsize("16sI"))

ControlMessages: TypeAlias = Sequence[tuple[int, int, bytes]]

#: Endings after which the reply is sent.
REPLIED = frozenset((Ending.DONE, Ending.FINISHED))


class Datagram(tuple[bytes, Any]):
    """The request of a socketserver handler: ``(data, socket)``.  Compared by identity, since two peers may send the
    same bytes."""

    #: Ancillary data for sendmsg(2) that make the destination address of this datagram the source address of its reply;
    #: empty if the server has only one address.
    reply_source: ControlMessages = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


class DatagramConnection(Connection):
    """One datagram and its reply."""

    __slots__ = ("data", "reply_source")

    #: No deadline applies, because the daemon never waits for the peer: the input is complete.
    timed = False

    def __init__(self, request: Datagram, address: Any, timeout: float) -> None:
        self.data, sock = request
        super().__init__(sock, address, timeout)
        self.received = len(self.data)
        self.reply_source = request.reply_source

    def cut(self, ending: Ending) -> None:
        """Set the ending, so that no reply is sent.  The socket is shared and stays open."""
        self.ending = self.ending or ending

    def send(self, reply: bytes) -> None:
        """Send `reply` to the peer, from the destination address of its datagram.  Raise `OSError`."""
        if self.reply_source:
            self.socket.sendmsg([reply], self.reply_source, socket.MSG_DONTWAIT, self.address)
        else:
            self.socket.sendto(reply, socket.MSG_DONTWAIT, self.address)
        self.sent += len(reply)


class DatagramServer(Server, socketserver.UDPServer):
    """A datagram server, with socketserver's constructor.  ``server_address`` is ``(host, port)`` for IPv4 or IPv6.

    A socketserver handler gets ``(data, socket)`` as its request.  The ``sendto`` of that socket buffers replies to the
    peer; they are sent when the handler returns, and discarded if it raises an exception.
    """

    #: With socketserver's 8192, longer datagrams would be truncated silently.
    max_packet_size = 65_535
    connection_class = DatagramConnection
    # As in socketserver: with SO_REUSEADDR any other process of the same user could take over the port.
    allow_reuse_address = False

    #: Whether datagrams may arrive at more than one address.
    _many_addresses = False

    @classmethod
    def adopt(cls, listener: socket.socket, handler: Callable[..., Any]) -> Self:
        """Return a server on a bound socket."""
        server = super().adopt(listener, handler)
        server._request_destinations()
        return server

    def server_bind(self) -> None:
        super().server_bind()
        self._request_destinations()

    def check_peer(self, connection: Connection) -> None:
        """Refuse a datagram whose reply could start a loop between two servers; else as in `Server`."""
        if self.address_family == socket.AF_UNIX:
            loops = connection.address == self.server_address
        else:
            same_port = self.service is not None and self.service.same_port
            loops = may_loop(connection.host, connection.address[1], self._ports, same_port=same_port)
        if loops:
            connection.refuse(Refusal.LOOP)
        else:
            super().check_peer(connection)

    @property
    def spare(self) -> int:  # type: ignore[override]
        """One datagram may be answered at any time: it needs no peer, so that it does not hold its place."""
        return 0 if self.active else 1

    @cached_property
    def _ports(self) -> frozenset[int]:
        """The ports at which the daemon receives datagrams."""
        servers = [self] if self.daemon is None else self.daemon.servers
        return frozenset(
            server.server_address[1]
            for server in servers
            if isinstance(server, DatagramServer) and server.address_family != socket.AF_UNIX
        )

    def candidates(self, now: float) -> list[Candidate]:
        """Return an empty list: no datagram waits for its peer."""
        return []

    def apply(self, limits: Limits) -> None:
        super().apply(limits)
        resize(self.socket, limits.receive_buffer)

    def stop_listening(self) -> None:
        """Do nothing: pending replies need the socket.  `server_close` closes it."""

    def get_request(self) -> tuple[Any, Any]:
        if not self._many_addresses:
            data, client_address = self.socket.recvfrom(self.max_packet_size)
            return Datagram((data, self.socket)), client_address
        data, ancillary, _, client_address = self.socket.recvmsg(self.max_packet_size, ANCILLARY)
        request = Datagram((data, self.socket))
        request.reply_source = [message for one in ancillary if (message := _as_source(*one)) is not None]
        return request, client_address

    def run_handler(self, connection: Connection) -> None:
        """Run the handler, and send its replies unless it fails."""
        assert isinstance(connection, DatagramConnection)
        if self.carries_messages:
            reply = self._run_conversation(connection)
            if connection.ending in REPLIED and reply:
                self._send(connection, [reply])
            return
        connection.messages = None
        replies = Replies(connection)
        handler: Any = self.RequestHandlerClass
        handler((connection.data, replies), connection.address, self)
        self._send(connection, replies.kept)

    def _run_conversation(self, connection: DatagramConnection) -> bytes:
        """Return the whole output of the service for one datagram."""
        conversation = self.make_conversation(connection)
        output = [conversation.open()]
        if conversation.state != OVER:
            output.append(conversation.receive_all(connection.data))
        while conversation.state == PENDING and sum(map(len, output)) <= LARGEST:
            output.append(conversation.proceed())
        if conversation.state == WAITING:
            conversation.fail(TypeError("the talk waits, which is impossible over UDP: a datagram has one reply"))
        failure = conclude(connection, conversation)
        if failure is not None:
            self.log_failure(connection, failure)
        return b"".join(output)

    def _send(self, connection: DatagramConnection, replies: list[bytes]) -> None:
        """Send all replies.  If together they exceed the amplification limit, send the service's short replacement,
        or nothing."""
        if not self._may_send(connection, sum(map(len, replies))) and not (replies := self._truncated(connection)):
            connection.ending = connection.ending if connection.ending is Ending.FAILED else Ending.AMPLIFIED
            return
        try:
            for reply in replies:
                connection.send(reply)
        except BlockingIOError:
            connection.ending = Ending.STUCK
        except OSError as error:
            if connection.ending is not None and connection.ending not in REPLIED:
                return  # the daemon has cut the connection
            # For example no route to the peer, or a rule of the firewall (EPERM).
            fits = error.errno != errno.EMSGSIZE
            reason = f"could not be sent: {error.strerror}" if fits else "does not fit in a datagram"
            log.error("%s: reply of %d bytes %s", connection.peer, len(reply), reason)
            connection.ending = Ending.FAILED

    def _truncated(self, connection: DatagramConnection) -> list[bytes]:
        """Return the service's replacement for a reply over the limit; empty if there is none within the limit."""
        try:
            reply = b"" if self.service is None else self.service.truncated(connection.data)
        except BaseException as failure:
            connection.ending = Ending.FAILED
            self.log_failure(connection, failure)
            return []
        return [reply] if reply and self._may_send(connection, len(reply)) else []

    def _request_destinations(self) -> None:
        """Ask the kernel for the destination address of each datagram if the socket is bound to all addresses.

        A reply must come from the address to which the peer sent the datagram.  Otherwise the kernel chooses the source
        address by the route of the reply, and the peer may not recognize it.  For a socket bound to a broadcast address
        that choice is right."""
        if self.socket.getsockname()[0] in WILDCARDS:
            self._many_addresses = True
            if self.socket.family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                self.socket.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)

    def _may_send(self, connection: DatagramConnection, size: int) -> bool:
        # Other hosts cannot send from a loopback address: the kernel drops such datagrams.
        return size <= self.limits.amplification * connection.received or is_local(connection.host)


class Replies:
    """The socket passed to a raw handler: it buffers replies to the peer, and the server sends them."""

    def __init__(self, connection: DatagramConnection) -> None:
        self._connection = connection
        self.kept: list[bytes] = []

    def sendto(self, data: Any, *where: Any) -> int:
        """As `socket.socket.sendto`, but buffer datagrams to the peer; send others at once."""
        if where[-1] != self._connection.address:
            return self._connection.socket.sendto(data, *where)
        self.kept.append(bytes(data))
        return len(self.kept[-1])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection.socket, name)


def _as_source(level: int, kind: int, data: bytes) -> tuple[int, int, bytes] | None:
    """Return the control message for sendmsg(2) that makes a datagram's destination address the source of its reply.

    `level`, `kind` and `data` are a control message from recvmsg(2).  The routing table chooses the interface.  Return
    None for a multicast address, which cannot be a source, and for any other control message."""
    if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
        # struct in_pktinfo, ip(7): for a broadcast, ipi_spec_dst is the local address on that network.
        _, ours, _ = struct.unpack("I4s4s", data)
        return level, kind, struct.pack("I4s4s", 0, ours, bytes(4))
    if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
        ours, _ = struct.unpack("16sI", data)  # struct in6_pktinfo, RFC 3542, section 6
        multicast = ours[0] == 0xFF
        return None if multicast else (level, kind, struct.pack("16sI", ours, 0))
    return None
