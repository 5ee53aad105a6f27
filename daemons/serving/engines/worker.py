"""A worker of ``processes = N``: its states, their limits in seconds, and the actions of its parent."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from daemons.serving import signals

#: Minimum lifetime in seconds of a worker to be replaced at once.  If the worker dies sooner, its replacement is
#: delayed until this time has passed, because it is likely to die too.
SHORT_LIFE = 1.0

#: Seconds from CUTTING to KILLED.  A worker needs about half a second to cut its conversations and log them.
KILL_DELAY = 1.5

#: Seconds for the successor of a live worker to become ready.  The import was tested before with a limit of ten
#: seconds, so this leaves room for a busy host.
START_LIMIT = 30.0

#: Seconds for any other worker to become ready: its import was not tested, and may load much.  As `TimeoutStartSec` of
#: systemd.
FIRST_START_LIMIT = 90.0

#: Seconds without a turn of its event loop after which a ready worker is replaced.  An idle loop makes one each second.
STUCK = 10.0

#: Seconds from KILLED until a daemon that stops no longer waits for the worker: SIGKILL does not end a process in
#: uninterruptible I/O, such as on a file server that does not respond.
ABANDON = 5.0

#: Seconds between two calls of `WorkerTable.tick` from which on this process itself did not run meanwhile: it was
#: stopped by SIGSTOP or by a debugger, or the host was overloaded.
LATE = 3.0


class State(IntEnum):
    """State of a worker, in order."""

    STARTING = 0
    READY = 1
    DRAINING = 2
    CUTTING = 3
    KILLED = 4


#: A member of an enumeration is slow to get from its class, until Python 3.12.
STARTING, READY, DRAINING, CUTTING, KILLED = State

#: The signal by which a worker enters a state.
SIGNAL_OF = {DRAINING: signal.SIGTERM, CUTTING: signals.CUT, KILLED: signal.SIGKILL}


class Start(NamedTuple):
    """Fork a worker, and report the result: `WorkerTable.started`, or `WorkerTable.start_failed`."""

    #: Pid of the worker to drain when the new one is ready; 0: none.
    replaces: int = 0


class Send(NamedTuple):
    """Send a signal to a worker that has not been reaped."""

    pid: int
    number: signal.Signals


class Log(NamedTuple):
    """Write a line to the log."""

    level: int
    text: str
    arguments: tuple[object, ...]


class Restart(NamedTuple):
    """Count a worker that died and is replaced."""


Action = Start | Send | Log | Restart


@dataclass(slots=True)
class Worker:
    """One worker process."""

    pid: int
    started: float
    #: Pid of the worker to drain when this one is ready; 0: none, or done.
    replaces: int
    #: When (monotonic) `WorkerTable.tick` moves it to a later state; infinite: never.
    deadline: float
    state: State = STARTING
    #: Drains because its successor is ready, so its end needs no replacement.
    retiring: bool = False
    #: Whether it has ever accepted connections.
    was_ready: bool = False
    #: The value last passed to `WorkerTable.turned`; -1: none.
    turn: int = -1
