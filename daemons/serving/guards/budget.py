"""Memory budget of a process, ``[limits] held``: bytes of unfinished messages and unsent replies of all peers together.

Each bound of a connection (a message's limit, one reply) holds for that connection alone; ten thousand connections
may come up to it at once.  So what is kept for a peer from one turn to the next is charged here:

* up to half of the budget, every connection may read on;
* beyond it, only the oldest unfinished message and small ones are read further; the others wait, unread, until there
  is room or their deadline passes.  The other half is for the growth of the oldest, for the copy that is made of a
  message when it is complete, and for small requests, which are served all the time;
* beyond the whole budget, the connections without progress for the longest time are closed, one after the other; then,
  for the sake of the oldest message or a reply, the newest of those that wait.

A message that is complete with one read, and a reply that the socket takes at once, are never charged: the hot path
does not come here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable
from enum import Enum, auto

#: The default of ``[limits] held``, in bytes.
DEFAULT = 256 * 1024**2

#: A connection that holds no more than this many bytes need not wait: ordinary requests that arrive in parts.
SMALL = 64 * 1024


#: A connection that holds fewer bytes than this is not charged: ten thousand of them hold 10 MiB.
FREE = 1024


#: Seconds for which a pinned connection keeps its place as the oldest unfinished message.  Whether its message is
#: complete, and the service at work on it, shows only when that returns; the others need not wait for a slow service.
PINNED = 0.25


class Verdict(Enum):
    """What an engine does with a connection after `Budget.hold`."""

    #: Go on reading or writing.
    GO = auto()
    #: Do not read until `Budget.may_read`; the deadline goes on.
    WAIT = auto()
    #: Close it.  It is charged nothing any more.
    REFUSE = auto()


class Budget:
    """Bytes held in this process, by owner.  All methods may be called from any thread; owners are compared by
    identity or by their own equality, and are forgotten once they hold nothing."""

    def __init__(self, limit: int = DEFAULT) -> None:
        #: Bytes that may be held together.
        self.limit = limit
        #: Bytes that are held now.
        self.held = 0
        #: How many times a connection had to wait.
        self.waits = 0
        #: How many connections, or other owners, were refused.
        self.refusals = 0
        # Reentrant: the garbage collector may end an owner, which releases itself, in the middle of any of this.
        self._lock = threading.RLock()
        self._sizes: dict[Hashable, int] = {}
        #: Connections with an unfinished message, the oldest first.
        self._unfinished: dict[Hashable, None] = {}
        #: Connections that wait for their peer, the one without progress for the longest time first.
        self._idle: dict[Hashable, None] = {}
        #: Connections that wait for us, and since when (monotonic).
        self._pinned: dict[Hashable, float] = {}

    # --- for anything that keeps bytes ---------------------------------------------------------------

    def charge(self, owner: Hashable, size: int) -> bool:
        """Set what `owner` holds to `size` bytes in all; 0 releases it.  Return whether the budget allows that:
        if not, the owner should stop producing, and report with `refuse` that it gives up."""
        with self._lock:
            self._set(owner, size)
            return self.held <= self.limit

    def release(self, owner: Hashable) -> None:
        """`owner` holds nothing any more; no error if it held nothing before."""
        with self._lock:
            self._set(owner, 0)

    def refuse(self, owner: Hashable) -> None:
        """Release `owner`, and count that it was refused for lack of room."""
        with self._lock:
            self._set(owner, 0)
            self.refusals += 1

    # --- for engines -----------------------------------------------------------------------------------

    def hold(self, connection: Hashable, size: int, *, writing: bool = False) -> tuple[Verdict, list[Hashable]]:
        """Charge a connection that waits for its peer, for the rest of a message or, `writing`, until it takes a reply.

        Return what to do with the connection, and other connections to close now: they have made no progress for the
        longest time, and are charged nothing any more."""
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
            # It waits for us, not we for it: others give way first.
            del self._idle[connection]
            self.waits += 1
            return Verdict.WAIT, closed

    def pin(self, connection: Hashable, size: int | None = None) -> None:
        """A connection that is held does not wait for its peer but for us, until the next `hold`: it stays charged, and
        is not closed.  With `size` it holds so many bytes of a reply; else its message may still be unfinished."""
        with self._lock:
            if size is not None:
                self._set(connection, size)
                self._unfinished.pop(connection, None)
            if connection in self._sizes:
                self._idle.pop(connection, None)
                self._pinned[connection] = time.monotonic()

    def complete(self, connection: Hashable) -> None:
        """The message of a connection was answered: the next one that it holds a part of is the newest of all."""
        with self._lock:
            self._unfinished.pop(connection, None)

    def may_read(self, connection: Hashable) -> bool:
        """Return whether a connection that had to wait may be read from again."""
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
    def room(self) -> int:
        """Bytes that may be read before connections have to wait; not below 0."""
        return max(0, self.limit // 2 - self.held)

    def reset(self) -> None:
        """Forget all owners: in a forked child, whose copies of the parent's connections hold nothing."""
        # The lock may have been held by another thread at the fork.
        self.__init__(self.limit)  # type: ignore[misc]

    def _victim(self, connection: Hashable, size: int, *, writing: bool) -> Hashable | None:
        """Return the connection to close now; None: `connection` is to wait until others are done."""
        if size > self.limit:
            return connection
        if (idlest := next(iter(self._idle))) is not connection:
            return idlest
        # All others wait for us.  The oldest message, and a reply, come before the newest message.
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
