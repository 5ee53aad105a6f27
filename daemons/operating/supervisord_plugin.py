"""Plugin of supervisord, [rpcinterface:daemons] in supervisord.conf, that stops all programs at the same time.

At shutdown, supervisord stops one program after the other and waits up to a second for each: 24 s for 27 idle daemons.

A stop signal between fork(2) and execve(2) is lost, because the child still has the handlers of supervisord.  The
program would be killed after `stopwaitsecs`, so the signal is sent again.

It also counts the lines that supervisord cannot write to the logs of its programs.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from supervisor.events import SupervisorStoppingEvent, Tick5Event, subscribe
from supervisor.states import ProcessStates

from daemons.operating.supervisord_log import count_dropped_lines

#: Maximum seconds between fork(2) and execve(2) on a busy machine.
STARTING = 2.0


class NoInterface:
    """XML-RPC interface of the plugin, without methods."""


def make_interface(supervisord: Any) -> NoInterface:
    """Stop every program at the beginning of a shutdown of `supervisord`; repeat the signal for programs that had just
    been started."""
    #: Pids that have received the second signal.
    again: set[int] = set()

    def stop_all(_: SupervisorStoppingEvent) -> None:
        for group in supervisord.process_groups.values():
            group.stop_all()

    def repeat(_: Tick5Event) -> None:
        stopping = {
            process.pid: process
            for group in supervisord.process_groups.values()
            for process in group.processes.values()
            if process.pid and process.state == ProcessStates.STOPPING
        }
        again.intersection_update(stopping)
        for pid, process in stopping.items():
            # supervisord sets `delay` to the time of the stop, plus `stopwaitsecs`.
            stopped = process.delay - process.config.stopwaitsecs
            if pid not in again and stopped - process.laststart < STARTING:
                again.add(pid)
                with suppress(OSError):
                    os.kill(pid, process.config.stopsignal)

    count_dropped_lines()
    subscribe(SupervisorStoppingEvent, stop_all)
    subscribe(Tick5Event, repeat)
    return NoInterface()
