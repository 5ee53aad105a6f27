"""Signals: the handlers do nothing, the number goes to a `Waker`, and the loop acts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from daemons.serving.waker import Waker

#: End after the conversations under way have finished.  SIGQUIT is Ctrl-\ of a terminal.
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

#: Open the log files again, as after logrotate(8) has moved them.
REOPEN = signal.SIGUSR1

#: Signals without a meaning for a daemon, whose default action would end it, signal(7).  They are logged and ignored.
UNUSED: tuple[int, ...] = (
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGIO,
    signal.SIGPWR,
    signal.SIGSTKFLT,
    *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
)

#: The signals that a daemon handles.
SIGNALS: tuple[int, ...] = (*STOPPING, signal.SIGHUP, REOPEN, *UNUSED)


def hear(waker: Waker, *more: signal.Signals) -> None:
    """Have Python write the number of each of `SIGNALS`, and `more`, to `waker`, in C.  In the main thread."""
    for number in (*SIGNALS, *more):
        # A service may use a timer, or a signal to itself: its own handlers stay.
        if number not in UNUSED or signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _ignore)
    signal.set_wakeup_fd(waker.writer.fileno(), warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def deafen() -> None:
    """Undo `hear`, before its waker is closed."""
    signal.set_wakeup_fd(-1)


def is_unused(number: int) -> bool:
    """Return whether a signal means nothing: it is one of `UNUSED`, and no code of a service has a handler for it.
    (Python writes the number of a signal to the waker whatever its handler is.)"""
    return number in UNUSED and signal.getsignal(number) is _ignore


@contextmanager
def held_back() -> Iterator[None]:
    """Around a fork: a signal that reaches the child before it hears for itself would go to the waker it
    shares with its parent.  Here it waits; in the child until `hear`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore(number: int, frame: FrameType | None) -> None:
    """A handler must exist for Python to write the number; there is nothing for it to do."""
