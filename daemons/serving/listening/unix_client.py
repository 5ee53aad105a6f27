"""Client connections to Unix sockets that wait, like TCP, while the server's queue is full."""

from __future__ import annotations

import socket
from time import monotonic, sleep

#: Seconds between two attempts.
RETRY = 0.01


def connect(path: str, timeout: float) -> socket.socket:
    """Return a socket connected to the server at `path`, whose operations time out after `timeout` seconds.

    While the server's queue is full, a non-blocking connect(2) fails at once, and poll(2) does not report when there is
    room again.  So retry until `timeout`, as TCP does by itself.  Raise `OSError`, including `TimeoutError`.
    """
    deadline = monotonic() + timeout
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(timeout)
            sock.connect(path)
        except BlockingIOError:
            sock.close()
        except BaseException:
            sock.close()
            raise
        else:
            return sock
        if monotonic() > deadline:
            raise TimeoutError("timed out")
        sleep(RETRY)
