"""Memory budget of a process, ``[limits] held``: bytes of unfinished messages and unsent replies of all peers together.

The limits of a connection (size of a message, one reply) apply to that connection alone, and ten thousand connections
may reach them at once.  So bytes held for a peer between two turns of the event loop are charged here:

* Up to half of the budget, every connection is read from.
* Beyond half, only the oldest unfinished message and small ones are read further; other connections are paused until
  there is room or their deadline passes.  The second half is reserved for the growth of the oldest message, for the
  copy made of a complete message, and for small requests.
* Beyond the whole budget, connections are closed one by one: first those without progress for the longest time; then,
  if the oldest message or a reply needs the room, the paused ones, newest first.

A message that is complete after one read, and a reply that the socket takes at once, are never charged, so the hot path
does not call this module.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable
from enum import Enum, auto

#: The default of ``[limits] held``, in bytes.
DEFAULT = 256 * 1024**2

#: Bytes of memory of a connection and its conversation, besides the message or reply: some 2 KiB of objects, and gaps
#: that malloc leaves between the blocks.
OVERHEAD = 4096


def memory(size: int, limit: int, *, writing: bool) -> int:
    """Return the bytes of memory for `size` bytes of an unfinished message or, if `writing`, of a reply.

    A bytearray that grows has up to an eighth more than its length (Objects/bytearrayobject.c).  What fits into the
    budget `limit` alone is never more than it."""
    return max(size, min(limit, size + OVERHEAD + (0 if writing else size // 8)))


#: A connection that is charged at most this many bytes is never paused: ordinary requests that arrive in parts, of up
#: to 64 KiB.
SMALL = memory(64 * 1024, DEFAULT, writing=False)


#: A connection that holds fewer bytes than this is not charged: ten thousand of them hold 10 MiB.
FREE = 1024


#: Seconds for which a pinned connection still counts as the oldest unfinished message.  Whether its message was
#: complete is known only when the service returns, and other connections must not wait longer for a slow service.
PINNED = 0.25


class Verdict(Enum):
    """Action of an engine for a connection, from `Budget.hold`."""

    #: Continue reading or writing.
    GO = auto()
    #: Do not read until `Budget.may_read`; the deadline continues to apply.
    WAIT = auto()
    #: Close the connection; its charge is released already.
    REFUSE = auto()


class Budget:
    """Bytes held in this process, by owner.  Thread-safe.

    Owners are the keys of dictionaries, and are removed once they hold nothing."""

    def __init__(self, limit: int = DEFAULT) -> None:
        #: Maximum bytes held in all.
        self.limit = limit
        #: Bytes that are held now.
        self.held = 0
        #: Number of pauses of connections.
        self.waits = 0
        #: Number of refused connections and other owners.
        self.refusals = 0
        # Reentrant: the garbage collector may finalize an owner, which then calls `release`, at any point.
        self._lock = threading.RLock()
        self._sizes: dict[Hashable, int] = {}
        #: Connections with an unfinished message, oldest first.
        self._unfinished: dict[Hashable, None] = {}
        #: Connections that wait for their peer, ordered by last progress, oldest first.
        self._idle: dict[Hashable, None] = {}
        #: Connections being served, and since when (monotonic).
        self._pinned: dict[Hashable, float] = {}

    # --- for any owner ---------------------------------------------------------------------------------

    def charge(self, owner: Hashable, size: int) -> bool:
        """Set the charge of `owner` to `size` bytes; 0 releases it.  Return whether the budget allows that.

        If not, the owner should stop producing, and call `refuse` if it gives up."""
        with self._lock:
            self._set(owner, size)
            return self.held <= self.limit

    def release(self, owner: Hashable) -> None:
        """Set the charge of `owner` to 0; no error if it had none."""
        with self._lock:
            self._set(owner, 0)

    def refuse(self, owner: Hashable) -> None:
        """Release `owner`, and count it as refused."""
        with self._lock:
            self._set(owner, 0)
            self.refusals += 1

    # --- for engines -----------------------------------------------------------------------------------

    def hold(self, connection: Hashable, size: int, *, writing: bool = False) -> tuple[Verdict, list[Hashable]]:
        """Charge a connection whose peer must still send the rest of a message or, if `writing`, read a reply.

        Return the action for the connection, and other connections to close now: those without progress for the longest
        time.  Their charges are released already."""
        with self._lock:
            self._set(connection, size)
            self._idle.pop(connection, None)
            self._pinned.pop(connection, None)
            if not size:
                return Verdict.GO, []
            self._idle[connection] = None
            if writing:
                self._unfinished.pop(connection, None)
            else:
                self._unfinished.setdefault(connection)
            closed: list[Hashable] = []
            while self.held > self.limit:
                victim = self._victim(connection, size, writing=writing)
                if victim is None:
                    break
                self._set(victim, 0)
                self.refusals += 1
                if victim is connection:
                    return Verdict.REFUSE, closed
                closed.append(victim)
            if writing or (size <= SMALL and self.held <= self.limit) or self._has_room(connection):
                return Verdict.GO, closed
            # The server itself pauses this connection, so it does not count as one without progress.
            del self._idle[connection]
            self.waits += 1
            return Verdict.WAIT, closed

    def pin(self, connection: Hashable, size: int | None = None) -> None:
        """Mark a charged connection as being served until the next `hold`: it stays charged and is not closed.

        With `size`, charge a reply of that size: its message is complete.  Without, the message may be unfinished."""
        with self._lock:
            if size is not None:
                self._set(connection, size)
                self._unfinished.pop(connection, None)
            if connection in self._sizes:
                self._idle.pop(connection, None)
                self._pinned[connection] = time.monotonic()

    def complete(self, connection: Hashable) -> None:
        """Mark the message of a connection as answered: its next unfinished one is the newest of all."""
        with self._lock:
            self._unfinished.pop(connection, None)

    def may_read(self, connection: Hashable) -> bool:
        """Return whether a paused connection may be read from again."""
        with self._lock:
            if not self._has_room(connection):
                return False
            if connection in self._sizes:
                self._idle[connection] = None
            return True

    @property
    def oldest(self) -> Hashable | None:
        """The connection with the oldest unfinished message."""
        with self._lock:
            return self._oldest()

    @property
    def pressed(self) -> bool:
        """Whether more than half of the budget is held."""
        return self.held > self.limit // 2

    @property
    def room(self) -> int:
        """Bytes that may be read before connections are paused; at least 0."""
        return max(0, self.limit // 2 - self.held)

    def reset(self) -> None:
        """Remove all owners, in a forked child: the parent's connections do not count there."""
        # The lock may have been held by another thread at the fork.
        self.__init__(self.limit)  # type: ignore[misc]

    def _victim(self, connection: Hashable, size: int, *, writing: bool) -> Hashable | None:
        """Return the connection to close now; None: close none, and pause `connection`."""
        if size > self.limit:
            return connection
        if (idlest := next(iter(self._idle))) is not connection:
            return idlest
        # All others are being served or paused.  The oldest message, or a reply, has priority over the newest message.
        oldest = next((each for each in self._unfinished if each not in self._pinned), None)
        if writing or oldest is connection:
            newest = next((each for each in reversed(self._unfinished) if each not in self._pinned), None)
            if newest is not None and newest is not connection:
                return newest
            if not writing:
                return None
        return connection

    def _has_room(self, connection: Hashable) -> bool:
        return self.held <= self.limit // 2 or (self.held <= self.limit and self._oldest() is connection)

    def _oldest(self) -> Hashable | None:
        for each in self._unfinished:
            if (since := self._pinned.get(each)) is None or time.monotonic() - since < PINNED:
                return each
        return None

    def _set(self, owner: Hashable, size: int) -> None:
        before = self._sizes.get(owner, 0)
        self.held += size - before
        if size:
            self._sizes[owner] = size
        else:
            self._sizes.pop(owner, None)
            self._unfinished.pop(owner, None)
            self._idle.pop(owner, None)
            self._pinned.pop(owner, None)


#: The budget of this process.
PROCESS = Budget()
