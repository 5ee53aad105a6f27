"""Helpers for counters: artificial connections, and processes that die on purpose."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from daemons.serving.connection import Connection
from daemons.serving.conversation.endings import Ending

#: Description in the scoreboards of the tests.
ABOUT = {"name": "x", "engine": "loop"}


def conversation(
    ending: Ending | None = None, messages: int | None = 0, received: int = 0, sent: int = 0
) -> Connection:
    made = Connection(None, ("127.0.0.1", 1), 10.0)  # type: ignore[arg-type]
    made.ending, made.messages, made.received, made.sent = ending, messages, received, sent
    return made


def in_child(action: Callable[[], None], number: signal.Signals | None = None) -> None:
    """Run `action` in a child process, which then exits, or dies of the signal `number`."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
            if number is not None:
                os.kill(os.getpid(), number)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
