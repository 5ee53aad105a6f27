"""The receive buffer of a socket for datagrams: its size, and what the kernel dropped because it was full."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable
from contextlib import suppress

from daemons.serving.safe_logger import SafeLogger

log = SafeLogger(__name__)

#: Bytes that are asked for where the settings name none.
DEFAULT = 1024**2

#: asm-generic/socket.h; the numbers that it tells, as 32 bits each, are in linux/sock_diag.h: SK_MEMINFO_DROPS is the
#: ninth.
SO_MEMINFO = 55
_DROPS = struct.Struct("=32xI")

#: SO_RCVBUF is an int, socket(7).
LARGEST = 2**31 - 1

#: Seconds between two lines about dropped datagrams.
NEWS = 10.0


def resize(listener: socket.socket, size: int | None) -> None:
    """Ask for a receive buffer of `size` bytes, None: of `DEFAULT`; log where the kernel gives less than was asked.

    The kernel counts a datagram with its own overhead, some 800 bytes for a short one, and so doubles the number,
    socket(7); it gives no more than net.core.rmem_max."""
    wanted = DEFAULT if size is None else min(size, LARGEST)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
    given = listener.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    if given < wanted and size is not None:
        log.warning(
            "receive buffer: %d bytes asked for, %d given; raise it with sysctl net.core.rmem_max=%d",
            wanted,
            given,
            wanted,
        )


class DropCounter:
    """Counts the datagrams that the kernel has dropped from now on, for lack of room in the receive buffers of
    `listeners`."""

    def __init__(self, listeners: Iterable[socket.socket]) -> None:
        self._before = {listener: _drops(listener) for listener in listeners if listener.type == socket.SOCK_DGRAM}
        self._untold = 0
        self._next_news = 0.0

    def take(self) -> int:
        """Return how many were dropped since the last call; log it, now and then."""
        dropped = 0
        for listener, before in self._before.items():
            with suppress(OSError):  # it was closed
                now = self._before[listener] = _drops(listener)
                dropped += (now - before) % 2**32
        self._untold += dropped
        if self._untold and time.monotonic() >= self._next_news:
            self._next_news = time.monotonic() + NEWS
            log.warning(
                "datagrams dropped by the kernel, since the receive buffer was full: %d; "
                "[limits] receive_buffer sets its size",
                self._untold,
            )
            self._untold = 0
        return dropped


def _drops(listener: socket.socket) -> int:
    count: int = _DROPS.unpack(listener.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _DROPS.size))[0]
    return count
