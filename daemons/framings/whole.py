"""Messages that last until the end of the input (patterns 1 and 2: a stream in one direction, or in each)."""

from __future__ import annotations

from collections.abc import Sequence

from daemons.framings.base import Decoder, Framing, Oversize


class Whole(Framing):
    """The whole input, until the peer shuts down its side, is one message.

    limit
        Maximum message size in bytes.  A security limit, so it has no default.

    An empty stream is no message; an empty datagram is one.  The reply follows the end of the input.  Raises
    `ValueError` for a limit below 1.
    """

    def __init__(self, *, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"Whole: limit={limit}; 1 or more is expected")
        self.limit = limit

    def __repr__(self) -> str:
        return f"Whole(limit={self.limit})"

    def decoder(self) -> WholeDecoder:
        return WholeDecoder(self)


class WholeDecoder(Decoder):
    """Holds the input in one buffer: a list of pieces could have an object for each byte."""

    __slots__ = ("_held", "_limit")

    def __init__(self, framing: Whole) -> None:
        super().__init__()
        self._held = bytearray()
        self._limit = framing.limit

    @property
    def pending(self) -> bool:
        return bool(self._held)

    @property
    def buffered(self) -> int:
        return self._held.__alloc__()

    def decode(self, data: bytes) -> Sequence[bytes]:
        if self.error is None:
            if len(self._held) + len(data) > self._limit:
                self._held.clear()
                self.error = Oversize(f"no end within {self._limit} bytes")
            else:
                self._held += data
        return ()

    def decode_one(self, data: bytes, start: int) -> tuple[bytes | None, int]:
        self.decode(data[start:])
        return None, len(data)

    def finish(self) -> Sequence[bytes]:
        if self.error is not None:
            return ()
        message, self._held = bytes(self._held), bytearray()
        return (message,)
