"""Accepted connections: socket, deadline, ending, and the figures of the access line."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from daemons.serving.conversation.endings import Ending, Refusal
from daemons.serving.guards import budget
from daemons.serving.listening.address import host_of
from daemons.serving.spool import SpooledSocket

#: Grace period in seconds after accept: during a drain a younger connection without a message does not count as idle,
#: since its first request may be in flight.
GRACE = 1.0

#: Alias, since access to an attribute of an enumeration class is slow before Python 3.12.
_HANDSHAKE = Ending.HANDSHAKE


def show_peer(address: tuple[Any, ...]) -> str:
    """Return an IP address and port as shown in logs."""
    host = address[0] if len(address) == 2 else host_of(address)
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


class Connection:
    """One accepted socket with its deadline.

    The serving thread sets `deadline` and `timeout_ending`.  At the deadline, the daemon's thread calls `cut` with that
    ending, which interrupts a blocking recv or send.  Unlike a socket timeout, this needs no poll(2) before each
    recv(2).
    """

    __slots__ = (
        "__weakref__",
        "address",
        "awaits_proxy_header",
        "charged",
        "counted",
        "deadline",
        "ending",
        "messages",
        "opened",
        "reason",
        "received",
        "reported",
        "sent",
        "socket",
        "timeout_ending",
    )

    #: Whether the deadline applies: only while waiting for the peer, not while the service runs.
    timed = True

    #: Whether the reading side was shut because the daemon is stopping.
    reading_shut = False

    def __init__(self, sock: socket.socket, address: Any, timeout: float, opened: float | None = None) -> None:
        self.socket = sock
        #: Address from accept; behind a proxy, the source address in the PROXY header.
        self.address = address
        #: Whether a PROXY header is expected and has not been read yet.
        self.awaits_proxy_header = False
        #: When (monotonic) it was accepted.
        self.opened = time.monotonic() if opened is None else opened
        #: When (monotonic) the connection is cut.
        self.deadline = self.opened + timeout
        #: The ending to record if the deadline passes.
        self.timeout_ending = _HANDSHAKE
        #: Whether it counts towards max_per_peer.
        self.counted = False
        #: Bytes charged to the memory budget of the process (`daemons.serving.guards.budget`).
        self.charged = 0
        #: How it ended.  The first value set stays, except that a failure of the service replaces it (`conclude`).
        self.ending: Ending | None = None
        #: Detail of the ending for the access line; may be empty.
        self.reason = ""
        #: For the access line: messages answered (None under a raw handler), bytes received and sent.
        self.messages: int | None = 0
        self.received = 0
        self.sent = 0
        #: The values of these three figures when they were last added to the metrics; None: not added yet.
        self.reported: tuple[int, int, int] | None = None

    @property
    def host(self) -> str:
        """The peer's IP address, or ``unix``."""
        address = self.address
        if type(address) is not tuple:
            return "unix"
        return address[0] if len(address) < 4 or not address[3] else host_of(address)

    @property
    def peer(self) -> str:
        """The peer as shown in logs: ``127.0.0.1:53412``, ``[::1]:53412`` or ``unix:pid=42,uid=1000``.

        The peer of a Unix socket usually has no address (accept returns ``''``), but the kernel knows its credentials,
        unix(7) SO_PEERCRED."""
        if type(self.address) is tuple:
            return show_peer(self.address)
        if hasattr(socket, "SO_PEERCRED"):
            with suppress(OSError):
                size = struct.calcsize("3i")
                credentials = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
                pid, uid, _ = struct.unpack("3i", credentials)
                return f"unix:pid={pid},uid={uid}"
        return "unix"

    @property
    def spool(self) -> SpooledSocket | None:
        """The socket if it buffers unsent replies; else None."""
        sock = self.socket
        return sock if isinstance(sock, SpooledSocket) else None

    @property
    def grace_until(self) -> float:
        """End (monotonic) of the grace period for the first message during a drain."""
        return self.opened + GRACE

    def so_far(self) -> tuple[int, int, int]:
        """Return messages answered, bytes received and bytes sent until now."""
        return self.messages or 0, self.received, self.sent

    def expect(self, timeout_ending: Ending, timeout: float) -> None:
        """Begin a phase of at most `timeout` seconds, after which the connection ends as `timeout_ending`."""
        self.timeout_ending = timeout_ending
        self.deadline = time.monotonic() + timeout

    def expect_handshake(self, timeout: float) -> None:
        """Set the deadline of the handshake to `timeout` seconds after accept, or from now if a message has been
        answered before it."""
        self.timeout_ending = Ending.HANDSHAKE
        self.deadline = (time.monotonic() if self.so_far()[0] else self.opened) + timeout

    def may_read(self) -> bool:
        """Return whether a connection that waits for room in the memory budget may be read from again."""
        return self.ending is not None or budget.PROCESS.may_read(self)

    def refuse(self, refusal: Refusal) -> None:
        """Set the ending REFUSED, with the reason."""
        self.ending = self.ending or Ending.REFUSED
        self.reason = refusal.value

    def explain(self, reason: str) -> None:
        """Set the reason of the ending, unless there is one already."""
        self.reason = self.reason or reason

    def notify(self) -> None:
        """Have the serving thread send what was pushed to the peer.  By default, do nothing: it will look itself."""

    def cut(self, ending: Ending) -> None:
        """Shut the socket down in both directions, with this ending unless there is one already."""
        self.ending = self.ending or ending
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class BlockingConnection(Connection):
    """A connection served by a thread that blocks on the socket.

    The daemon's thread enforces its deadline while it is `timed`, and during a drain may shut its reading side while it
    is `waiting`."""

    __slots__ = ("on_notify", "reading_shut", "timed", "waiting")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        #: Called after something was pushed to the peer, and when the connection is cut; from any thread.
        self.on_notify: Callable[[], None] | None = None
        self.timed = True
        #: Between two messages, so that its reading side may be shut.
        self.waiting = False
        #: Its reading side was shut because the daemon is stopping.
        self.reading_shut = False

    def notify(self) -> None:
        if (on_notify := self.on_notify) is not None:
            on_notify()

    def cut(self, ending: Ending) -> None:
        super().cut(ending)
        self.notify()

    def shut_reading(self) -> None:
        """Shut the reading side: data in the kernel's buffer is still read, then the input ends."""
        self.reading_shut = True
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RD)
