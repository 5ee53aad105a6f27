"""The socket of a connection to a server behind this one."""

from __future__ import annotations

import math
import select
import socket
from contextlib import suppress
from time import monotonic

from daemons.serving.listening import unix_client
from daemons.web.gateway.upstream_address import UpstreamAddress

#: Seconds to connect: the server is near, and if it is down the client should not wait for it.
CONNECT = 5.0

#: Bytes per recv(2).
RECEIVE = 64 * 1024


class UpstreamSocket:
    """A connected socket, to a host and port or to a Unix socket; it blocks in `wait` only.

    Raises `OSError` when made, `TimeoutError` among them, and `UnicodeError` for a host that is no name.
    """

    def __init__(self, address: UpstreamAddress) -> None:
        self._socket = _connected(address)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        #: When (monotonic) it was last used; 0 before its first response is complete.
        self.used = 0.0

    def wait(self, patience: float, *, writing: bool) -> tuple[bool, bool] | None:
        """Wait `patience` seconds at most; return whether it is readable, or at its end, and whether it is writable.
        None: neither."""
        self._poll.modify(self._socket, select.POLLIN | (select.POLLOUT if writing else 0))
        found = self._poll.poll(math.ceil(patience * 1000))
        if not found:
            return None
        # Errors and the end show when it is read.
        return bool(found[0][1] & ~select.POLLOUT), bool(found[0][1] & select.POLLOUT)

    def send(self, data: memoryview) -> int:
        """Send as much as the kernel takes at once; return how many bytes that was.  Raises `OSError`."""
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def receive(self) -> bytes:
        """Return the bytes that have come, when `wait` has found it readable; none: the end.  Raises `OSError`."""
        return self._socket.recv(RECEIVE)

    def shut_down(self) -> None:
        """End the connection, whose socket stays open: from any thread."""
        with suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _connected(address: UpstreamAddress) -> socket.socket:
    """A connected socket; of several addresses of a host, the first that accepts."""
    if address.path:
        sock = unix_client.connect(address.path, CONNECT)
        sock.setblocking(True)
        return sock
    deadline = monotonic() + CONNECT
    problem: OSError | None = None
    addresses = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    for count, (family, _, protocol, _, sockaddr) in enumerate(addresses):
        # Each may be unreachable, which must not take the time of those behind it.
        patience = (deadline - monotonic()) / (len(addresses) - count)
        try:
            sock = _connect(family, protocol, sockaddr, max(0.001, patience))
        except OSError as error:
            problem = error
        else:
            # A request is written whole, so there is nothing to wait for (TCP_NODELAY, tcp(7)).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
    raise problem or OSError(f"{address.host} has no address")


def _connect(family: int, protocol: int, address: object, timeout: float) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        sock.settimeout(timeout)
        sock.connect(address)  # type: ignore[arg-type]  # of its family
        sock.setblocking(True)
    except BaseException:
        sock.close()
        raise
    return sock
