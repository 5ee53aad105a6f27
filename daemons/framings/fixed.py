"""Messages of a fixed length (pattern 3)."""

from __future__ import annotations

from collections.abc import Sequence

from daemons.framings.base import Decoder, Framing, Incomplete, cut_out, fill


class Fixed(Framing):
    """Messages of exactly `size` bytes.  The size is the limit.

    Replies are sent unchanged, since they often have another length.  Raises `ValueError` for a size below 1.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"Fixed: size={size}; 1 or more is expected")
        self.size = size

    def __repr__(self) -> str:
        return f"Fixed({self.size})"

    def decoder(self) -> FixedDecoder:
        return FixedDecoder(self)


class FixedDecoder(Decoder):
    """Holds part of one message."""

    __slots__ = ("_held", "_size")

    def __init__(self, framing: Fixed) -> None:
        super().__init__()
        self._held = bytearray()
        self._size = framing.size

    @property
    def pending(self) -> bool:
        return bool(self._held)

    @property
    def buffered(self) -> int:
        return self._held.__alloc__()

    def decode(self, data: bytes) -> Sequence[bytes]:
        if self.error is not None:
            return ()
        held, size = self._held, self._size
        held += data
        end = len(held) - len(held) % size
        messages = [cut_out(held, start, start + size) for start in range(0, end, size)]
        del held[:end]
        return messages

    def decode_one(self, data: bytes, start: int) -> tuple[bytes | None, int]:
        if self.error is not None:
            return None, len(data)
        held = self._held
        end = fill(held, self._size, memoryview(data), start)
        if len(held) < self._size:
            return None, len(data)
        message = bytes(held)
        held.clear()
        return message, end

    def finish(self) -> Sequence[bytes]:
        if self.error is None and self._held:
            self.error = Incomplete(
                f"was expecting {self._size} bytes but only received {len(self._held)} bytes before the socket closed"
            )
        return ()
