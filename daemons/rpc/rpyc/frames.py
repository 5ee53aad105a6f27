"""The frames of RPyC: a message behind its length, bounded before it is held, as is the time that it may take."""

from __future__ import annotations

import socket
import time
import zlib
from typing import Any

#: Octets of the header of a frame, and of the line end behind it.
HEADER = 5
END = 1


class Refused(ValueError):
    """What the peer asks is not done.  The text is for the peer."""


class Oversize(Refused):
    """A message is longer than is taken."""


class Frames:
    """What `rpyc.core.channel.Channel` is, over a connected socket: messages behind their lengths.

    `limit` is the longest message in octets, unpacked; who announces more is not read on.  A message begins within
    `idle` seconds, is complete within `message` seconds, and ours is taken within `write` seconds.  After the first
    `Oversize` or `TimeoutError` there are no more messages.  The socket stays its owner's, who closes it.
    """

    def __init__(self, sock: socket.socket, *, limit: int, idle: float, message: float, write: float) -> None:
        self._socket = sock
        self._limit, self._idle, self._message, self._write = limit, idle, message, write
        self._held = bytearray()
        #: Why there are no more messages.
        self.over: Exception | None = None
        self.closed = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self.closed = True

    def poll(self, timeout: Any = None) -> bool:
        """Wait until a message begins.  `timeout` is RPyC's, and not used: `CONFIG` has none.  Raises `TimeoutError`,
        and `EOFError` where the peer has left."""
        if self.over is not None:
            raise self.over
        if self.closed:
            raise EOFError("closed")
        if not self._held:
            self._receive(time.monotonic() + self._idle)
        return True

    def recv(self) -> bytes:
        """The next message.  Raises `Oversize`, `TimeoutError`, and `EOFError` where the peer has left."""
        until = time.monotonic() + self._message
        header = self._take(HEADER, until)
        length, packed = int.from_bytes(header[:4], "big"), header[4]
        if length > self._limit:
            self.over = Oversize(f"a message of {length} octets; at most {self._limit} are taken")
            raise self.over
        data = self._take(length + END, until)[:length]
        return self._unpacked(data) if packed else data

    def send(self, data: bytes) -> None:
        """Send one message.  Raises `OSError`, and `EOFError` once it is closed."""
        if self.closed:
            raise EOFError("closed")
        try:
            self._socket.settimeout(self._write)
            self._socket.sendall(b"%b\0%b\n" % (len(data).to_bytes(4, "big"), data))
        except OSError as error:
            self.over, self.closed = error, True
            raise

    def _unpacked(self, data: bytes) -> bytes:
        unpacking = zlib.decompressobj()
        try:
            found = unpacking.decompress(data, self._limit + 1)
        except zlib.error as error:
            raise Refused("a message that cannot be unpacked") from error
        if len(found) > self._limit:
            self.over = Oversize(f"a message of more than {self._limit} octets, unpacked; no more are taken")
            raise self.over
        if not unpacking.eof or unpacking.unused_data:
            raise Refused("a message whose compressed data ends too early, or is followed by other bytes")
        return found

    def _take(self, size: int, until: float) -> bytes:
        while len(self._held) < size:
            self._receive(until)
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken

    def _receive(self, until: float) -> None:
        try:
            if (left := until - time.monotonic()) <= 0:
                raise TimeoutError("timed out")
            self._socket.settimeout(left)
            # Over TLS some may be held that poll(2) does not see; so it is the socket that is asked.
            data = self._socket.recv(64 * 1024)
        except OSError as error:
            self.over = error
            raise
        if not data:
            self.over = EOFError("the peer has left")
            raise self.over
        self._held += data
