"""Base classes: a `Framing` creates a `Decoder` for each connection, and encodes replies.

The contract, which fuzz tests in ``tests/framings`` check:

    *For any bytes, cut anywhere, a decoder returns messages, or sets one error, and never raises anything.*

An error is not raised, because the messages before it are valid and are answered: `Decoder.decode` returns them, and
sets `Decoder.error`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence


class FramingError(Exception):
    """The input cannot be decoded.  The text is logged, and never sent to the peer."""

    #: Bytes to send to the peer, if the protocol defines them for this error; if empty, `Service.apology` is sent.
    apology: bytes = b""


class Oversize(FramingError):
    """A message is longer than its limit."""


class Malformed(FramingError):
    """The bytes violate the rules of the framing."""


class Incomplete(FramingError):
    """The input ended in the middle of a message.  The text, if any, says how much of it was received."""


#: Minimum message size in bytes at which a memoryview is faster than a second copy.
LARGE = 64 * 1024


def cut_out(buffer: bytes | bytearray, start: int, end: int) -> bytes:
    """Return ``buffer[start:end]`` as bytes; a large part is copied only once."""
    if end - start < LARGE:
        return bytes(buffer[start:end])
    with memoryview(buffer) as view:
        return bytes(view[start:end])


def fill(held: bytearray, size: int, data: bytes | memoryview, start: int) -> int:
    """Move bytes from ``data[start:]`` to `held` until it has `size` bytes; return the end of the moved bytes."""
    end = min(len(data), start + max(0, size - len(held)))
    held += data[start:end]
    return end


class Decoder(ABC):
    """Decoder of one connection.  It holds the bytes of an incomplete message."""

    __slots__ = ("error",)

    #: Set once, when the input cannot be decoded; further input is ignored.
    error: FramingError | None
    #: Whether the peer has announced that no message follows, for example with ``Connection: close``; further input is
    #: ignored.
    ended: bool = False
    #: Whether input was received after `ended`.
    surplus: bool = False

    def __init__(self) -> None:
        self.error = None

    @abstractmethod
    def decode(self, data: bytes) -> Sequence[bytes]:
        """Process `data` (any length, cut anywhere) and return the messages completed by it, oldest first.

        ``decode(b"")`` completes none; call `finish` at the end of the input.
        """

    def decode_one(self, data: bytes, start: int) -> tuple[bytes | None, int]:
        """Process `data` from `start` up to the end of one message, and no further.

        Return the message, and the position behind it; nothing behind it is held.  Return None and ``len(data)`` if no
        message is complete, or if `error` is set.  For conversations in which the framing may change.  Raises
        `NotImplementedError`; a decoder that can be used there overrides it: see `Framing.steps`."""
        raise NotImplementedError(f"{type(self).__name__} has no decode_one()")

    @property
    @abstractmethod
    def pending(self) -> bool:
        """Whether bytes of an incomplete message are held."""

    @property
    def buffered(self) -> int:
        """Bytes of memory held for an incomplete message, as counted by the budget of the process (``[limits] held``).

        By default, the sum of the lengths of all attributes that are bytes; a decoder with other buffers overrides it.
        """
        names = [name for kind in type(self).__mro__ for name in getattr(kind, "__slots__", ())]
        values = [*(getattr(self, name, None) for name in names), *getattr(self, "__dict__", {}).values()]
        return sum(len(value) for value in values if isinstance(value, (bytes, bytearray)))

    def finish(self) -> Sequence[bytes]:
        """End the input; return the messages that its end completes: in most framings, none.

        If bytes of an incomplete message are held, set `error` to `Incomplete`.
        """
        if self.error is None and self.pending:
            self.error = Incomplete()
        return ()


class Framing(ABC):
    """Encoding of messages in a byte stream.  Immutable, shared by all connections of a daemon."""

    @abstractmethod
    def decoder(self) -> Decoder:
        """Return a new decoder, for one connection."""

    def encode(self, reply: bytes) -> bytes:
        """Return the encoded reply.  By default, return `reply` unchanged: in many protocols, replies and requests have
        different framings."""
        return reply

    @property
    def steps(self) -> bool:
        """Whether its decoders can decode one message at a time, so that the framing of a conversation may change.

        An inherited `decode_one` does not count if a subclass overrides `decode`: their messages may differ."""
        kind = type(self.decoder())
        defining = next(each for each in kind.__mro__ if "decode" in vars(each) or "decode_one" in vars(each))
        return "decode_one" in vars(defining) and defining is not Decoder
