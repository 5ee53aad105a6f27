"""A message lasts until its delimiter (the notes' ``recv_until``, mended: T01, T06, T07)."""

from __future__ import annotations

from collections.abc import Sequence

from daemons.framings.base import Decoder, Framing, Oversize, cut_out


class Until(Framing):
    """Messages that end with `delimiter`, and include it: ``What is your quest?``

    delimiter
        One byte or more.
    limit
        The longest message in bytes, delimiter included.  A security limit, so it has no default:
        a peer that never sends the delimiter is refused once it has sent this much.
    skip
        Bytes that are dropped, uncounted, where they stand before a message.  A person who types
        questions into ``nc`` ends each with a newline; RFC 9112, section 2.2, forgives the same.

    Replies are sent as they are.  Raises `ValueError` for arguments that could never frame anything.
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
    """Holds what came after the last delimiter, and remembers how far it has been searched, so that
    a message in a thousand pieces costs as much as the same message in one."""

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
            # One whole message in one read is what nearly always comes.
            end = data.find(delimiter) + len(delimiter)
            if end == len(data) and len(delimiter) <= end <= self._limit:
                return (data,)
        # A delimiter may have been cut in two, so the last bytes already seen are searched again.
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
        # As many bytes as the limit, and still no delimiter: no message can come of this.
        if len(held) >= self._limit:
            return self._refuse(messages)
        return messages

    def _past_skipped(self, position: int) -> int:
        held, skip = self._held, self._skip
        while skip and position < len(held) and held[position] in skip:
            position += 1
        return position

    def _refuse(self, messages: list[bytes]) -> list[bytes]:
        self._held.clear()
        self.error = Oversize(f"no {self._delimiter!r} within {self._limit} bytes")
        return messages
