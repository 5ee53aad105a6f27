"""Something done in a child process, for its errors alone."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable

from daemons.operating.complaints import ConfigurationError
from daemons.serving import signals


class ChildError(Exception):
    """What was tried in a child process has failed there, with a bug; the text is its name and reason."""


def try_in_child(action: Callable[[], object]) -> None:
    """Do `action` in a child process, which is thrown away; its complaints are raised here."""
    read, write = os.pipe()
    # A signal must not reach the waker of this process by way of its child.
    with signals.held_back():
        pid = os.fork()
        if pid == 0:
            os.close(read)
            os._exit(_tried(action, write))
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as pipe:
        complaints, _, reason = pipe.read().partition("\0")
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if complaints:
        raise ConfigurationError(complaints.splitlines())
    if code:
        raise ChildError(reason or f"the service could not be tried: exit code {code}")


def _tried(action: Callable[[], object], write: int) -> int:
    """In the child: do it, and say what came of it.  Returns the exit code."""
    try:
        signals.deafen()
        for number in signals.SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)
        action()
    except ConfigurationError as error:
        os.write(write, str(error).encode("utf-8", "replace"))
        return 1
    except BaseException as error:
        traceback.print_exc()
        os.write(write, f"\0{type(error).__name__}: {error}".encode("utf-8", "replace"))
        return 1
    return 0
