"""Preflight: run an action in a child process to find its errors."""

from __future__ import annotations

import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from daemons.serving import signals
from daemons.serving.engines.worker import FIRST_START_LIMIT
from daemons.settings.complaints import ConfigurationError

#: Maximum seconds for the import of a service at a reload.
LIMIT = 10.0

#: The last byte of the child's report.  End of file may be late or missing: an import can leave behind processes that
#: inherit the pipe.
_END = b"\4"


class ChildError(Exception):
    """The action failed in the child process with an unexpected exception.  The text has its type and reason."""


class Trial:
    """Run of `action` in a child process.

    release
        Called first in the child, to close resources of the parent.
    limit
        Maximum seconds; `LIMIT` by default.
    """

    def __init__(
        self, action: Callable[[], object], release: Callable[[], None] = lambda: None, limit: float | None = None
    ) -> None:
        self._limit = LIMIT if limit is None else limit
        self._until = time.monotonic() + self._limit
        #: Whether `end` was called.
        self.ended = False
        self._received = b""
        self._pipe, write = os.pipe()
        parent = os.getpid()
        # Until it resets them, a signal handler in the child would write to the waker that it shares with this process.
        try:
            with signals.blocked():
                self.pid = os.fork()
                if self.pid == 0:
                    _work(action, release, write, parent)
                signals.to_kill.add(self.pid)
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(write)

    def fileno(self) -> int:
        """Return the pipe, which is readable when `receive` is due."""
        return self._pipe

    @property
    def overdue(self) -> bool:
        """Whether it has taken longer than its limit."""
        return time.monotonic() >= self._until

    def wait(self) -> None:
        """Wait for the report, or for the limit."""
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        while poll.poll(max(0.0, self._until - time.monotonic()) * 1000):
            if self.receive():
                return

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
        """Reap the child, waitpid(2); return whether it has ended."""
        try:
            reaped = os.waitpid(self.pid, options)[0] != 0
        except ChildProcessError:
            reaped = True
        if reaped:
            signals.to_kill.discard(self.pid)
        return reaped

    def check(self) -> None:
        """Raise the error of the action: `ConfigurationError` or `ChildError`.  Raise `ChildError` if the child has
        sent no result."""
        report = self._received.removesuffix(_END).decode("utf-8", "replace")
        if self._received.endswith(_END) and not report:
            return
        complaints, _, reason = report.partition("\0")
        if complaints:
            raise ConfigurationError(complaints.splitlines())
        if self.overdue:
            reason = reason or f"the service was not imported within {self._limit:g} s"
        raise ChildError(reason or "the import of the service ended its process without a result")


def try_in_child(action: Callable[[], object]) -> None:
    """Run `action` in a child process, for at most `FIRST_START_LIMIT`.

    Raises `ConfigurationError` or `ChildError`."""
    trial = Trial(action, limit=FIRST_START_LIMIT)
    try:
        trial.wait()
    finally:
        trial.end()
        trial.reap(0)
    trial.check()


def _work(action: Callable[[], object], release: Callable[[], None], write: int, parent: int) -> NoReturn:
    """In the child: run `action`, report its error, and exit.

    Never returns or raises: otherwise the child would run the parent's code, and kill its workers."""
    code = 1
    try:
        signals.reset_signals()
        signals.install_import_handlers(parent)
        report = _report(action, release)
        os.write(write, report.encode("utf-8", "replace").replace(_END, b"") + _END)
        code = 1 if report else 0
    finally:
        os._exit(code)


def _report(action: Callable[[], object], release: Callable[[], None]) -> str:
    """Run `action`; return its error in the format of `Trial.check`."""
    try:
        release()
        action()
    except ConfigurationError as error:
        return str(error)
    except BaseException as error:
        with suppress(Exception):  # a full disk, or closed by the action
            traceback.print_exc()
        return f"\0{type(error).__name__}: {error}"
    return ""
