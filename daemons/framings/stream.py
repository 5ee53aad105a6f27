"""No messages at all: a stream, of which each piece is handed on as it comes."""

from __future__ import annotations

from collections.abc import Sequence

from daemons.framings.base import Decoder, Framing


class Stream(Framing):
    """What came with one receive is one message: for a service to which it is all the same where a stream is cut,
    as one that echoes it, counts it or turns it into capitals.

    Nothing is held, so there is nothing to limit.  A piece says nothing about what the peer has sent with one
    send: who needs to know where a message ends needs another framing.
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
