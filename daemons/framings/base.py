"""What every framing is: a `Framing` makes a `Decoder` for each connection and encodes replies.

The contract, in one sentence, and fuzzed as such in ``tests/framings``:

    *For any bytes, cut anywhere, a decoder returns messages, or comes to one error, and never
    raises anything.*

An error is not raised because the messages before it are good and deserve their replies:
`Decoder.decode` returns those, and leaves the error in `Decoder.error`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence


class FramingError(Exception):
    """What a peer sent can never become a message.  The text is for the log, never for the peer."""

    #: What the peer is told, where the protocol itself has words for this error; else the service has.
    apology: bytes = b""


class Oversize(FramingError):
    """A message is longer than its limit."""


class Malformed(FramingError):
    """The bytes break the framing's own rules."""


class Incomplete(FramingError):
    """The input ended in the middle of a message.  The text, where there is one, says how far it had come."""


#: Bytes from which on it pays to cut a message out of a buffer without a second copy.
LARGE = 64 * 1024


def cut_out(buffer: bytes | bytearray, start: int, end: int) -> bytes:
    """Return a part of `buffer` as bytes; of a large one no second copy is made on the way."""
    if end - start < LARGE:
        return bytes(buffer[start:end])
    with memoryview(buffer) as view:
        return bytes(view[start:end])


class Decoder(ABC):
    """The bytes of one connection that are not yet a message."""

    __slots__ = ("error",)

    #: Set once, when the input can never become a message again; then everything is ignored.
    error: FramingError | None
    #: Whether the peer has said that this was its last message, in protocols that have words for that; then everything
    #: is ignored, and `surplus` says whether there was something.
    ended: bool = False
    surplus: bool = False

    def __init__(self) -> None:
        self.error = None

    @abstractmethod
    def decode(self, data: bytes) -> Sequence[bytes]:
        """Take `data` (any length, cut anywhere) and return the messages it completed, oldest first.

        ``decode(b"")`` completes nothing; the end of the input is `finish`.
        """

    @property
    @abstractmethod
    def pending(self) -> bool:
        """Whether bytes of an incomplete message are being held."""

    @property
    def buffered(self) -> int:
        """Bytes of memory kept for an incomplete message, as the budget of the process counts them (``[limits] held``).

        By default the lengths of all attributes that are bytes; a decoder that keeps anything else defines it."""
        names = [name for kind in type(self).__mro__ for name in getattr(kind, "__slots__", ())]
        values = [*(getattr(self, name, None) for name in names), *getattr(self, "__dict__", {}).values()]
        return sum(len(value) for value in values if isinstance(value, (bytes, bytearray)))

    def finish(self) -> Sequence[bytes]:
        """The input has ended: return the messages that this completes, in most framings none.

        Held bytes are never made into a message; they become `Incomplete`.
        """
        if self.error is None and self.pending:
            self.error = Incomplete()
        return ()


class Framing(ABC):
    """How messages stand on the wire.  Immutable, shared by all connections of a daemon."""

    @abstractmethod
    def decoder(self) -> Decoder:
        """A fresh decoder, for one connection."""

    def encode(self, reply: bytes) -> bytes:
        """The bytes that carry `reply`.  By default the reply itself: many protocols answer in
        another framing than they are asked in."""
        return reply
