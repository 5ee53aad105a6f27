"""Entry point of the command ``daemons``, which protects a daemon from signals before it imports anything else.

The default of SIGHUP is to kill, also a process that would reload because of it a moment later, and the imports take a
few tenths of a second.  `daemons.serving.signals.install_startup_handlers` takes over from here.
"""

from __future__ import annotations

import os
import signal
import sys

#: The process that has started this one, as long as it is likely to live: before the imports, which may take long.
PARENT = os.getppid()

#: Signals that wait until `daemons.serving.signals.install_startup_handlers`.
HELD = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)


def main() -> int:
    """Carry out the command line; returns the exit code."""
    if sys.argv[1:2] == ["run"] and "--detach" not in sys.argv:
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            # There is nothing to finish yet.
            signal.signal(number, lambda number, frame: os._exit(0))
    try:
        from daemons.cli.command import main as carry_out
    except KeyboardInterrupt:  # Ctrl-C before there is a command that could handle it
        return 130
    return carry_out()
