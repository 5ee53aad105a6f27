"""A socket pair that wakes a selector: djb's self-pipe trick."""

from __future__ import annotations

import socket
from contextlib import suppress


class Waker:
    """Whoever writes a byte wakes the loop that selects on `fileno`.

    Signal handlers only ever do that (`signal.set_wakeup_fd` on `writer`: the byte is the signal's
    number); threads call `wake`.  Neither end blocks; a full buffer loses nothing that matters, since
    then the loop is about to wake anyway.
    """

    def __init__(self) -> None:
        self._reader, self.writer = socket.socketpair()
        self._reader.setblocking(False)
        self.writer.setblocking(False)

    def fileno(self) -> int:
        return self._reader.fileno()

    def wake(self, number: int = 0) -> None:
        """Wake the loop; from any thread.  `number`: of a signal that it is to hear of."""
        with suppress(OSError):
            self.writer.send(bytes((number,)))

    def heard(self) -> list[int]:
        """The signals that came since the last call, in their order."""
        try:
            return [number for number in self._reader.recv(4096) if number]
        except BlockingIOError:
            return []

    def close(self) -> None:
        self._reader.close()
        self.writer.close()
