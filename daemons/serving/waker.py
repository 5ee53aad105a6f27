"""Wake-up of a poller by a socket pair: the self-pipe trick."""

from __future__ import annotations

import socket
from contextlib import suppress


class Waker:
    """Socket pair: a byte written to one end wakes the loop that polls the other end.

    Signals write their number (`signal.set_wakeup_fd` on `writer`); threads call `wake`.  Neither end blocks.  If the
    buffer is full, the byte is dropped: the loop is about to wake anyway.
    """

    def __init__(self) -> None:
        self._reader, self.writer = socket.socketpair()
        self._reader.setblocking(False)
        self.writer.setblocking(False)

    def fileno(self) -> int:
        return self._reader.fileno()

    def wake(self, number: int = 0) -> None:
        """Wake the loop, and pass it a signal `number` unless that is 0.  Thread-safe."""
        with suppress(OSError):
            self.writer.send(bytes((number,)))

    def receive(self) -> list[int]:
        """Return the signal numbers received since the last call, in order."""
        try:
            return [number for number in self._reader.recv(4096) if number]
        except BlockingIOError:
            return []

    def close(self) -> None:
        self._reader.close()
        self.writer.close()
