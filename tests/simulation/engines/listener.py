"""Simulated listening sockets."""

from __future__ import annotations

import errno
import socket
import sys
from collections import deque
from typing import Any

from tests.simulation.engines.kernel import Kernel, Watcher
from tests.simulation.engines.stream import ARRIVED, IN, Endpoint, os_error

#: Offset of tcpi_unacked in struct tcp_info, linux/tcp.h: the length of a listener's queue.
_QUEUED = 24


class Listener:
    """A listening socket."""

    def __init__(self, kernel: Kernel, family: int = socket.AF_INET) -> None:
        self._kernel = kernel
        self.family = family
        self.watchers: list[Watcher] = []
        self.queue: deque[Endpoint] = deque()
        #: Errors of the next calls of accept(2).
        self.failures: deque[int] = deque()
        self.closed = False
        self.descriptor = kernel.open(self)

    def fileno(self) -> int:
        return self.descriptor

    def mask(self) -> int:
        return IN if self.queue else 0

    def arrive(self, endpoint: Endpoint) -> None:
        """Queue a connection; reset it if the socket is closed."""
        if self.closed:
            endpoint.abort()
            return
        self.queue.append(endpoint)
        for watcher in self.watchers:
            watcher.wake(ARRIVED)

    def _accept(self) -> tuple[int, Any]:
        """As `socket.socket._accept`: return a descriptor and an address."""
        self._kernel.enter()
        if self.closed:
            raise os_error(errno.EBADF)
        if not self.queue:
            raise os_error(errno.EAGAIN)
        if self.failures:
            number = self.failures.popleft()
            if number == errno.ECONNABORTED:
                self.queue.popleft().abort()
            raise os_error(number)
        endpoint = self.queue.popleft()
        endpoint.descriptor = self._kernel.open(endpoint)
        return endpoint.descriptor, endpoint.address

    def getsockopt(self, level: int, option: int, size: int = 0) -> bytes:
        """Return struct tcp_info, as far as the number of queued connections."""
        self._kernel.enter()
        if self.family == socket.AF_UNIX:
            raise os_error(errno.EOPNOTSUPP)
        return bytes(_QUEUED) + len(self.queue).to_bytes(4, sys.byteorder)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        while self.queue:
            self.queue.popleft().abort()
        self._kernel.close(self.descriptor)
        self.descriptor = -1
