"""An action carried out in a child process, for its errors alone."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from daemons.serving import signals
from daemons.settings.complaints import ConfigurationError

#: Seconds that the import of a service may take at a reload.
LIMIT = 10.0

#: The last octet of the child's report.  Its end of file may come later, or never: an import can leave processes behind
#: that have the pipe too.
_END = b"\4"


class ChildError(Exception):
    """What was tried in a child process has failed there, with a bug; the text is its name and reason."""


class Trial:
    """`action` under way in a child process, which is thrown away.

    let_go
        Called in the child first, to close what belongs to this process.
    """

    def __init__(self, action: Callable[[], object], let_go: Callable[[], None] = lambda: None) -> None:
        self._begun = time.monotonic()
        #: Whether `end` was called.
        self.ended = False
        self._received = b""
        self._pipe, write = os.pipe()
        parent = os.getpid()
        # A signal must not reach the waker of this process by way of its child.
        try:
            with signals.blocked():
                self.pid = os.fork()
                if self.pid == 0:
                    _work(action, let_go, write, parent)
                signals.to_kill.add(self.pid)
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(write)

    def fileno(self) -> int:
        """Readable when there is something to `receive`."""
        return self._pipe

    @property
    def overdue(self) -> bool:
        """Whether it has taken longer than `LIMIT`."""
        return time.monotonic() - self._begun > LIMIT

    def receive(self) -> bool:
        """Read the next part of the child's report; return whether it is complete."""
        data = os.read(self._pipe, 65536)
        self._received += data
        return not data or data.endswith(_END)

    def end(self) -> None:
        """Kill the child, and close the pipe; `reap` remains to be called."""
        self.ended = True
        os.close(self._pipe)
        # Not reaped yet, so the pid is still its own.
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def reap(self, options: int = os.WNOHANG) -> bool:
        """Reap the child, waitpid(2); returns whether it has ended."""
        try:
            reaped = os.waitpid(self.pid, options)[0] != 0
        except ChildProcessError:
            reaped = True
        if reaped:
            signals.to_kill.discard(self.pid)
        return reaped

    def check(self) -> None:
        """Raise the error of the action, `ConfigurationError` or `ChildError`; the latter also without a result."""
        report = self._received.removesuffix(_END).decode("utf-8", "replace")
        if self._received.endswith(_END) and not report:
            return
        complaints, _, reason = report.partition("\0")
        if complaints:
            raise ConfigurationError(complaints.splitlines())
        if self.overdue:
            reason = reason or f"the service was not imported within {LIMIT:g} s"
        raise ChildError(reason or "the service could not be tried: its process ended without a result")


def try_in_child(action: Callable[[], object]) -> None:
    """Carry out `action` in a child process, however long it takes; raises `ConfigurationError` or `ChildError`."""
    trial = Trial(action)
    try:
        while not trial.receive():
            pass
    finally:
        trial.end()
        trial.reap(0)
    trial.check()


def _work(action: Callable[[], object], let_go: Callable[[], None], write: int, parent: int) -> NoReturn:
    """In the child: carry out `action`, report its error, and end.

    Whatever fails, the pipe and standard error included, this must not return: the child would go on as a second
    parent, and kill the workers of the first."""
    code = 1
    try:
        signals.reset_signals()
        signals.await_start(parent)
        report = _tried(action, let_go)
        os.write(write, report.encode("utf-8", "replace").replace(_END, b"") + _END)
        code = 1 if report else 0
    finally:
        os._exit(code)


def _tried(action: Callable[[], object], let_go: Callable[[], None]) -> str:
    """Carry out `action`; return its error, as `Trial.check` takes it."""
    try:
        let_go()
        action()
    except ConfigurationError as error:
        return str(error)
    except BaseException as error:
        with suppress(Exception):  # a full disk, or closed by the action
            traceback.print_exc()
        return f"\0{type(error).__name__}: {error}"
    return ""
