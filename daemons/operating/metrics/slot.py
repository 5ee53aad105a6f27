"""Slot of the `daemons.operating.metrics.scoreboard`: the counters of one process.

All words only grow, except identity, heartbeat, held bytes and open circuit breakers.  A process takes over the slot
and the totals of a process that has died, so that no counts are lost or moved.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from daemons.operating.logging import logs
from daemons.serving.conversation.endings import Ending, Refusal
from daemons.serving.guards import budget
from daemons.serving.guards.upstream_counter import UPSTREAMS

if TYPE_CHECKING:
    from daemons.serving.connection import Connection
    from daemons.serving.interfaces import Leader

PAGE = mmap.ALLOCATIONGRANULARITY

#: The first words of a slot.  Those in `REALS` are doubles, all others counts.
WORDS = (
    *("pid", "role", "started", "stopped", "heartbeat"),
    *("accepted", "handed", "taken", "lost"),
    *("messages", "received", "sent", "seconds", "dropped", "restarts"),
    *("stalls", "stalled"),
    *("held", "waits"),
    *("datagrams_dropped", "rate_pauses"),
    *("full", "dropped_bytes"),
    *("breakers_open", "breakers_opened"),
)
REALS = frozenset(("started", "stopped", "heartbeat", "seconds", "stalled"))
PID, ROLE, STARTED, STOPPED, HEARTBEAT = range(5)
ACCEPTED, HANDED, TAKEN, LOST = range(5, 9)
MESSAGES, RECEIVED, SENT, SECONDS, DROPPED, RESTARTS = range(9, 15)
STALLS, STALLED = range(15, 17)
HELD, WAITS, DATAGRAMS_DROPPED, RATE_PAUSES, FULL, DROPPED_BYTES = range(17, 23)
BREAKERS_OPEN, BREAKERS_OPENED = range(23, 25)

#: An attribute of an enumeration's class is slow to get, until Python 3.12.
DONE, REFUSED = Ending.DONE, Ending.REFUSED

ENDINGS = tuple(ending.value for ending in Ending)
REFUSALS = tuple(refusal.value for refusal in Refusal)

#: Upper bounds of the duration classes, in seconds, from 61 µs to 68 minutes; the last class has no bound.
BOUNDS = tuple(4.0**power for power in range(-7, 7))
CLASSES = len(BOUNDS) + 1

#: After the words: one count for each refusal, then for each ending one count for each duration class.
_FIRST_REFUSAL = len(WORDS)
_FIRST_ENDING = _FIRST_REFUSAL + len(REFUSALS)
SIZE = _FIRST_ENDING + len(ENDINGS) * CLASSES
assert SIZE * 8 <= PAGE

_REFUSAL_AT = {word: _FIRST_REFUSAL + place for place, word in enumerate(REFUSALS)}

#: Roles of a process: supervisor of workers, worker, or child that serves one connection.
ROLES = ("supervisor", "worker", "child")
CHILD = ROLES.index("child")

#: Seconds between two counts of long conversations.
COUNT_INTERVAL = 1.0

#: Values of `Connection.reported`: for a conversation that is counted completely, and, in place of None, for a
#: conversation that is not counted yet.
_COMPLETE = (-1, -1, -1)
_NOTHING = (0, 0, 0)


class Board(Protocol):
    """Interface of the scoreboard for its slots."""

    @property
    def first(self) -> bool: ...
    def publish(self) -> None: ...
    def claim(self, role: str, first: int = ...) -> Slot: ...


class Slot:
    """Counters of one process, made by `Scoreboard.claim`."""

    def __init__(self, scoreboard: Board, memory: mmap.mmap, role: str) -> None:
        self.scoreboard = scoreboard
        self._memory = memory
        self._words = words = memoryview(memory).cast("Q")
        self._reals = memoryview(memory).cast("d")
        self._lock = threading.Lock()
        self._next_count = 0.0
        #: Whether this is the first process, which also counts the lines dropped by the log writer.
        self._first = scoreboard.first
        # Conversations of the slot's former process were lost with it.
        words[LOST] += max(0, outstanding(words))
        self._dropped_before = words[DROPPED] - logs.Output.dropped_ever
        self._dropped_bytes_before = words[DROPPED_BYTES] - logs.Output.dropped_bytes_ever
        self._waits_before = words[WAITS] - budget.PROCESS.waits
        self._opened_before = words[BREAKERS_OPENED] - UPSTREAMS.opened
        self._reals[STOPPED] = self._reals[STALLED] = 0.0
        self._reals[STARTED] = time.time()
        self._reals[HEARTBEAT] = time.monotonic()
        words[ROLE] = ROLES.index(role)
        words[PID] = os.getpid()

    def accept(self, connections: int = 1) -> None:
        """Count accepted connections; call in the leading thread."""
        self._words[ACCEPTED] += connections

    def hand_off(self) -> None:
        """Count an accepted connection handed to another process; call in the leading thread."""
        self._words[HANDED] += 1

    def take_over(self) -> None:
        """Count a connection accepted by another process and handed to this one."""
        self._words[TAKEN] += 1

    def drop_datagrams(self, count: int) -> None:
        """Count datagrams dropped by the kernel because a receive buffer was full."""
        self._words[DATAGRAMS_DROPPED] += count

    def pause(self) -> None:
        """Count a pause of a listener for `Limits.max_rate`."""
        self._words[RATE_PAUSES] += 1

    def fill(self) -> None:
        """Count one time that the limit of connections was reached."""
        self._words[FULL] += 1

    def restart(self) -> None:
        """Count the replacement of a worker that has died."""
        self._words[RESTARTS] += 1

    def stall(self, since: float) -> None:
        """Count a stall that began at `since` (monotonic)."""
        self._words[STALLS] += 1
        self._reals[STALLED] = since
        self.scoreboard.publish()  # the loop, which does so once a second, may be stalled

    def resume(self) -> None:
        """Record the end of the stall."""
        self._reals[STALLED] = 0.0
        self.scoreboard.publish()

    def end(self, connection: Connection) -> None:
        """Count a conversation that has ended, without the part counted by `count_open`.  Any thread may call this."""
        self.end_all((connection,), time.monotonic())

    def end_all(self, connections: Iterable[Connection], now: float) -> None:
        """Count conversations that have ended at `now` (monotonic), as `end` does."""
        words = self._words
        messages = received = sent = 0
        total = 0.0
        with self._lock:
            for connection in connections:
                counted = connection.reported
                if counted is _COMPLETE:
                    continue
                if counted is None:
                    messages += connection.messages or 0
                    received += connection.received
                    sent += connection.sent
                else:
                    messages += max(0, (connection.messages or 0) - counted[0])
                    received += connection.received - counted[1]
                    sent += connection.sent - counted[2]
                connection.reported = _COMPLETE
                ending = connection.ending or DONE
                seconds = now - connection.opened
                total += seconds
                words[_FIRST_ENDING + ending.place * CLASSES + bisect_left(BOUNDS, seconds)] += 1
                if ending is REFUSED and connection.reason in _REFUSAL_AT:
                    words[_REFUSAL_AT[connection.reason]] += 1
            words[MESSAGES] += messages
            words[RECEIVED] += received
            words[SENT] += sent
            self._reals[SECONDS] += total

    def attach(self, daemon: Leader) -> None:
        """Count the servers of `daemon` in this slot."""
        for server in daemon.servers:
            server.metrics = self

        def tick(now: float) -> None:
            logs.report_drops()
            self.beat(now)
            if now >= self._next_count:
                self._next_count = now + COUNT_INTERVAL
                for server in daemon.servers:
                    server.count()

        daemon.on_tick.append(tick)

    def count_open(self, connections: Iterable[Connection], *, wait: bool = True) -> None:
        """Count the progress of open conversations, since one may last for days.  `end` counts the rest.

        Without `wait`, do nothing while another thread is counting."""
        messages = received = sent = 0
        if not self._lock.acquire(blocking=wait):
            return
        try:
            for connection in connections:
                counted = connection.reported or _NOTHING
                if counted is not _COMPLETE:
                    so_far = connection.so_far()
                    if so_far != counted:
                        messages += so_far[0] - counted[0]
                        received += so_far[1] - counted[1]
                        sent += so_far[2] - counted[2]
                        connection.reported = so_far
            self._words[MESSAGES] += messages
            self._words[RECEIVED] += received
            self._words[SENT] += sent
        finally:
            self._lock.release()

    def beat(self, now: float) -> None:
        """Record a heartbeat of the leading thread."""
        self._reals[HEARTBEAT] = now
        dropped = self._dropped_before + logs.Output.dropped_ever
        dropped_bytes = self._dropped_bytes_before + logs.Output.dropped_bytes_ever
        if self._first and logs.writer_drops is not None:
            dropped += logs.writer_drops.lines
            dropped_bytes += logs.writer_drops.octets
        self._words[DROPPED] = dropped
        self._words[DROPPED_BYTES] = dropped_bytes
        self._words[HELD] = budget.PROCESS.held
        self._words[WAITS] = self._waits_before + budget.PROCESS.waits
        self._words[BREAKERS_OPENED] = self._opened_before + UPSTREAMS.opened
        # Children share the circuit breakers of their parent.
        self._words[BREAKERS_OPEN] = 0 if self._words[ROLE] == CHILD else UPSTREAMS.open
        self.scoreboard.publish()

    def stop(self) -> None:
        """Record the requested end of this process."""
        self._reals[STOPPED] = time.time()
        self.beat(time.monotonic())

    def close(self) -> None:
        """Release the memory, and with it every lock of this process on the scoreboard."""
        self._words.release()
        self._reals.release()
        self._memory.close()


def outstanding(words: Any) -> int:
    """Return the number of conversations of a slot that have begun and not ended."""
    begun = words[ACCEPTED] + words[TAKEN] - words[HANDED]
    return int(begun - words[LOST] - sum(words[_FIRST_ENDING:SIZE]))
