"""Process 1 of a container, init(1), which inherits and must reap every orphan of its PID namespace.

A daemon started as process 1 serves in a child process.  The init process then reaps any other child, and never takes
the exit status of a child that the daemon or its service waits for.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from daemons.serving import signals

PID = 1

#: si_code of a signal from the kernel, sigaction(2).  Such a signal, for example of a terminal, is not forwarded: the
#: child has received it as well.
SI_KERNEL = 0x80


def run_under_init(serve: Callable[[], int]) -> int:
    """Call `serve` in a child process, forward signals to it, and reap every other child.

    Return its exit code; after death by a signal, 128 plus the signal number, as sh(1) does."""
    awaited = {*signals.SIGNALS, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            if os.environ.get("LISTEN_PID") == str(PID):  # sd_listen_fds(3): the sockets are for this process now
                os.environ["LISTEN_PID"] = str(os.getpid())
            code = serve()
        finally:
            os._exit(code)
    while True:
        received = signal.sigwaitinfo(awaited)
        if received.si_signo == signal.SIGCHLD:
            if (status := _reap(child)) is not None:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        elif received.si_code != SI_KERNEL:
            with suppress(ProcessLookupError):
                os.kill(child, received.si_signo)


def _reap(child: int) -> int | None:
    """Reap all children that have ended; return the wait status of `child` if it is among them."""
    found = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                found = status
    return found
