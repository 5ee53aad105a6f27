"""Sending and receiving at the same time."""

from __future__ import annotations

import select
import socket
from typing import Protocol

#: Bytes per recv(2).
SIZE = 64 * 1024


class SendsAndReceives(Protocol):
    """A connection whose bytes are not those of its socket."""

    def send_and_receive(self, data: bytes) -> bytes: ...


def send_and_receive(peer: socket.socket | SendsAndReceives, data: bytes, timeout: float) -> bytes:
    """Send all of `data`; return the bytes received meanwhile.  Raises `OSError`; `TimeoutError` if nothing could be
    sent or received for `timeout` seconds."""
    if not isinstance(peer, socket.socket):
        return peer.send_and_receive(data)
    unsent, came = memoryview(data), bytearray()
    listening = select.POLLIN
    poll = select.poll()
    while unsent:
        poll.register(peer, select.POLLOUT | listening)
        events = poll.poll(timeout * 1000)
        if not events:
            raise TimeoutError("timed out")
        if events[0][1] & select.POLLIN:
            piece = peer.recv(SIZE)
            came += piece
            # A peer that has closed its sending side may still receive.
            listening = select.POLLIN if piece else 0
        if events[0][1] & ~select.POLLIN:
            try:
                unsent = unsent[peer.send(unsent, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                pass
    return bytes(came)
