"""Receive buffer of datagram sockets: its size, and the count of datagrams dropped because it was full."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable
from contextlib import suppress

from daemons.serving.safe_logger import SafeLogger

log = SafeLogger(__name__)

#: Default size in bytes.
DEFAULT = 1024**2

#: asm-generic/socket.h.  Its value is an array of 32-bit numbers, linux/sock_diag.h: SK_MEMINFO_DROPS is the ninth.
SO_MEMINFO = 55
_DROPS = struct.Struct("=32xI")

#: SO_RCVBUF is an int, socket(7).
LARGEST = 2**31 - 1

#: Minimum seconds between two log lines about dropped datagrams.
REPORT_INTERVAL = 10.0


def resize(listener: socket.socket, size: int | None) -> None:
    """Request a receive buffer of `size` bytes (None: `DEFAULT`); log a warning if the kernel grants less than `size`.

    The kernel reduces the number to net.core.rmem_max, and then doubles it, socket(7): the size includes the kernel's
    own overhead for each datagram, some 800 bytes for a short one."""
    wanted = DEFAULT if size is None else min(size, LARGEST)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
    granted = listener.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    if granted < wanted and size is not None:
        log.warning(
            "receive buffer: %d bytes requested, %d granted; raise it with sysctl net.core.rmem_max=%d",
            wanted,
            granted,
            wanted,
        )


class DropCounter:
    """Counter of datagrams dropped by the kernel because the receive buffers of `listeners` were full."""

    def __init__(self, listeners: Iterable[socket.socket]) -> None:
        self._before = {listener: _drops(listener) for listener in listeners if listener.type == socket.SOCK_DGRAM}
        self._unreported = 0
        self._next_report = 0.0

    def take(self) -> int:
        """Return the number dropped since the last call; log it at most every `REPORT_INTERVAL` seconds."""
        dropped = 0
        for listener, before in self._before.items():
            with suppress(OSError):  # the listener was closed
                now = self._before[listener] = _drops(listener)
                dropped += (now - before) % 2**32
        self._unreported += dropped
        if self._unreported and time.monotonic() >= self._next_report:
            self._next_report = time.monotonic() + REPORT_INTERVAL
            log.warning(
                "receive buffer: full, %d datagrams dropped by the kernel; increase [limits] receive_buffer",
                self._unreported,
            )
            self._unreported = 0
        return dropped


def _drops(listener: socket.socket) -> int:
    count: int = _DROPS.unpack(listener.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _DROPS.size))[0]
    return count
