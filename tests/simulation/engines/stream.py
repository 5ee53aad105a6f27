"""Simulated TCP sockets, tcp(7), over a network without delay.

The rules are those of net/ipv4/tcp.c: `mask` is tcp_poll, `recv` is tcp_recvmsg, `close` is tcp_close.
`tests/simulation/engines/test_kernel.py` compares them with the real ones.
"""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import sys
from typing import Any

from tests.simulation.engines.kernel import Kernel, Watcher

IN, OUT, PRI = select.EPOLLIN, select.EPOLLOUT, select.EPOLLPRI
ERR, HUP, RDHUP = select.EPOLLERR, select.EPOLLHUP, select.EPOLLRDHUP

#: sk_data_ready wakes the waiters for these.
ARRIVED = IN | PRI


#: Offsets in struct tcp_info, linux/tcp.h.
_LAST_DATA, _BYTES_RECEIVED = 52, 128


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class Endpoint:
    """One end of a connection.

    `descriptor` is -1 while no process has it: before accept, after close, and at the other host."""

    __slots__ = (
        "_capacity",
        "_kernel",
        "_no_space",
        "_window",
        "address",
        "arrived",
        "arrived_at",
        "closed",
        "delivered_fin",
        "descriptor",
        "error",
        "family",
        "fin",
        "peer",
        "received",
        "reset",
        "sent_at",
        "shut_at",
        "shut_read",
        "shut_write",
        "taken",
        "unsent",
        "urgent",
        "watchers",
    )

    peer: Endpoint

    def __init__(self, kernel: Kernel, window: int, capacity: int, family: int = socket.AF_INET) -> None:
        self._kernel = kernel
        #: Sizes of the receive buffer and of the send buffer.
        self._window = window
        self._capacity = capacity
        self.family = family
        self.descriptor = -1
        self.address: Any = None
        self.watchers: list[Watcher] = []
        self.received = bytearray()
        #: Number of bytes that ever arrived, and when the last of them did.
        self.arrived = 0
        self.arrived_at = kernel.now
        self.unsent = bytearray()
        #: Number of received bytes before an urgent byte that was not passed yet; None: no urgent byte.
        self.urgent: int | None = None
        #: The other end sent all its output.
        self.fin = False
        self.shut_read = self.shut_write = False
        #: This end's FIN has arrived.
        self.delivered_fin = False
        #: The connection was reset.
        self.reset = False
        #: Pending error, SO_ERROR.
        self.error = 0
        self.closed = False
        #: A watcher waits for space in the send buffer, SOCK_NOSPACE.
        self._no_space = False
        #: Number of bytes ever accepted by `send`.
        self.taken = 0
        #: When `send` last accepted bytes, and when the sending side was shut; -inf: never.
        self.sent_at = self.shut_at = -math.inf

    # --- events ----------------------------------------------------------------------------------------

    def mask(self) -> int:
        """Return the current events."""
        reading_over = self.fin or self.shut_read or self.reset
        writing_over = self.shut_write or self.reset
        mask = 0
        if reading_over:
            mask = IN | RDHUP | HUP if writing_over else IN | RDHUP
        elif self.received:
            mask = IN
        if writing_over or self.writable:
            mask |= OUT
        else:
            self._no_space = True
        if self.urgent is not None:
            mask |= PRI
        if self.error:
            mask |= ERR
        return mask

    @property
    def writable(self) -> bool:
        """Whether a third of the send buffer is free, sk_stream_is_writeable."""
        used = len(self.unsent)
        return self._capacity - used >= max(1, used >> 1)

    @property
    def _over(self) -> bool:
        """Whether the state is CLOSE: reset, or shut by both ends."""
        return self.reset or (self.fin and self.delivered_fin)

    def _wake(self, events: int) -> None:
        for watcher in self.watchers:
            watcher.wake(events)

    # --- system calls ----------------------------------------------------------------------------------

    def _enter(self) -> None:
        if self.descriptor >= 0:
            self._kernel.enter()
        if self.closed:
            raise os_error(errno.EBADF)

    def fileno(self) -> int:
        return self.descriptor

    def recv(self, size: int, flags: int = 0) -> bytes:
        self._enter()
        if self.descriptor >= 0:
            self._kernel.receiving()
        if self.urgent is not None:
            if self.urgent:
                size = min(size, self.urgent)
                self.urgent -= min(size, len(self.received))
            else:
                self.urgent = None  # not part of the stream, as SO_OOBINLINE is off
        if self.received:
            data = bytes(self.received[:size])
            del self.received[:size]
            self.peer.push()
            return data
        if self.fin:
            return b""
        if self.error:
            number, self.error = self.error, 0
            raise os_error(number)
        if self.shut_read or self.reset:
            return b""
        raise os_error(errno.EAGAIN)

    def recv_into(self, buffer: bytearray, size: int = 0, flags: int = 0) -> int:
        data = self.recv(size or len(buffer), flags)
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:
        self._enter()
        if self.error:
            number, self.error = self.error, 0
            raise os_error(number)
        if self.shut_write or self.reset:
            raise os_error(errno.EPIPE)
        room = self._capacity - len(self.unsent)
        if not self.unsent:
            room += self.peer.space
        count = min(len(data), room)
        self.unsent += data[:count]
        self.taken += count
        self.sent_at = self._kernel.now
        if count < len(data):
            self._no_space = True
        self.push()
        if not count and len(data):
            raise os_error(errno.EAGAIN)
        return count

    def send_urgent(self) -> bool:
        """Send one urgent byte, MSG_OOB.  Return False if that is not possible at once."""
        peer = self.peer
        if self.error or self.shut_write or self.reset or peer.closed or peer.shut_read:
            return False
        if self.unsent or peer.urgent is not None:
            return False
        peer.urgent = len(peer.received)
        peer.arrived += 1
        peer.arrived_at = self._kernel.now
        peer._wake(ARRIVED)
        return True

    def shutdown(self, how: int) -> None:
        self._enter()
        over = self._over
        if how != socket.SHUT_WR:
            self.shut_read = True
        if how != socket.SHUT_RD:
            if not self.shut_write:
                self.shut_at = self._kernel.now
            self.shut_write = True
            if not over:
                self.push()
        self._wake(0)
        if over:
            raise os_error(errno.ENOTCONN)

    def close(self) -> None:
        """Close the connection; reset it if not all input was read, RFC 2525, section 2.17."""
        if self.descriptor >= 0:
            self._kernel.enter()
        if self.closed:
            self._kernel.errors.append(f"{self.address}: closed twice")
            return
        if self.received or self.urgent is not None:
            self.abort()
            return
        self._close()
        self.shut_write = True
        if not self._over:
            self.push()

    def abort(self) -> None:
        """Close the connection and reset it, SO_LINGER with a timeout of 0."""
        over = self._over
        self._close()
        self.unsent.clear()
        self.reset = True
        if not over:
            self.peer._get_reset()

    def _close(self) -> None:
        self.closed = True
        if self.descriptor >= 0:
            self._kernel.close(self.descriptor)
            self.descriptor = -1

    def getsockopt(self, level: int, option: int, size: int = 0) -> bytes:
        """Return struct tcp_info, with tcpi_last_data_recv and tcpi_bytes_received."""
        self._enter()
        passed = int((self._kernel.now - self.arrived_at) * 1000)
        info = bytes(_LAST_DATA) + passed.to_bytes(4, sys.byteorder)
        return info + bytes(_BYTES_RECEIVED - len(info)) + self.arrived.to_bytes(8, sys.byteorder)

    def setblocking(self, blocking: bool) -> None:
        pass

    def settimeout(self, timeout: float | None) -> None:
        pass

    # --- segments --------------------------------------------------------------------------------------

    @property
    def space(self) -> int:
        """Free bytes in the receive buffer."""
        return max(0, self._window - len(self.received))

    def push(self) -> None:
        """Deliver as much output as the other end has room for, and then the FIN."""
        peer = self.peer
        if self.unsent:
            if peer.closed or (peer.shut_read and peer.shut_write):
                if not peer.closed:
                    peer._get_reset()
                self._get_reset()
                return
            if count := min(peer.space, len(self.unsent)):
                peer.received += self.unsent[:count]
                peer.arrived += count
                peer.arrived_at = self._kernel.now
                del self.unsent[:count]
                peer._wake(ARRIVED)
                if self._no_space and self.writable:
                    self._no_space = False
                    self._wake(OUT)
        if self.shut_write and not self.unsent and not self.delivered_fin and not self.reset:
            self.delivered_fin = True
            self._wake(0)
            peer.fin = True
            peer._wake(0)

    def _get_reset(self) -> None:
        """Handle an RST segment, tcp_reset."""
        if self.reset:
            return
        if not self._over:
            self.error = errno.EPIPE if self.fin and not self.shut_write else errno.ECONNRESET
        self.reset = True
        self.unsent.clear()
        self._wake(0)


def connect(kernel: Kernel, window: int, capacity: int, family: int = socket.AF_INET) -> tuple[Endpoint, Endpoint]:
    """Return the two ends of a new connection, with these buffer sizes in bytes at both."""
    one, other = Endpoint(kernel, window, capacity, family), Endpoint(kernel, window, capacity, family)
    one.peer, other.peer = other, one
    return one, other
