"""The deadline of a request and its response."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Deadline(threading.local):
    """The deadline of the request of each thread.

    The timeout of a socket applies to each recv(2) alone, so that a peer that sends single bytes never exceeds it.
    Without a total timeout, `patience` limits the seconds without progress instead."""

    until = patience = math.inf
    in_head = False

    def begin(self, seconds: float | None, patience: float) -> None:
        """Start the deadline: `seconds` in total, or if that is None, `patience` seconds without progress."""
        self.patience = patience if seconds is None else math.inf
        self.until = time.monotonic() + (patience if seconds is None else seconds)

    def note_activity(self, *, sent: bool = False) -> None:
        """Restart `patience` after bytes were sent, or received as part of a body.  The head of a response must be
        complete within one `patience`: otherwise a peer could send interim responses (1xx) without end."""
        if self.patience != math.inf and (sent or not self.in_head):
            self.until = time.monotonic() + self.patience

    @contextmanager
    def head(self) -> Iterator[None]:
        """Mark the block in which a request is sent and the head of its response is received."""
        self.in_head = True
        try:
            yield
        finally:
            self.in_head = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time of the block."""
        until, began = self.until, time.monotonic()
        yield
        self.until = until + time.monotonic() - began

    def left(self) -> float:
        """Return the seconds left.  Raises `TimeoutError` if the deadline has passed."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left
