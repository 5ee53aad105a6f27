"""The deadline of a whole reply, which a peer cannot extend by sending slowly."""

from __future__ import annotations

from time import monotonic

#: Bytes per second below which a reply is too slow.
SLOWEST = 16 * 1024


class ReplyDeadline:
    """The deadline of a reply: `timeout` seconds (None: no deadline), plus one second per `SLOWEST` bytes received.

    The timeout of a socket applies to each recv(2) alone, so that a peer that sends single bytes never exceeds it."""

    def __init__(self, timeout: float | None) -> None:
        self._until = float("inf") if timeout is None else monotonic() + timeout

    def extend(self, seconds: float) -> None:
        """Exclude so many seconds during which the client was not waiting for the peer."""
        self._until += seconds

    def check(self, received: int) -> None:
        """Raise `TimeoutError` if the deadline for `received` bytes has passed."""
        if monotonic() > self._until + received / SLOWEST:
            raise TimeoutError("timed out")
