"""Sending and receiving at the same time."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from typing import Protocol

#: Bytes per recv(2).
SIZE = 64 * 1024


class SendsAndReceives(Protocol):
    """A connection that transforms its bytes, as TLS does, so that its socket cannot be used directly."""

    def send_and_receive(self, data: bytes) -> Iterator[bytes]: ...


def send_and_receive(peer: socket.socket | SendsAndReceives, data: bytes, timeout: float) -> Iterator[bytes]:
    """Send all of `data` and yield the bytes received meanwhile.

    They are yielded as they arrive, since a peer that does not receive may send without end.  Raises `OSError`, and
    `TimeoutError` if nothing could be sent or received for `timeout` seconds."""
    if not isinstance(peer, socket.socket):
        yield from peer.send_and_receive(data)
        return
    unsent = memoryview(data)
    listening = select.POLLIN
    poll = select.poll()
    while unsent:
        poll.register(peer, select.POLLOUT | listening)
        events = poll.poll(timeout * 1000)
        if not events:
            raise TimeoutError("timed out")
        if events[0][1] & select.POLLIN:
            # A peer that has closed its sending side may still receive.
            listening = 0
            if piece := peer.recv(SIZE):
                listening = select.POLLIN
                yield piece
        if events[0][1] & ~select.POLLIN:
            try:
                unsent = unsent[peer.send(unsent, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                pass
