"""Detection of stalls: the event loop is blocked, or no thread or process is free, for more than a second.

It only reports; a blocked leader of a pool is replaced by `daemons.serving.engines.stall_detector`.

It only reports; a blocked leader of a pool is replaced by `daemons.serving.engines.stall_detector`.

A `Probe` samples one daemon about once a second (those of the engines are in `daemons.serving.engines.stall_probes`).
A `StallMonitor` logs one line with the blocking stack when a stall begins and one when it ends, and counts it.  It runs
in a thread.  Under ``forks`` it runs at the daemon's ticks, because a process that forks must not have a second thread.

If the daemon receives a stop signal, or its parent ends, while the loop is blocked, the monitor's thread ends the
process.
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
from daemons.serving.daemon import Daemon
from daemons.serving.parent_watch import ORPHAN_DRAIN
from daemons.serving.safe_logger import SafeLogger

if TYPE_CHECKING:
    from daemons.serving.interfaces import Served

log = SafeLogger(__name__)

#: Minimum duration of a stall in seconds.
STALL = 1.0

#: Seconds from the end of the drain until a blocked process is ended.  Less than `worker.KILL_DELAY`, so that the
#: process logs the blocking stack before the parent kills it.
LEAVE = 0.5

#: Maximum length of a stack in the log: innermost frames, and characters.
FRAMES = 8
STACK_LIMIT = 1000


class Probe:
    """One possible cause of a stall."""

    #: Whether a stall keeps the process from handling signals.
    stops_everything = False

    def stuck_since(self, now: float) -> float | None:
        """Return when (monotonic) the operation began that is blocking now, however briefly; None if none is."""
        raise NotImplementedError

    def describe(self) -> str:
        """Return a description of the stall, with the blocking stack."""
        raise NotImplementedError


class CallProbe(Probe):
    """Probe for the only connection of a process or of ``engine = one``: stuck while the service is at one message."""

    def __init__(self, server: Served, thread: int | None = None) -> None:
        self._server = server
        #: The serving thread; None: the one created by socketserver.
        self._thread = thread
        self._at: tuple[Connection, tuple[int, int, int]] | None = None
        self._since = 0.0

    def stuck_since(self, now: float) -> float | None:
        connection = next(iter(list(self._server.connections.values())), None)
        # While a deadline applies, the service is waiting for the peer.
        at = None if connection is None or connection.timed else (connection, connection.so_far())
        if at != self._at:
            self._at, self._since = at, now
        return None if at is None else self._since

    def describe(self) -> str:
        thread = self._thread or next(iter(serving_threads()), None)
        return f"the service is blocked at {stack_of(thread)}"


class StallMonitor:
    """Log and count the stalls found by the probes of a daemon."""

    def __init__(self, daemon: Daemon, *probes: Probe) -> None:
        self._daemon = daemon
        self._probes = probes
        #: Start time of each stall that was logged and has not ended.
        self._stalled: dict[Probe, float] = {}
        self._over = threading.Event()
        self._parent = daemon.parent
        self._orphaned = math.inf

    def start(self) -> None:
        """Start a thread that samples until the daemon ends."""
        self._daemon.on_close.append(self._over.set)
        threading.Thread(target=self._run, name="stalls", daemon=True).start()

    def attach(self) -> None:
        """Sample at the daemon's ticks."""
        self._daemon.on_tick.append(self._tick)

    def _tick(self, now: float) -> None:
        self.sample(now)

    def sample(self, now: float) -> float:
        """Sample all probes, and return the seconds until the next sample, at most `STALL`."""
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
        log.warning("stall ended after %.1f s", seconds)

    def _run(self) -> None:
        delay = STALL
        before = time.monotonic()
        while not self._over.wait(delay):
            now = time.monotonic()
            try:
                if not self._check_lateness(now - before - delay):
                    delay = min(self.sample(now), self._end_blocked_process(now))
            except Exception:
                log.exception("stall monitor failed; it continues")
                delay = STALL
            before = time.monotonic()

    def _check_lateness(self, late: float) -> bool:
        """Log a stall if this thread woke up `late` by the length of one and none is known already; return whether so.

        This thread waits for nothing but the interpreter lock, so all other threads were blocked too."""
        if late < STALL or self._stalled:
            return False
        if (metrics := self._daemon.servers[0].metrics) is not None:
            metrics.stall(time.monotonic())
            metrics.resume()
        log.warning(
            "stalled for %.1f s until now: a C extension held the interpreter lock, or the process was stopped", late
        )
        return True

    def _end_blocked_process(self, now: float) -> float:
        """End the process if its time to stop has passed and the loop is blocked; else return the seconds left."""
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
                "stopping: the event loop is blocked; ending the process with %d connections open: %s",
                daemon.active,
                standing.describe(),
            )
            os._exit(1)
        return left


def stack_of(thread: int | None) -> str:
    """Return the innermost frames of a thread, ``slow.py:7 respond <- …``, in at most `STACK_LIMIT` characters."""
    frame: FrameType | None = sys._current_frames().get(thread or 0)
    parts: list[str] = []
    try:
        here = os.getcwd() + os.sep
    except FileNotFoundError:  # the working directory was removed
        here = ""
    while frame is not None and len(parts) < FRAMES:
        code = frame.f_code
        parts.append(f"{code.co_filename.removeprefix(here)}:{frame.f_lineno} {code.co_qualname}")
        frame = frame.f_back
    return " <- ".join(parts)[:STACK_LIMIT] or "(a thread that has ended)"


def serving_threads() -> list[int]:
    """Return the identifiers of the threads created by socketserver, one per connection."""
    return [
        thread.ident
        for thread in threading.enumerate()
        if thread.ident is not None and thread.name.endswith("(process_request_thread)")
    ]
