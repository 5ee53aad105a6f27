"""A stream without messages, processed in pieces as they are received."""

from __future__ import annotations

from collections.abc import Sequence

from daemons.framings.base import Decoder, Framing


class Stream(Framing):
    """Each received piece is one message: for a service that does not depend on how a stream is split, for example
    because it echoes the bytes, counts them or converts them to upper case.

    Nothing is held, so there is no limit.  Pieces do not correspond to the peer's calls of send(2): a service with
    messages needs another framing.
    """

    def __repr__(self) -> str:
        return "Stream()"

    def decoder(self) -> StreamDecoder:
        return StreamDecoder()


class StreamDecoder(Decoder):
    """Holds nothing."""

    __slots__ = ()

    @property
    def pending(self) -> bool:
        return False

    def decode(self, data: bytes) -> Sequence[bytes]:
        return (data,) if data else ()

    def decode_one(self, data: bytes, start: int) -> tuple[bytes | None, int]:
        return data[start:] or None, len(data)
