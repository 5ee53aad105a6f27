"""How a thread waits for something other than bytes to read, under the engines that block."""

from __future__ import annotations

import select
import socket
import time

from daemons.serving.connection import Connection
from daemons.serving.spool import SpooledSocket

#: Seconds between two looks whether there is room in the budget of the process.
ROOM_NAP = 0.25


def wait_to_write(request: socket.socket) -> None:
    """Wait until a socket with a timeout takes more.  Raises `TimeoutError`."""
    poll = select.poll()
    poll.register(request, select.POLLOUT)
    timeout = request.gettimeout()
    if not poll.poll(None if timeout is None else timeout * 1000):
        raise TimeoutError("timed out")


def wait_for_room(connection: Connection, request: socket.socket) -> None:
    """Wait until the budget of the process allows more to be read, or until the connection is cut or reset.  Raises
    `TimeoutError` at its deadline: without a daemon nobody cuts it."""
    ended = select.poll()
    ended.register(request, 0)  # for POLLHUP and POLLERR, which need not be asked for
    while not connection.may_read():
        if time.monotonic() >= connection.deadline:
            raise TimeoutError("timed out")
        if isinstance(request, SpooledSocket):
            request.flush()
        if ended.poll(ROOM_NAP * 1000):
            break
