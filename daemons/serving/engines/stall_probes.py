"""Stall probes of the engines."""

from __future__ import annotations

import math
import os
import select
import sys
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

from daemons.serving.connection import Connection
from daemons.serving.daemon import SERVING, Daemon
from daemons.serving.engines.forks import Forks
from daemons.serving.engines.loop_poller import LoopPoller
from daemons.serving.engines.pool_poller import PoolPoller
from daemons.serving.engines.stall_monitor import CallProbe, Probe, StallMonitor, serving_threads, stack_of
from daemons.serving.poller import Poller

if TYPE_CHECKING:
    from daemons.serving.interfaces import Served

#: Maximum number of samples of a pool's queue: with all of them, a stall has lasted a minute.
SAMPLES = 60

#: Functions in which a leading thread waits for events.
_WAITING: frozenset[CodeType] = frozenset((Poller.wait.__code__, LoopPoller._events.__code__))

_SERVING_FOLDER = str(Path(__file__).parents[1]) + os.sep


def watch(daemon: Daemon) -> None:
    """Start to log and count the stalls of `daemon`, in the process that serves."""
    server = daemon.servers[0]
    if isinstance(server, Forks):
        StallMonitor(daemon, CapacityProbe(daemon)).attach()
    elif isinstance(daemon.poller, PoolPoller):
        StallMonitor(daemon, PoolProbe(daemon.poller)).start()
    elif isinstance(daemon.poller, LoopPoller):
        StallMonitor(daemon, LoopProbe(daemon)).start()
    elif server.max_connections == 1:
        StallMonitor(daemon, LoopProbe(daemon), *(CallProbe(server) for server in daemon.servers)).start()
    else:
        StallMonitor(daemon, LoopProbe(daemon), CapacityProbe(daemon)).start()


class LoopProbe(Probe):
    """Probe for the event loop: stuck while it is in the same turn."""

    stops_everything = True

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def stuck_since(self, now: float) -> float | None:
        frame = sys._current_frames().get(self._daemon.thread or 0)
        if frame is None or frame.f_code in _WAITING:
            return None
        return self._daemon.poller.woke

    def describe(self) -> str:
        return f"the event loop is blocked at {stack_of(self._daemon.thread)}"


class PoolProbe(Probe):
    """Probe for the workers of a pool: stuck while a message waits for one."""

    def __init__(self, poller: PoolPoller) -> None:
        self._poller = poller
        #: Samples (time, number of jobs queued until then), each kept until all of those jobs have been started.
        self._samples: deque[tuple[float, int]] = deque()

    def stuck_since(self, now: float) -> float | None:
        poller, samples = self._poller, self._samples
        queued = poller.queued
        waiting = poller.jobs.qsize()
        if waiting and len(samples) < SAMPLES:
            samples.append((now, queued))
        while samples and (not waiting or samples[0][1] <= queued - waiting):
            samples.popleft()
        return samples[0][0] if samples else None

    def describe(self) -> str:
        workers = [thread.ident for thread in self._poller.workers]
        waiting = self._poller.jobs.qsize() + len(self._poller.unread)
        return f"no free thread: {len(workers)} busy, {waiting} messages waiting; {_commonest(workers)}"


class CapacityProbe(Probe):
    """Probe for a daemon with one thread or process per connection: stuck while its limit is reached, no connection
    ends, and another connection waits in the queue."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._newest = -math.inf
        self._since: float | None = None

    def stuck_since(self, now: float) -> float | None:
        servers = self._daemon.servers
        if (
            self._daemon.state != SERVING
            or self._daemon.active < servers[0].max_connections
            or not _has_pending(servers)
        ):
            self._since = None
            return None
        newest = max((each.opened for server in servers for each in _connections(server)), default=0.0)
        if self._since is None or newest != self._newest:
            self._newest, self._since = newest, now
        return self._since

    def describe(self) -> str:
        text = f"limit of connections reached: {self._daemon.active} open, and more wait"
        if isinstance(self._daemon.servers[0], Forks):
            return text
        busy = [thread for thread in serving_threads() if _in_service(thread)]
        return f"{text}; {_commonest(busy)}" if busy else f"{text}; all of them are waiting for their peers"


def _commonest(threads: Iterable[int | None]) -> str:
    """Return ``14 of them at STACK`` for the most frequent innermost frame of these threads."""
    stacks = [stack_of(thread) for thread in threads]
    counts = Counter(stack.partition(" <- ")[0] for stack in stacks)
    innermost, count = counts.most_common(1)[0]
    return f"{count} of them at {next(stack for stack in stacks if stack.startswith(innermost))}"


def _in_service(thread: int) -> bool:
    """Return whether a serving thread is in the service's code, not in a socket operation."""
    frame = sys._current_frames().get(thread)
    return frame is not None and not frame.f_code.co_filename.startswith(_SERVING_FOLDER)


def _connections(server: Served) -> list[Connection]:
    found = list(server.connections.values())
    if isinstance(server, Forks):
        found += [child.connection for child in list(server.children.values())]
    return found


def _has_pending(servers: Sequence[Served]) -> bool:
    """Return whether a connection is waiting to be accepted."""
    queues = select.poll()
    for server in servers:
        if server.socket.fileno() >= 0:
            queues.register(server.socket, select.POLLIN)
    return bool(queues.poll(0))
