"""Signal handling: Python writes each signal's number to a `Waker`, and the event loop acts on it.

A signal to the process group reaches parent and children, and then the children again through their parent.  So in a
child a repeated SIGTERM means the same as the first, and the parent forwards a repeated one as `CUT`.
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

#: Drain and end.  SIGQUIT is Ctrl-\ of a terminal.
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

#: End at once.  The main process forwards a repeated SIGTERM as this to its workers or children.
CUT = signal.SIGRTMIN

#: To a child of ``engine = forks``: end if no message is complete yet, or part of one was received; and the same, or if
#: between two messages (`daemons.serving.guards.eviction`).
GIVE_WAY, GIVE_WAY_IDLE = signal.SIGRTMIN + 1, signal.SIGRTMIN + 2

#: Reopen the log files, for logrotate(8).
REOPEN = signal.SIGUSR1

#: Signals that mean nothing to a daemon.  They are logged and ignored, because their default action would end the
#: process, signal(7).
UNUSED: tuple[int, ...] = (
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGIO,
    signal.SIGPWR,
    signal.SIGSTKFLT,
    # Outside of a child, these two mean nothing either.
    GIVE_WAY,
    GIVE_WAY_IDLE,
    *range(signal.SIGRTMIN + 3, signal.SIGRTMAX + 1),
)

#: The signals that a daemon handles.
SIGNALS: tuple[int, ...] = (*STOPPING, CUT, signal.SIGHUP, REOPEN, *UNUSED)

#: Seconds within which a second SIGTERM or SIGINT counts as the same request: timeout(1) sends one to the process and
#: one to its group.  Pressing Ctrl-C twice by hand takes longer.
REPEAT = 0.5

#: Seconds between two checks of the parent process while there is no event loop yet.
PARENT_CHECK = 1.0

#: When (monotonic) the first of `STOPPING`, and the first `CUT`, was received since `install_handlers`; infinite:
#: never.  A watchdog reads these times, since a blocked event loop does not act on the signals.
stop_received = cut_received = math.inf

#: Child processes to kill if a stop signal arrives before `defer_stop`.
to_kill: set[int] = set()

#: Instructions of a ``raise`` statement.
_RAISING = frozenset(number for name, number in opcode.opmap.items() if name in ("RAISE_VARARGS", "RERAISE"))

#: Signals that arrived before there was an event loop.
_deferred: list[int] = []


def install_handlers(waker: Waker, *more: signal.Signals) -> None:
    """Install handlers for `SIGNALS` and `more`, and write each signal's number to `waker` as it arrives.

    Numbers of signals deferred since `install_startup_handlers` are written now.  Main thread only."""
    global stop_received, cut_received
    stop_received = cut_received = math.inf
    signal.set_wakeup_fd(waker.writer.fileno(), warn_on_full_buffer=False)
    if signal.getsignal(signal.SIGALRM) is _check_parent:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
    for number in (*SIGNALS, *more):
        # A service may use a timer or signal itself: its own handlers stay.
        if number not in UNUSED or signal.getsignal(number) in (signal.SIG_DFL, _defer, _check_parent):
            _install(number, _record_stop if number in STOPPING or number == CUT else _ignore)
    while _deferred:
        waker.wake(_deferred.pop(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*SIGNALS, *more))


def _install(number: int, handler: Any) -> None:
    """As `signal.signal`, but ignore EINVAL for one of `UNUSED`: valgrind, for example, reserves the highest real-time
    signal."""
    try:
        signal.signal(number, handler)
    except OSError as error:
        if error.errno != errno.EINVAL or number not in UNUSED:
            raise


def install_startup_handlers() -> None:
    """Install the handlers of a starting process: exit at once with code 0 at a stop signal, since no connection is
    open; defer all other signals until `install_handlers`."""
    for number in SIGNALS:
        _install(number, _exit_now if number in STOPPING or number == CUT else _defer)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # some are blocked by `camelot_start`


def defer_stop() -> None:
    """From now on defer `STOPPING` and `CUT`, too, until `install_handlers`.

    Call before the listeners are bound: afterwards an immediate exit would reset the connections in their queues."""
    for number in (*STOPPING, CUT, signal.SIGHUP, REOPEN):
        signal.signal(number, _defer)


def install_import_handlers(parent: int) -> None:
    """In a forked child, install the handlers that apply while it imports the service, until `install_handlers`.

    The child exits at once on SIGTERM, and about a second after the end of `parent`."""
    global _parent
    _deferred.clear()
    to_kill.clear()
    _parent = parent
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a handler would not run while the import blocks in C code
    signal.signal(CUT, _exit_now)
    # A terminal sends these to the parent as well, which forwards their meaning.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, _ignore)
    signal.signal(signal.SIGALRM, _check_parent)
    signal.setitimer(signal.ITIMER_REAL, PARENT_CHECK, PARENT_CHECK)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def ignore_signals() -> None:
    """Ignore all `SIGNALS` while the process exits.

    Otherwise Python's shutdown would restore the default actions, and a late SIGTERM would change the exit code."""
    for number in SIGNALS:
        _install(number, signal.SIG_IGN)


def reset_signals() -> None:
    """Stop writing signal numbers to the waker, before it is closed.  The handlers stay."""
    signal.set_wakeup_fd(-1)


def is_unused(number: int) -> bool:
    """Return whether a signal has no meaning: it is one of `UNUSED`, and no service has installed a handler for it.

    (Python writes a signal's number to the waker independently of the handler.)"""
    return number in UNUSED and signal.getsignal(number) is _ignore


def is_from_handler(failure: BaseException) -> bool:
    """Return whether `failure` was raised by a signal handler of this process, such as the KeyboardInterrupt of Ctrl-C.

    Such an exception is meant for the process, not for the connection being served at that moment.  A daemon's own
    handlers raise nothing, but a program that embeds a server may have others.  They run in the main thread.  Python's
    default handler of SIGINT is written in C and has no frame in the traceback.  Its KeyboardInterrupt appears at the
    instruction that was interrupted, which is never a ``raise``."""
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
    # A function or a method; else an object whose class defines __call__.
    return getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)


@contextmanager
def blocked() -> Iterator[None]:
    """Block `SIGNALS` around a fork; in the child until `install_handlers`.

    Otherwise a signal to the child could be written to the waker that it shares with its parent."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopRequest:
    """Detector of a repeated stop signal: the first signal of `STOPPING` means to drain, a repeated one to end at once.

    once
        Treat no signal as repeated.  For a child process, because its parent forwards a repeated signal as `CUT`; and
        under supervisord, because it sends SIGTERM once and SIGKILL later, and a second SIGTERM comes from a service
        manager that signals the whole process group.
    """

    def __init__(self, *, once: bool = False) -> None:
        self.once = once
        self._first = math.inf

    def repeated(self, now: float) -> bool:
        """Return whether a signal of `STOPPING`, received `now` (monotonic), is a repeated one."""
        self._first = min(self._first, now)
        return not self.once and now - self._first >= REPEAT


#: Process ID of the parent, set by `install_import_handlers`.
_parent = 0


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: Python writes a signal's number to the waker only if a handler is installed."""


def _record_stop(number: int, frame: FrameType | None) -> None:
    global stop_received, cut_received
    if number == CUT:
        cut_received = min(cut_received, time.monotonic())
    else:
        stop_received = min(stop_received, time.monotonic())


def _defer(number: int, frame: FrameType | None) -> None:
    _deferred.append(number)


def _exit_now(number: int, frame: FrameType | None) -> None:
    for pid in to_kill:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _exit(0)


def _check_parent(number: int, frame: FrameType | None) -> None:
    if os.getppid() != _parent:
        _exit(1)
