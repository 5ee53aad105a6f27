"""One accepted socket, and what the daemon knows of it."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from typing import Any

from daemons.serving.conversation.endings import Ending, Refusal
from daemons.serving.guards import budget
from daemons.serving.listening.address import host_of

#: Seconds from accept within which who has not asked anything is no idler: a daemon that stops must not close in the
#: face of a visitor whose first question is on its way.
NEWCOMER = 1.0

#: An attribute of an enumeration's class is slow to get, until Python 3.12.
_HANDSHAKE = Ending.HANDSHAKE


def show_peer(address: tuple[Any, ...]) -> str:
    """An IP address and port as the log shows them."""
    host, port = address[0] if len(address) == 2 else host_of(address), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Connection:
    """One accepted socket with its deadline.

    Who serves it sets `deadline` and `overdue`; the daemon's own thread reads them and may `cut` the socket,
    which ends the other's recv or send at once.  That costs a busy connection nothing, where a socket timeout
    would cost it a poll(2) before every recv(2).
    """

    __slots__ = (
        "__weakref__",
        "address",
        "charged",
        "counted",
        "deadline",
        "ending",
        "messages",
        "opened",
        "overdue",
        "proxied",
        "reason",
        "received",
        "sent",
        "socket",
        "told",
    )

    #: Whether it is the peer that is waited for.  What a service takes is not the peer's fault.
    timed = True

    def __init__(self, sock: socket.socket, address: Any, timeout: float, opened: float | None = None) -> None:
        self.socket = sock
        #: As accept gave it; or, of a peer behind a proxy, as the proxy says.
        self.address = address
        #: Whether it comes from a proxy that has yet to say for whom.
        self.proxied = False
        #: When (monotonic) it was accepted: by default, now.
        self.opened = time.monotonic() if opened is None else opened
        #: When (monotonic) it will be cut, and the word for that.
        self.deadline = self.opened + timeout
        self.overdue = _HANDSHAKE
        #: Whether it counts towards its peer's max_per_peer.
        self.counted = False
        #: Bytes kept for it that the budget of the process counts (`daemons.serving.guards.budget`).
        self.charged = 0
        #: Set by whoever ends it first.
        self.ending: Ending | None = None
        #: For the access line, where the ending alone does not say it all: a word, a sentence, or nothing.
        self.reason = ""
        #: For the access line: messages answered (None: nobody sees them), octets each way.
        self.messages: int | None = 0
        self.received = 0
        self.sent = 0
        #: What of these three the metrics have counted already; None: nothing.
        self.told: tuple[int, int, int] | None = None

    @property
    def host(self) -> str:
        """What all connections of one peer share: its IP address, or ``unix``."""
        address = self.address
        if type(address) is not tuple:
            return "unix"
        return address[0] if len(address) < 4 or not address[3] else host_of(address)

    @property
    def peer(self) -> str:
        """The peer as the log shows it: ``127.0.0.1:53412``, ``[::1]:53412`` or ``unix:pid=42,uid=1000``.

        An accepted Unix socket has no address of its own (accept gives ``''``), but the kernel knows who
        is at the other end, unix(7) SO_PEERCRED."""
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
    def newcomer_until(self) -> float:
        """When (monotonic) who has not asked anything has had the time to begin."""
        return self.opened + NEWCOMER

    def so_far(self) -> tuple[int, int, int]:
        """Messages answered, octets received and sent, of a conversation under way."""
        return self.messages or 0, self.received, self.sent

    def expect(self, overdue: Ending, timeout: float) -> None:
        """A new phase: unless another follows within `timeout` seconds, the ending is `overdue`."""
        self.overdue = overdue
        self.deadline = time.monotonic() + timeout

    def expect_handshake(self, timeout: float) -> None:
        """What comes before the first message has `timeout` seconds in all, from the accept on, whatever
        else was expected meanwhile."""
        self.overdue = Ending.HANDSHAKE
        self.deadline = self.opened + timeout

    def may_read(self) -> bool:
        """Whether the budget of the process has room for more of its message, after it had to wait for that."""
        return self.ending is not None or budget.PROCESS.may_read(self)

    def refuse(self, refusal: Refusal) -> None:
        """A guard's verdict."""
        self.ending = self.ending or Ending.REFUSED
        self.reason = refusal.value

    def explain(self, reason: str) -> None:
        """The first reason is the one that counts."""
        self.reason = self.reason or reason

    def cut(self, ending: Ending) -> None:
        """End it now, whatever it is doing.  The first ending is the one that counts."""
        self.ending = self.ending or ending
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class BlockingConnection(Connection):
    """One that a thread waits on, so that the daemon's own looks after it: it keeps the deadline while the connection
    is `timed`, and when the daemon stops it may `mute` who is `waiting`."""

    __slots__ = ("muted", "timed", "waiting")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.timed = True
        #: Between two messages, so that it may be muted.
        self.waiting = False
        #: Its reading side was shut because the daemon is stopping.
        self.muted = False

    def mute(self) -> None:
        """Ask no more of this peer: what the kernel already holds is still read, then comes the end."""
        self.muted = True
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RD)
