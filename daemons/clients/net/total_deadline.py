"""The deadline of a reply, which a server that trickles cannot put off."""

from __future__ import annotations

from time import monotonic

#: Bytes per second below which a reply is too slow.
SLOWEST = 16 * 1024


class Due:
    """The deadline of a reply: `timeout` seconds (None: none), and one for each `SLOWEST` bytes.  The timeout of a
    socket would not do, since a peer that sends a byte now and then never exceeds it."""

    def __init__(self, timeout: float | None) -> None:
        self._until = float("inf") if timeout is None else monotonic() + timeout

    def extend(self, seconds: float) -> None:
        """Do not count so many seconds in which nobody waited for the peer."""
        self._until += seconds

    def check(self, received: int) -> None:
        """Raises `TimeoutError` if more bytes are expected by now."""
        if monotonic() > self._until + received / SLOWEST:
            raise TimeoutError("timed out")
