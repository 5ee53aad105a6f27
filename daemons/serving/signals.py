"""Signals: the handlers do nothing, the number goes to a `Waker`, and the loop acts.

A signal to the process group reaches parent and children, and then the children once more through their parent.  So in
a child a repeated SIGTERM means the same as the first, and the parent passes on the repeated one as `CUT`.
"""

from __future__ import annotations

import errno
import math
import opcode
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from os import _exit
from types import CodeType, FrameType
from typing import Any

from daemons.serving.waker import Waker

#: End after the conversations under way have finished.  SIGQUIT is Ctrl-\ of a terminal.
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

#: End at once.  The process that was started passes a repeated SIGTERM on as this, to its workers or children.
CUT = signal.SIGRTMIN

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
    *range(signal.SIGRTMIN + 1, signal.SIGRTMAX + 1),
)

#: The signals that a daemon handles.
SIGNALS: tuple[int, ...] = (*STOPPING, CUT, signal.SIGHUP, REOPEN, *UNUSED)

#: Seconds within which a second SIGTERM or SIGINT counts as the first one, arriving by another way: timeout(1) sends
#: one to the process and one to its group.  A person who presses Ctrl-C again takes longer.
REPEAT = 0.5

#: Seconds between two checks whether the parent is still the same, in a process that has no loop yet.
PARENT_CHECK = 1.0

#: When (monotonic) the first of `STOPPING`, and the first `CUT`, was received since `hear`; infinite: none was.  The
#: loop that should act upon it may stand.
stop_received = cut_received = math.inf

#: Child processes that do not outlive this one if it ends before `keep`.
to_kill: set[int] = set()

#: Instructions of a ``raise`` statement.
_RAISING = frozenset(number for name, number in opcode.opmap.items() if name in ("RAISE_VARARGS", "RERAISE"))

#: Signals that arrived before there was a loop to act upon them.
_early: list[int] = []


def hear(waker: Waker, *more: signal.Signals) -> None:
    """Have Python write the number of each of `SIGNALS`, and `more`, to `waker`, in C; those too that arrived since
    `begin`.  In the main thread."""
    global stop_received, cut_received
    stop_received = cut_received = math.inf
    signal.set_wakeup_fd(waker.writer.fileno(), warn_on_full_buffer=False)
    if signal.getsignal(signal.SIGALRM) is _check_parent:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
    for number in (*SIGNALS, *more):
        # A service may use a timer, or a signal to itself: its own handlers stay.
        if number not in UNUSED or signal.getsignal(number) in (signal.SIG_DFL, _remember, _check_parent):
            _install(number, _note if number in STOPPING or number == CUT else _ignore)
    while _early:
        waker.wake(_early.pop(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*SIGNALS, *more))


def _install(number: int, handler: Any) -> None:
    """As `signal.signal`; leave out one of `UNUSED` that cannot be handled: valgrind, for one, keeps the topmost
    real-time signal for itself."""
    try:
        signal.signal(number, handler)
    except OSError as error:
        if error.errno != errno.EINVAL or number not in UNUSED:
            raise


def begin() -> None:
    """From the first moment of a process that will be a daemon: end at once, with exit code 0, when asked to stop,
    since there is nothing to finish; keep all other signals for `hear`."""
    for number in SIGNALS:
        _install(number, _leave if number in STOPPING or number == CUT else _remember)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # some are blocked by `camelot_start`


def keep() -> None:
    """From the moment in which peers may be waiting, keep the signals to stop too for `hear`."""
    for number in (*STOPPING, CUT, signal.SIGHUP, REOPEN):
        signal.signal(number, _remember)


def await_start(parent: int) -> None:
    """In a forked child that has yet to import its service, and so to accept its first peer: end at once on SIGTERM,
    and within about a second of the end of `parent`, until `hear`."""
    global _parent
    _early.clear()
    to_kill.clear()
    _parent = parent
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # also where the import is stuck in C
    signal.signal(CUT, _leave)
    # From a terminal these come to the parent as well, which passes on what they mean.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, _ignore)
    signal.signal(signal.SIGALRM, _check_parent)
    signal.setitimer(signal.ITIMER_REAL, PARENT_CHECK, PARENT_CHECK)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def end() -> None:
    """From now on the process only exits: Python's end would otherwise restore the defaults, and a late SIGTERM would
    change the exit code."""
    for number in SIGNALS:
        _install(number, signal.SIG_IGN)


def deafen() -> None:
    """Undo `hear`, before its waker is closed."""
    signal.set_wakeup_fd(-1)


def is_unused(number: int) -> bool:
    """Return whether a signal means nothing: it is one of `UNUSED`, and no code of a service has a handler for it.
    (Python writes the number of a signal to the waker whatever its handler is.)"""
    return number in UNUSED and signal.getsignal(number) is _ignore


def is_from_handler(failure: BaseException) -> bool:
    """Return whether a signal handler of this process has raised `failure`, such as the KeyboardInterrupt of Ctrl-C: it
    is meant for the process, and not for the connection at which the code happened to be.

    A daemon's own handlers raise nothing; a program that runs a server by itself may have others.  They run in the main
    thread.  Python's default handler of SIGINT is in C, so that its KeyboardInterrupt begins at any instruction but a
    ``raise``."""
    if isinstance(failure, Exception) or threading.current_thread() is not threading.main_thread():
        return False
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    codes = {_code_of(handler) for handler in handlers if callable(handler)}
    trace, innermost = failure.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace, innermost = trace.tb_next, trace
    if not isinstance(failure, KeyboardInterrupt) or signal.default_int_handler not in handlers:
        return False
    return innermost is None or innermost.tb_frame.f_code.co_code[innermost.tb_lasti] not in _RAISING


def _code_of(handler: Any) -> CodeType | None:
    while isinstance(handler, partial):
        handler = handler.func
    # A function or a method; of other objects their class has a method.
    return getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)


@contextmanager
def held_back() -> Iterator[None]:
    """Around a fork: a signal that reaches the child before it hears for itself would go to the waker it
    shares with its parent.  Here it waits; in the child until `hear`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopRequest:
    """Tells the first of `STOPPING` from a repeated one, which asks to end at once.

    once
        There is no repeated one: in a child, whose parent passes it on as `CUT`; and under supervisord, which sends
        SIGTERM once, while a service manager that stops the whole group sends another, and kills by itself what does
        not end in time.
    """

    def __init__(self, *, once: bool = False) -> None:
        self.once = once
        self._first = math.inf

    def repeated(self, now: float) -> bool:
        """One of `STOPPING` has arrived, `now` (monotonic): whether it is a repeated one."""
        self._first = min(self._first, now)
        return not self.once and now - self._first >= REPEAT


#: The parent of this process, in `await_start`.
_parent = 0


def _ignore(number: int, frame: FrameType | None) -> None:
    """A handler must exist for Python to write the number; there is nothing for it to do."""


def _note(number: int, frame: FrameType | None) -> None:
    global stop_received, cut_received
    if number == CUT:
        cut_received = min(cut_received, time.monotonic())
    else:
        stop_received = min(stop_received, time.monotonic())


def _remember(number: int, frame: FrameType | None) -> None:
    _early.append(number)


def _leave(number: int, frame: FrameType | None) -> None:
    for pid in to_kill:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _exit(0)


def _check_parent(number: int, frame: FrameType | None) -> None:
    if os.getppid() != _parent:
        _exit(1)
