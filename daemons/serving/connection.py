"""One accepted socket, and what the daemon knows of it."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from typing import Any

from daemons.serving.endings import Ending


class Connection:
    """One accepted socket with its deadline.

    The thread that serves it sets `deadline`, `overdue`, `timed` and `waiting`; the daemon's own thread reads
    them and may `cut` or `mute` the socket, which ends the other's recv or send at once.  That costs a
    busy connection nothing, where a socket timeout would cost it a poll(2) before every recv(2).
    """

    __slots__ = (
        "deadline",
        "ending",
        "host",
        "messages",
        "muted",
        "opened",
        "overdue",
        "peer",
        "received",
        "sent",
        "socket",
        "timed",
        "waiting",
    )

    def __init__(self, sock: socket.socket, address: Any, timeout: float) -> None:
        self.socket = sock
        #: The peer as the log shows it, and the part of that which one peer's connections share.
        self.peer, self.host = describe(sock, address)
        self.opened = time.monotonic()
        #: When (monotonic) it will be cut, and the word for that.
        self.deadline = self.opened + timeout
        self.overdue = Ending.SLOW
        #: Whether it is the peer that is waited for.  What a service takes is not the peer's fault.
        self.timed = True
        #: Set by whoever ends it first.
        self.ending: Ending | None = None
        #: Between two messages, so that it may be muted.
        self.waiting = False
        #: Its reading side was shut because the daemon is stopping.
        self.muted = False
        #: For the access line: messages answered (None: nobody sees them), octets each way.
        self.messages: int | None = 0
        self.received = 0
        self.sent = 0

    def expect(self, overdue: Ending, timeout: float) -> None:
        """A new phase: unless another follows within `timeout` seconds, the ending is `overdue`."""
        self.overdue = overdue
        self.deadline = time.monotonic() + timeout

    def cut(self, ending: Ending) -> None:
        """End it now, whatever it is doing.  The first ending is the one that counts."""
        self.ending = self.ending or ending
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def mute(self) -> None:
        """Ask no more of this peer: what the kernel already holds is still read, then comes the end."""
        self.muted = True
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RD)


def describe(sock: socket.socket, address: Any) -> tuple[str, str]:
    """A peer as ``127.0.0.1:53412``, ``[::1]:53412`` or ``unix:pid=42,uid=1000``, and its host part.

    An accepted Unix socket has no address of its own (accept gives ``''``), but the kernel knows who
    is at the other end, unix(7) SO_PEERCRED.
    """
    if isinstance(address, tuple):
        host, port = address[:2]
        return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}"), host
    if hasattr(socket, "SO_PEERCRED"):
        with suppress(OSError):
            size = struct.calcsize("3i")
            pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
            return f"unix:pid={pid},uid={uid}", "unix"
    return "unix", "unix"
