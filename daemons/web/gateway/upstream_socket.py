"""The socket of a connection to an upstream server."""

from __future__ import annotations

import math
import select
import socket
from contextlib import suppress
from time import monotonic

from daemons.serving.listening import unix_client
from daemons.web.gateway.upstream_address import UpstreamAddress

#: Connect timeout in seconds.  The server is nearby, and if it is down, the client should get 504 soon.
CONNECT = 5.0

#: Bytes per recv(2).
RECEIVE = 64 * 1024


class UpstreamSocket:
    """A connected TCP or Unix socket.  After construction, only `wait` blocks.

    The constructor raises `OSError`, including `TimeoutError`, and `UnicodeError` for an invalid host name.
    """

    def __init__(self, address: UpstreamAddress) -> None:
        self._socket = _connected(address)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        #: When (monotonic) the last response was complete; 0 before the first.
        self.used = 0.0

    def wait(self, patience: float, *, writing: bool) -> tuple[bool, bool] | None:
        """Wait at most `patience` seconds; return whether the socket is readable, and whether it is writable; None if
        neither.  A socket at its end, or with an error, is readable."""
        self._poll.modify(self._socket, select.POLLIN | (select.POLLOUT if writing else 0))
        found = self._poll.poll(math.ceil(patience * 1000))
        if not found:
            return None
        # Reading reports errors and the end.
        return bool(found[0][1] & ~select.POLLOUT), bool(found[0][1] & select.POLLOUT)

    def send(self, data: memoryview) -> int:
        """Send without blocking; return the number of bytes sent.  Raises `OSError`."""
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def receive(self) -> bytes:
        """Return received bytes, empty at the end; call it when the socket is readable.  Raises `OSError`."""
        return self._socket.recv(RECEIVE)

    def shut_down(self) -> None:
        """Shut the connection down, from any thread; the socket stays open."""
        with suppress(OSError):  # already disconnected
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _connected(address: UpstreamAddress) -> socket.socket:
    """Connect to the first address of a host that accepts."""
    if address.path:
        sock = unix_client.connect(address.path, CONNECT)
        sock.setblocking(True)
        return sock
    deadline = monotonic() + CONNECT
    problem: OSError | None = None
    addresses = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    for count, (family, _, protocol, _, sockaddr) in enumerate(addresses):
        # An unreachable address must not use up the time of the remaining ones.
        patience = (deadline - monotonic()) / (len(addresses) - count)
        try:
            sock = _connect(family, protocol, sockaddr, max(0.001, patience))
        except OSError as error:
            problem = error
        else:
            # Requests are written whole, so Nagle's algorithm would only delay them.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
    raise problem or OSError(f"{address.host} has no address")


def _connect(family: int, protocol: int, address: object, timeout: float) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        sock.settimeout(timeout)
        sock.connect(address)  # type: ignore[arg-type]  # from getaddrinfo
        sock.setblocking(True)
    except BaseException:
        sock.close()
        raise
    return sock
