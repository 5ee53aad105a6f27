"""Messages that end with a delimiter (pattern 4)."""

from __future__ import annotations

from collections.abc import Sequence

from daemons.framings.base import Decoder, Framing, Oversize, cut_out


class Until(Framing):
    """Messages that end with `delimiter`, and include it: ``What is your quest?``

    delimiter
        One byte or more.
    limit
        Maximum message size in bytes, including the delimiter.  A security limit, so it has no default: a peer that has
        sent `limit` bytes without a delimiter is refused.
    skip
        Bytes that are dropped, uncounted, before a message: for example the newlines that a user of ``nc`` types after
        each message, as in RFC 9112, section 2.2.

    Replies are sent unchanged.  Raises `ValueError` for arguments with which no message could be decoded.
    """

    def __init__(self, delimiter: bytes, *, limit: int, skip: bytes = b"") -> None:
        if not delimiter:
            raise ValueError("Until: the delimiter is empty; one byte or more is expected")
        if limit < len(delimiter):
            raise ValueError(f"Until: limit={limit} is shorter than the delimiter {delimiter!r}")
        if delimiter[0] in skip:
            raise ValueError(f"Until: skip={skip!r} would swallow the delimiter {delimiter!r}")
        self.delimiter = delimiter
        self.limit = limit
        self.skip = skip

    def __repr__(self) -> str:
        return f"Until({self.delimiter!r}, limit={self.limit}, skip={self.skip!r})"

    def decoder(self) -> UntilDecoder:
        return UntilDecoder(self)


class UntilDecoder(Decoder):
    """Holds the bytes after the last delimiter.  Each byte is searched once, so a message in a thousand pieces costs no
    more than a message in one piece."""

    __slots__ = ("_delimiter", "_held", "_limit", "_skip")

    def __init__(self, framing: Until) -> None:
        super().__init__()
        self._delimiter = framing.delimiter
        self._limit = framing.limit
        self._skip = framing.skip
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
        held, delimiter = self._held, self._delimiter
        if not held:
            if self._skip:
                data = data.lstrip(self._skip)
            # The usual case: one read returns exactly one message.
            end = data.find(delimiter) + len(delimiter)
            if end == len(data) and len(delimiter) <= end <= self._limit:
                return (data,)
        # A delimiter may be cut in two, so the last bytes are searched again.
        seen = max(0, len(held) - len(delimiter) + 1)
        held += data
        messages: list[bytes] = []
        start = 0
        while (found := held.find(delimiter, seen)) >= 0:
            end = found + len(delimiter)
            if end - start > self._limit:
                return self._refuse(messages)
            messages.append(cut_out(held, start, end))
            start = seen = self._past_skipped(end)
        del held[:start]
        # No delimiter within the limit.
        if len(held) >= self._limit:
            return self._refuse(messages)
        return messages

    def decode_one(self, data: bytes, start: int) -> tuple[bytes | None, int]:
        if self.error is not None:
            return None, len(data)
        held, delimiter = self._held, self._delimiter
        if not held:
            while start < len(data) and data[start] in self._skip:
                start += 1
            found = data.find(delimiter, start, start + self._limit)
            if found >= 0:
                end = found + len(delimiter)
                return data[start:end], end
        had = len(held)
        seen = max(0, had - len(delimiter) + 1)
        held += memoryview(data)[start : start + self._limit - had]  # the other bytes cannot be part of the message
        found = held.find(delimiter, seen)
        if found < 0:
            if len(held) >= self._limit:
                self._refuse([])
            return None, len(data)
        end = found + len(delimiter)
        message = cut_out(held, 0, end)
        held.clear()
        return message, start + end - had

    def _past_skipped(self, position: int) -> int:
        held, skip = self._held, self._skip
        while skip and position < len(held) and held[position] in skip:
            position += 1
        return position

    def _refuse(self, messages: list[bytes]) -> list[bytes]:
        self._held.clear()
        self.error = Oversize(f"no {self._delimiter!r} within {self._limit} bytes")
        return messages
