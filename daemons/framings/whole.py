"""A message lasts until the end of the input: patterns 1 and 2, a stream one way or each way, and then the end."""

from __future__ import annotations

from collections.abc import Sequence

from daemons.framings.base import Decoder, Framing, Oversize


class Whole(Framing):
    """All that comes until the peer closes its half is one message (the notes' receive until EOF).

    limit
        The longest message in bytes.  A security limit, so it has no default.

    Where nothing comes there is no message; but an empty datagram, which did come, is one.  A reply can be
    given only after the end, so there is one at most.  Raises `ValueError` for a limit below 1.
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
    """Holds all that has come.  In one piece: of a list of pieces, each octet might be an object of its own."""

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

    def finish(self) -> Sequence[bytes]:
        if self.error is not None:
            return ()
        message, self._held = bytes(self._held), bytearray()
        return (message,)
