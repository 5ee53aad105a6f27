"""DatagramServer: `socketserver.UDPServer`, hardened.

One datagram is one whole conversation: it is taken to be all that the peer will ever say, and what a service
says to that (its greeting, its replies, its last words) goes back as one datagram.  Anybody can write any
address on a datagram.  So what has gone wrong is answered with silence, and so is, to peers on other machines,
a question whose answer is larger than `Limits.amplification` allows: whoever is really at that address has
asked for neither.
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
from daemons.serving.conversation.conversation import OVER, PENDING
from daemons.serving.conversation.endings import Ending, Refusal
from daemons.serving.guards.limits import Limits, is_local
from daemons.serving.guards.reflection import may_loop
from daemons.serving.listening.address import WILDCARDS
from daemons.serving.receive_buffer import resize
from daemons.serving.safe_logger import SafeLogger
from daemons.serving.server import Server

if TYPE_CHECKING:
    from typing import Self

log = SafeLogger(__name__)

#: Octets in the largest datagram over IPv4: 65,535 less 20 for the header of IP and 8 for that of UDP, RFC 768.
LARGEST = 65_507

#: ip(7), linux/in.h; Python has no name for it before 3.14.
IP_PKTINFO = 8

#: Room for what tells at which of our addresses a datagram arrived, cmsg(3).
ANCILLARY = socket.CMSG_SPACE(struct.calcsize("16sI"))

Arrival: TypeAlias = Sequence[tuple[int, int, bytes]]

#: Endings whose answer is sent.
ANSWERED = frozenset((Ending.DONE, Ending.FINISHED))


class Datagram(tuple[bytes, Any]):
    """What a handler of the standard library calls its request: ``(data, socket)``.  Equal to itself alone: two
    peers may say the same."""

    #: At which of our addresses it arrived, as sendmsg(2) wants it; empty where there is only one.
    arrival: Arrival = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


class DatagramConnection(Connection):
    """One datagram, and what is answered to it."""

    __slots__ = ("arrival", "data")

    #: Nothing more is expected of the peer.
    timed = False

    def __init__(self, request: Datagram, address: Any, timeout: float) -> None:
        self.data, sock = request
        super().__init__(sock, address, timeout)
        self.received = len(self.data)
        self.arrival = request.arrival

    def cut(self, ending: Ending) -> None:
        """End it: it is not answered any more.  The socket is everybody's."""
        self.ending = self.ending or ending

    def answer(self, reply: bytes) -> None:
        """Send `reply` to the peer, from the address that it has asked.  Raises `OSError`."""
        if self.arrival:
            self.socket.sendmsg([reply], self.arrival, socket.MSG_DONTWAIT, self.address)
        else:
            self.socket.sendto(reply, socket.MSG_DONTWAIT, self.address)
        self.sent += len(reply)


class DatagramServer(Server, socketserver.UDPServer):
    """A server of datagrams, with the stock constructor.  ``server_address`` is ``(host, port)`` for IPv4 or IPv6.

    A handler of the standard library gets ``(data, socket)`` as its request, where ``socket.sendto`` keeps what
    is for its peer until the handler has ended well: if it raises, nothing has been sent.
    """

    #: The stock 8192 cuts off what is longer, and says nothing.
    max_packet_size = 65_535
    connection_class = DatagramConnection
    # The stock class's; with SO_REUSEADDR any other process of the same user could take the port over.
    allow_reuse_address = False

    #: Whether there is more than one address at which a datagram may arrive.
    _many_addresses = False

    @classmethod
    def adopt(cls, listener: socket.socket, handler: Callable[..., Any]) -> Self:
        """A server on a socket that is bound already."""
        server = super().adopt(listener, handler)
        server._note_arrivals()
        return server

    def server_bind(self) -> None:
        super().server_bind()
        self._note_arrivals()

    def judge(self, connection: Connection) -> None:
        """Ask the guards about a datagram; first whether its answer may be answered."""
        if self.address_family == socket.AF_UNIX:
            loops = connection.address == self.server_address
        else:
            same_port = self.service is not None and self.service.same_port
            loops = may_loop(connection.host, connection.address[1], self._ports, same_port=same_port)
        if loops:
            connection.refuse(Refusal.LOOP)
        else:
            super().judge(connection)

    @cached_property
    def _ports(self) -> frozenset[int]:
        """The ports at which the daemon receives datagrams."""
        servers = [self] if self.daemon is None else self.daemon.servers
        return frozenset(
            server.server_address[1]
            for server in servers
            if isinstance(server, DatagramServer) and server.address_family != socket.AF_UNIX
        )

    def apply(self, limits: Limits) -> None:
        super().apply(limits)
        resize(self.socket, limits.receive_buffer)

    def stop_listening(self) -> None:
        """Nothing, for the answers still under way need the socket: `server_close` closes it."""

    def get_request(self) -> tuple[Any, Any]:
        if not self._many_addresses:
            data, client_address = self.socket.recvfrom(self.max_packet_size)
            return Datagram((data, self.socket)), client_address
        data, ancillary, _, client_address = self.socket.recvmsg(self.max_packet_size, ANCILLARY)
        request = Datagram((data, self.socket))
        request.arrival = [message for one in ancillary if (message := _as_source(*one)) is not None]
        return request, client_address

    def run_handler(self, connection: Connection) -> None:
        """Run the handler.  Nothing is sent before it has ended, and well."""
        assert isinstance(connection, DatagramConnection)
        if getattr(self.RequestHandlerClass, "carries_messages", False):
            reply = self._converse(connection)
            if connection.ending in ANSWERED and reply:
                self._send(connection, [reply])
            return
        connection.messages = None
        replies = Replies(connection)
        handler: Any = self.RequestHandlerClass
        handler((connection.data, replies), connection.address, self)
        self._send(connection, replies.kept)

    def _converse(self, exchange: DatagramConnection) -> bytes:
        """All that the service has to say to one datagram."""
        conversation = self.conversation(exchange)
        said = [conversation.open()]
        if conversation.state != OVER:
            said.append(conversation.receive_all(exchange.data))
        while conversation.state == PENDING and sum(map(len, said)) <= LARGEST:
            said.append(conversation.proceed())
        failure = conclude(exchange, conversation)
        if failure is not None:
            self.log_failure(exchange, failure)
        return b"".join(said)

    def _send(self, exchange: DatagramConnection, replies: list[bytes]) -> None:
        """Send what the amplification guard allows, which is all of it or nothing."""
        if not self._may_say(exchange, sum(map(len, replies))) and not (replies := self._truncated(exchange)):
            exchange.ending = exchange.ending if exchange.ending is Ending.FAILED else Ending.AMPLIFIED
            return
        try:
            for reply in replies:
                exchange.answer(reply)
        except BlockingIOError:
            exchange.ending = Ending.STUCK
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            log.error("%s: an answer of %d octets does not fit in a datagram", exchange.peer, len(reply))
            exchange.ending = Ending.FAILED

    def _truncated(self, exchange: DatagramConnection) -> list[bytes]:
        """What is said instead, if anything."""
        try:
            reply = b"" if self.service is None else self.service.truncated(exchange.data)
        except BaseException as failure:
            exchange.ending = Ending.FAILED
            self.log_failure(exchange, failure)
            return []
        return [reply] if reply and self._may_say(exchange, len(reply)) else []

    def _note_arrivals(self) -> None:
        """Bound to all addresses, the kernel would answer from whichever is nearest to the peer, who has asked
        another one and does not know this one.  So have it tell which it was.  (Of a socket bound to a broadcast
        address the kernel answers from an address on the peer's network: that is as it should be.)"""
        if self.socket.getsockname()[0] in WILDCARDS:
            self._many_addresses = True
            if self.socket.family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                self.socket.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)

    def _may_say(self, exchange: DatagramConnection, octets: int) -> bool:
        # Nobody on another machine can send from a loopback address: the kernel drops such datagrams.
        return octets <= self.limits.amplification * exchange.received or is_local(exchange.host)


class Replies:
    """The socket as a raw handler sees it.  What it says to its peer is kept, for the server to send."""

    def __init__(self, exchange: DatagramConnection) -> None:
        self._exchange = exchange
        self.kept: list[bytes] = []

    def sendto(self, data: Any, *where: Any) -> int:
        """As `socket.socket.sendto`; to anybody but the peer it sends at once."""
        if where[-1] != self._exchange.address:
            return self._exchange.socket.sendto(data, *where)
        self.kept.append(bytes(data))
        return len(self.kept[-1])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange.socket, name)


def _as_source(level: int, kind: int, data: bytes) -> tuple[int, int, bytes] | None:
    """From what recvmsg(2) says of the address at which a datagram arrived to what sendmsg(2) wants for an
    answer from there; the way back is the routing table's to choose.  None where nobody answers from."""
    if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
        # struct in_pktinfo, ip(7): of a broadcast, ipi_spec_dst is the address of ours that stands for it.
        _, ours, _ = struct.unpack("I4s4s", data)
        return level, kind, struct.pack("I4s4s", 0, ours, bytes(4))
    if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
        ours, _ = struct.unpack("16sI", data)  # struct in6_pktinfo, RFC 3542, section 6
        multicast = ours[0] == 0xFF
        return None if multicast else (level, kind, struct.pack("16sI", ours, 0))
    return None
