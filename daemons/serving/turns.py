"""Turns of the threads that answer pipelined messages, so that these do not delay the other threads.

A thread that answers all messages of one read holds the interpreter lock for about a millisecond.  If hundreds of them
compete for it, each wait for the lock takes hundreds of times as long, and a short conversation has about ten waits.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Messages in one read from which on a peer pipelines.
PIPELINED = 4

#: Seconds that the first of the waiting threads waits for its turn: ten times as long as a turn takes, unless the
#: service blocks.
PATIENCE = 0.01


class Turns:
    """One call at a time; the others wait.

    Of the waiting threads one at a time waits for at most `PATIENCE`, then it goes on without a turn.  So a service
    that blocks in its turn delays the others, but does not stop them."""

    def __init__(self) -> None:
        self._turn = allocate_lock()
        #: Held by the first of the waiting threads.
        self._next = allocate_lock()

    def take(self) -> bool:
        """Wait for a turn.  Return whether there is one, which `give` must end."""
        with self._next:
            return self._turn.acquire(timeout=PATIENCE)

    def give(self) -> None:
        """End a turn."""
        self._turn.release()

    def call(self, function: Callable[[bytes], T], data: bytes) -> T:
        """Call the function in a turn, and return its result."""
        taken = self.take()
        try:
            return function(data)
        finally:
            if taken:
                self.give()


#: For all servers of this process, since they share the interpreter lock.
PROCESS = Turns()
