"""Connecting to a Unix socket as to TCP: a full queue is waited for."""

from __future__ import annotations

import socket
from time import monotonic, sleep

#: Seconds between two attempts.
RETRY = 0.01


def connect(path: str, timeout: float) -> socket.socket:
    """Return a socket connected to the server at `path`, whose operations time out after `timeout` seconds.

    While the server's queue is full, connect(2) with a timeout fails at once, and poll(2) does not report that there is
    room again; so it is tried until `timeout`, as TCP does by itself.  Raises `OSError`, `TimeoutError` among them.
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
