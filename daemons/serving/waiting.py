"""Waits of blocking engines for a writable socket, and for room in the memory budget."""

from __future__ import annotations

import select
import socket
import time

from daemons.serving.connection import Connection

#: Seconds between two checks for room in the memory budget of the process.
ROOM_NAP = 0.25


def wait_to_write(request: socket.socket) -> None:
    """Wait until a socket is writable.  Raise `TimeoutError` after the timeout of the socket, if it has one."""
    poll = select.poll()
    poll.register(request, select.POLLOUT)
    timeout = request.gettimeout()
    if not poll.poll(None if timeout is None else timeout * 1000):
        raise TimeoutError("timed out")


def wait_for_room(connection: Connection, request: socket.socket) -> None:
    """Wait until the memory budget of the process allows reading more, or the connection is cut or reset.

    Raise `TimeoutError` at the deadline of the connection: if no daemon runs, no other thread enforces the deadline."""
    ended = select.poll()
    ended.register(request, 0)  # POLLHUP and POLLERR are always reported
    while not connection.may_read():
        if time.monotonic() >= connection.deadline:
            raise TimeoutError("timed out")
        if (spool := connection.spool) is not None:
            spool.flush()
        if ended.poll(ROOM_NAP * 1000):
            break


def is_over(sock: socket.socket) -> bool:
    """Return whether a connection was reset or is shut in both directions, poll(2): POLLERR and POLLHUP."""
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))
