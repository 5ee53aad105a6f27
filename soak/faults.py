"""``python -m soak.faults KIND FIRST PERIOD daemons-arguments``: a daemon in which system calls fail.

Calls of KIND are counted from the moment at which the daemon begins to serve.  Call number FIRST fails and, unless
PERIOD is 0, so does every PERIOD-th call after it.  A child process of ``engine = forks`` continues the counting.

The Python functions are replaced, not the system calls, so neither a compiler nor LD_PRELOAD is needed."""

from __future__ import annotations

import _thread
import errno
import fcntl
import functools
import itertools
import mmap
import os
import runpy
import select
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from daemons.serving.daemon import Daemon


class Fault:
    """Decides which calls fail."""

    def __init__(self, first: int, period: int) -> None:
        self._first = first
        self._period = period
        self._calls = itertools.count(1)
        self.armed = False

    def due(self) -> bool:
        """Count a call, and return whether it must fail."""
        if not self.armed:
            return False
        beyond = next(self._calls) - self._first
        return beyond == 0 or (self._period > 0 and beyond > 0 and beyond % self._period == 0)


def failing(fault: Fault, function: Callable[..., Any], error: Callable[[], BaseException]) -> Callable[..., Any]:
    """Return `function`, but some calls raise `error`."""

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if fault.due():
            raise error()
        return function(*arguments, **keywords)

    return call


def os_error(number: int) -> Callable[[], OSError]:
    return lambda: OSError(number, os.strerror(number))


def install(kind: str, fault: Fault) -> None:
    """Make calls of one kind fail."""

    def patch(owner: Any, name: str, error: Callable[[], BaseException]) -> None:
        setattr(owner, name, failing(fault, getattr(owner, name), error))

    if kind == "fork":
        patch(os, "fork", os_error(errno.EAGAIN))
    elif kind == "thread":
        # threading calls the second one from Python 3.13 on.
        for name in ("start_new_thread", "start_joinable_thread"):
            for owner, prefix in ((threading, "_"), (_thread, "")):
                if hasattr(owner, prefix + name):
                    patch(owner, prefix + name, lambda: RuntimeError("can't start new thread"))
    elif kind == "epoll":
        # Only EPOLL_CTL_ADD allocates memory, epoll_ctl(2).
        real = select.epoll

        class Epoll:
            """An epoll object, which cannot be subclassed, with a `register` that fails."""

            def __init__(self) -> None:
                self._real = real()
                self.register = failing(fault, self._real.register, os_error(errno.ENOSPC))

            def __getattr__(self, name: str) -> Any:
                return getattr(self._real, name)

        select.epoll = Epoll  # type: ignore[assignment,misc]
    elif kind == "accept":
        listener: Any = socket.socket
        accept = listener._accept
        listener._accept = lambda self: failing(fault, accept, os_error(errno.ENFILE))(self)
    elif kind == "mmap":
        patch(mmap, "mmap", os_error(errno.ENOMEM))
    elif kind == "fcntl":
        for name in ("fcntl", "flock", "lockf"):
            patch(fcntl, name, os_error(errno.ENOLCK))
    elif kind == "pidfd":
        patch(os, "pidfd_open", os_error(errno.EMFILE))
    else:
        raise ValueError(kind)


def main() -> None:
    kind, first, period, *arguments = sys.argv[1:]
    fault = Fault(int(first), int(period))
    install(kind, fault)
    serve_forever = Daemon.serve_forever

    def serve(daemon: Daemon) -> None:
        fault.armed = True
        serve_forever(daemon)

    Daemon.serve_forever = serve  # type: ignore[assignment,method-assign]
    sys.argv = ["daemons", *arguments]
    runpy.run_module("daemons", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
