"""Messages with a length prefix (pattern 5)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from daemons.framings.base import Decoder, Framing, Incomplete, Oversize, cut_out, fill

#: Unsigned integers of `struct`: 1, 2, 4 and 8 bytes.
UNSIGNED = "BHILQ"


class LengthPrefixed(Framing):
    """Messages with a length prefix, which is not part of the message; `encode` adds it to a reply.

    limit
        Maximum message size in bytes, without the prefix.  A security limit, so it has no default: a prefix of four
        bytes can announce 4 GiB.  A longer message is refused when its prefix is received.
    prefix
        Layout of the length, as in `struct`: a byte order and one unsigned integer.  ``"!I"``: 32 bits, big-endian;
        ``"<I"``: little-endian; DNS over TCP has ``"!H"`` (RFC 1035, section 4.2.2).

    Raises `ValueError` for an invalid prefix, and for a limit that the prefix cannot express.
    """

    def __init__(self, *, limit: int, prefix: str = "!I") -> None:
        self.layout = layout = layout_of("LengthPrefixed", prefix)
        if not 1 <= limit < 256**layout.size:
            raise ValueError(
                f"LengthPrefixed: limit={limit}; 1 to {256**layout.size - 1} is expected with prefix={prefix!r}"
            )
        self.limit = limit
        self.prefix = prefix

    def __repr__(self) -> str:
        return f"LengthPrefixed(limit={self.limit}, prefix={self.prefix!r})"

    def decoder(self) -> LengthPrefixedDecoder:
        return LengthPrefixedDecoder(self)

    def encode(self, reply: bytes) -> bytes:
        """Return `reply` with its prefix.  Raises `ValueError` for a reply too long for the prefix."""
        return prefixed(self.layout, reply)


def layout_of(framing: str, prefix: str) -> struct.Struct:
    """Return the layout of a prefix.  Raises `ValueError`; the text names `framing`."""
    if len(prefix) != 2 or prefix[0] not in "!<>" or prefix[1] not in UNSIGNED:
        raise ValueError(f"{framing}: prefix={prefix!r}; !, < or >, and one of {UNSIGNED} is expected, as in '!I'")
    return struct.Struct(prefix)


def prefixed(layout: struct.Struct, data: bytes) -> bytes:
    """Return `data` with its length prefix.  Raises `ValueError` if it is too long."""
    try:
        return layout.pack(len(data)) + data
    except struct.error as error:
        raise ValueError(f"{len(data)} bytes: too long for a length prefix of {layout.size} bytes") from error


class LengthPrefixedDecoder(Decoder):
    """Holds part of one message and its prefix."""

    __slots__ = ("_framing", "_held")

    def __init__(self, framing: LengthPrefixed) -> None:
        super().__init__()
        self._framing = framing
        self._held = bytearray()

    @property
    def pending(self) -> bool:
        return bool(self._held)

    @property
    def buffered(self) -> int:
        return self._held.__alloc__()

    def decode(self, data: bytes) -> Sequence[bytes]:
        if self.error is not None:
            return ()
        layout, limit, held = self._framing.layout, self._framing.limit, self._held
        size = layout.size
        source: bytes | bytearray = data
        if held:
            held += data
            source = held
        messages: list[bytes] = []
        start, have = 0, len(source)
        while have - start >= size:
            (length,) = layout.unpack_from(source, start)
            if length > limit:
                held.clear()
                self.error = Oversize(f"a message of {length} bytes is announced; {limit} are allowed")
                return messages
            end = start + size + length
            if end > have:
                break
            messages.append(cut_out(source, start + size, end))
            start = end
        if source is held:
            del held[:start]
        else:
            held += data[start:]
        return messages

    def decode_one(self, data: bytes, start: int) -> tuple[bytes | None, int]:
        if self.error is not None:
            return None, len(data)
        layout, limit, held = self._framing.layout, self._framing.limit, self._held
        size = layout.size
        view = memoryview(data)
        start = fill(held, size, view, start)
        if len(held) < size:
            return None, len(data)
        (length,) = layout.unpack_from(held)
        if length > limit:
            held.clear()
            self.error = Oversize(f"a message of {length} bytes is announced; {limit} are allowed")
            return None, len(data)
        end = fill(held, size + length, view, start)
        if len(held) < size + length:
            return None, len(data)
        message = cut_out(held, size, size + length)
        held.clear()
        return message, end

    def finish(self) -> Sequence[bytes]:
        held, layout = self._held, self._framing.layout
        if self.error is None and held:
            if len(held) < layout.size:
                self.error = Incomplete(f"socket closed {len(held)} bytes into a {layout.size}-byte prefix")
            else:
                (length,) = layout.unpack_from(held)
                self.error = Incomplete(f"socket closed {len(held) - layout.size} bytes into a {length}-byte message")
        return ()
