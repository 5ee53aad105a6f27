"""Stalls: a loop that stands, and a daemon in which nothing is free for the next message, for more than a second.

A `Probe` looks at one daemon about once a second (those of the engines are in `daemons.serving.engines.stall_probes`).
A `StallMonitor` writes one line, with the stack that holds everything up, when a stall begins, one when it ends, and
counts it.  Under ``forks``, whose process must not have a second thread, the daemon's own tick does that; elsewhere it
is a thread.

If the daemon was asked to stop, or its parent has gone, and the loop stands, nobody else can end the process; so the
thread does.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING

from daemons.serving import signals
from daemons.serving.connection import Connection
from daemons.serving.daemon import ORPHAN_DRAIN, Daemon
from daemons.serving.safe_logger import SafeLogger

if TYPE_CHECKING:
    from daemons.serving.interfaces import Served

log = SafeLogger(__name__)

#: Seconds from which on a delay is a stall.
STALL = 1.0

#: Seconds after the time to drain: time for the loop to end by itself, and less than `GRACE` of workers, so that the
#: line comes before their parent kills them.
LEAVE = 0.5

#: Innermost frames of a stack in the log, and characters of all of them.
FRAMES = 8
STACK_LIMIT = 1000


class Probe:
    """One possible cause of a stall."""

    #: Whether a stall keeps the process from hearing that it should end.
    stops_everything = False

    def stuck_since(self, now: float) -> float | None:
        """Return since when (monotonic) the same operation has held everything up, if only briefly; None: none."""
        raise NotImplementedError

    def describe(self) -> str:
        """Describe the stall, with the stack that holds everything up."""
        raise NotImplementedError


class CallProbe(Probe):
    """The one conversation of a process or of ``engine = one``: stuck while the service is at the same message."""

    def __init__(self, server: Served, thread: int | None = None) -> None:
        self._server = server
        #: The thread that serves it; None: the one that socketserver has made for it.
        self._thread = thread
        self._at: tuple[Connection, tuple[int, int, int]] | None = None
        self._since = 0.0

    def stuck_since(self, now: float) -> float | None:
        connection = next(iter(list(self._server.connections.values())), None)
        # While it is timed, its peer is waited for.
        at = None if connection is None or connection.timed else (connection, connection.so_far())
        if at != self._at:
            self._at, self._since = at, now
        return None if at is None else self._since

    def describe(self) -> str:
        thread = self._thread or next(iter(serving_threads()), None)
        return f"the service is still at the same message at {stack_of(thread)}"


class StallMonitor:
    """Logs and counts the stalls that the probes of a daemon find."""

    def __init__(self, daemon: Daemon, *probes: Probe) -> None:
        self._daemon = daemon
        self._probes = probes
        #: Stalls under way that were logged: since when.
        self._stalled: dict[Probe, float] = {}
        self._over = threading.Event()
        self._parent = daemon.parent
        self._orphaned = math.inf

    def start(self) -> None:
        """Sample in a thread of its own, until the daemon ends."""
        self._daemon.on_close.append(self._over.set)
        threading.Thread(target=self._run, name="stalls", daemon=True).start()

    def attach(self) -> None:
        """Sample at the daemon's own ticks."""
        self._daemon.on_tick.append(self._tick)

    def _tick(self, now: float) -> None:
        self.sample(now)

    def sample(self, now: float) -> float:
        """Look once; returns the seconds until the next look, at most `STALL`."""
        delay = STALL
        for probe in self._probes:
            since = probe.stuck_since(now)
            age = 0.0 if since is None else now - since
            if since is not None and age >= STALL:
                if probe not in self._stalled:
                    self._begin(probe, since, age)
            else:
                if probe in self._stalled:
                    self._end(probe, now)
                if since is not None:
                    delay = min(delay, STALL - age)
        return delay

    def _begin(self, probe: Probe, since: float, age: float) -> None:
        self._stalled[probe] = since
        if (metrics := self._daemon.servers[0].metrics) is not None:
            metrics.stall(since)
        log.warning("stalled for %.1f s: %s", age, probe.describe())

    def _end(self, probe: Probe, now: float) -> None:
        seconds = now - self._stalled.pop(probe)
        if (metrics := self._daemon.servers[0].metrics) is not None and not self._stalled:
            metrics.resume()
        log.warning("the stall is over after %.1f s", seconds)

    def _run(self) -> None:
        delay = STALL
        before = time.monotonic()
        while not self._over.wait(delay):
            now = time.monotonic()
            try:
                if not self._overslept(now - before - delay):
                    delay = min(self.sample(now), self._leave_standing_loop(now))
            except Exception:
                log.exception("the stall monitor failed; it goes on")
                delay = STALL
            before = time.monotonic()

    def _overslept(self, late: float) -> bool:
        """Whether this thread was `late` for a stall's length: it waits for nothing but the interpreter, and so did
        everything else.  Of a stall that is known already there is nothing new to log."""
        if late < STALL or self._stalled:
            return False
        if (metrics := self._daemon.servers[0].metrics) is not None:
            metrics.stall(time.monotonic())
            metrics.resume()
        log.warning(
            "stalled for %.1f s, which are over: code in C held the interpreter, or the process was stopped", late
        )
        return True

    def _leave_standing_loop(self, now: float) -> float:
        """End the process if it should have ended, and its loop stands, so that it cannot; or return the seconds until
        then."""
        daemon = self._daemon
        if self._parent is not None and self._orphaned == math.inf and os.getppid() != self._parent:
            self._orphaned = now
        limit = min(
            signals.stop_received + daemon.servers[0].limits.drain_timeout,
            signals.cut_received,
            self._orphaned + ORPHAN_DRAIN,
        )
        standing = next((probe for probe in self._stalled if probe.stops_everything), None)
        if standing is None:
            return math.inf
        if (left := limit + LEAVE - now) <= 0:
            log.error(
                "it should have ended, but the loop stands; ending the process, with %d conversations: %s",
                daemon.active,
                standing.describe(),
            )
            os._exit(1)
        return left


def stack_of(thread: int | None) -> str:
    """The innermost frames of a thread in one line, ``slow.py:7 respond <- …``, of at most `STACK_LIMIT` characters."""
    frame: FrameType | None = sys._current_frames().get(thread or 0)
    parts: list[str] = []
    try:
        here = os.getcwd() + os.sep
    except FileNotFoundError:  # the folder was removed
        here = ""
    while frame is not None and len(parts) < FRAMES:
        code = frame.f_code
        parts.append(f"{code.co_filename.removeprefix(here)}:{frame.f_lineno} {code.co_qualname}")
        frame = frame.f_back
    return " <- ".join(parts)[:STACK_LIMIT] or "(a thread that has ended)"


def serving_threads() -> list[int]:
    """The threads that socketserver has made, one for each connection."""
    return [
        thread.ident
        for thread in threading.enumerate()
        if thread.ident is not None and thread.name.endswith("(process_request_thread)")
    ]
