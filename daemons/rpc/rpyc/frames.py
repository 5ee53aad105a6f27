"""Frames of RPyC: length-prefixed messages, with limits on size and time."""

from __future__ import annotations

import socket
import time
import zlib
from typing import Any

#: Bytes of the header of a frame, and of the line feed after the message.
HEADER = 5
END = 1

#: Values in a compressed message, in addition to one for each compressed byte.  Without this bound, a stream of
#: messages of 30 bytes with 1,000 values each takes 22 times the CPU time of honest messages of that size.
COMPRESSED_VALUES = 64


class Refused(ValueError):
    """A request of the peer is refused.  The text is sent to the peer."""


class Oversize(Refused):
    """A message exceeds the size limit."""


class Frames:
    """Replacement of `rpyc.core.channel.Channel`: length-prefixed messages over a connected socket.

    After the first `Oversize` or `TimeoutError` no more messages are received.  The caller owns and closes the socket.

    Args:
        limit: maximum bytes of a message, decompressed; a longer one is not read.
        idle: seconds until a message begins.
        message: seconds from the beginning of a message to its end.
        write: seconds until the peer has taken a sent message.
    """

    def __init__(self, sock: socket.socket, *, limit: int, idle: float, message: float, write: float) -> None:
        self._socket = sock
        self._limit, self._idle, self._message, self._write = limit, idle, message, write
        self._held = bytearray()
        #: The error that ended reception, if any.
        self.over: Exception | None = None
        self.closed = False
        #: Maximum number of values in the last message, if it was compressed; otherwise None.
        self.values: int | None = None

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self.closed = True

    def poll(self, timeout: Any = None) -> bool:
        """Wait until a message begins.  `timeout` is ignored, since `CONFIG` sets none.  Raises `TimeoutError`, and
        `EOFError` if the peer has closed the connection."""
        if self.over is not None:
            raise self.over
        if self.closed:
            raise EOFError("closed")
        if not self._held:
            self._receive(time.monotonic() + self._idle)
        return True

    def recv(self) -> bytes:
        """Return the next message.  Raises `Oversize`, `TimeoutError`, and `EOFError` if the peer has closed the
        connection."""
        until = time.monotonic() + self._message
        header = self._take(HEADER, until)
        length, packed = int.from_bytes(header[:4], "big"), header[4]
        if length > self._limit:
            self.over = Oversize(f"a message of {length} bytes; at most {self._limit} are accepted")
            raise self.over
        data = self._take(length + END, until)[:length]
        self.values = COMPRESSED_VALUES + length if packed else None
        return self._decompress(data) if packed else data

    def send(self, data: bytes) -> None:
        """Send one message.  Raises `OSError`, and `EOFError` after `close`."""
        if self.closed:
            raise EOFError("closed")
        try:
            self._socket.settimeout(self._write)
            self._socket.sendall(b"%b\0%b\n" % (len(data).to_bytes(4, "big"), data))
        except OSError as error:
            self.over, self.closed = error, True
            raise

    def _decompress(self, data: bytes) -> bytes:
        decompressor = zlib.decompressobj()
        try:
            found = decompressor.decompress(data, self._limit + 1)
        except zlib.error as error:
            raise Refused("malformed compressed data") from error
        if len(found) > self._limit:
            self.over = Oversize(f"a message of more than {self._limit} bytes when decompressed")
            raise self.over
        if not decompressor.eof or decompressor.unused_data:
            raise Refused("compressed data is incomplete or has trailing bytes")
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
            # Not poll(2), which does not see data buffered by TLS.
            data = self._socket.recv(64 * 1024)
        except OSError as error:
            self.over = error
            raise
        if not data:
            self.over = EOFError("connection closed by the peer")
            raise self.over
        self._held += data
