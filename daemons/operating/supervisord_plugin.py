"""A plugin of supervisord, named in supervisord.conf by [rpcinterface:daemons]: all programs stop at the same time.

supervisord, told to end, stops one program after the other and waits up to a second for each: 24 s for 27 idle daemons.

A stop signal is lost where it reaches a program between fork(2) and execve(2): there it still has the handlers of
supervisord.  Such a program would be killed after `stopwaitsecs`, so the signal is sent once more.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from supervisor.events import SupervisorStoppingEvent, Tick5Event, subscribe
from supervisor.states import ProcessStates

#: Seconds after the fork within which execve(2) may not have happened yet, on a busy machine.
STARTING = 2.0


class NoInterface:
    """The methods of this plugin for XML-RPC: none."""


def make_interface(supervisord: Any) -> NoInterface:
    """Have `supervisord` send every program its stop signal as soon as it begins to end, and once more to those that
    had just been started."""
    #: Pids that the signal has been sent to again.
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
            # supervisord waits until `delay`.
            stopped = process.delay - process.config.stopwaitsecs
            if pid not in again and stopped - process.laststart < STARTING:
                again.add(pid)
                with suppress(OSError):
                    os.kill(pid, process.config.stopsignal)

    subscribe(SupervisorStoppingEvent, stop_all)
    subscribe(Tick5Event, repeat)
    return NoInterface()
