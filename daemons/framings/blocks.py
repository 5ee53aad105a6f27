"""Messages in blocks, each with a length prefix, up to an empty block (pattern 6)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from daemons.framings.base import Decoder, Framing, Incomplete, Oversize, fill
from daemons.framings.length_prefixed import layout_of, prefixed

#: Bytes per block of `Blocks.encode`: few enough for a receiver with small buffers.
BLOCK = 16 * 1024

#: Layout of the lengths in a `Blocked` that a service creates.
_LENGTH = struct.Struct("!Q")


class Blocked(bytes):
    """Message in blocks: their concatenated bytes.  ``Blocked([b"one", b"two"])`` is a reply in two blocks.  Empty
    blocks are dropped, since an empty block ends a message."""

    # Packed lengths: an object for each block would be much larger than a short block.
    _layout: struct.Struct
    _lengths: bytes

    def __new__(cls, blocks: Sequence[bytes]) -> Blocked:
        return cls.received(b"".join(blocks), _LENGTH, b"".join(_LENGTH.pack(len(each)) for each in blocks if each))

    @classmethod
    def received(cls, content: bytes | bytearray, layout: struct.Struct, lengths: bytes | bytearray) -> Blocked:
        """Create a message of `content`, and of the lengths of its blocks, packed in `layout`."""
        message = super().__new__(cls, content)
        message._layout = layout
        message._lengths = bytes(lengths)
        return message

    @property
    def blocks(self) -> tuple[bytes, ...]:
        """The blocks, none of them empty.  Each access copies them."""
        blocks, start = [], 0
        for (length,) in self._layout.iter_unpack(self._lengths):
            blocks.append(self[start : start + length])
            start += length
        return tuple(blocks)


class Blocks(Framing):
    """Messages in blocks, for a sender that does not know the length of a message in advance, as in HTTP's chunked
    transfer coding (RFC 9112, section 7.1).  Messages are `Blocked`.

    limit
        Maximum message size in bytes, including the prefixes of its blocks, since each block costs memory.  A
        security limit, so it has no default.
    prefix
        The layout of a block's length, as in `LengthPrefixed`.

    Raises `ValueError` for an invalid prefix, and for a limit too low for a block of one byte.
    """

    def __init__(self, *, limit: int, prefix: str = "!I") -> None:
        self.layout = layout = layout_of("Blocks", prefix)
        if limit <= layout.size:
            raise ValueError(f"Blocks: limit={limit}; {layout.size + 1} or more is expected with prefix={prefix!r}")
        self.limit = limit
        self.prefix = prefix

    def __repr__(self) -> str:
        return f"Blocks(limit={self.limit}, prefix={self.prefix!r})"

    def decoder(self) -> BlocksDecoder:
        return BlocksDecoder(self)

    def encode(self, reply: bytes) -> bytes:
        """Return the blocks of a `Blocked`, or else blocks of `BLOCK` bytes, and an empty block.

        Raises `ValueError` for a block too long for the prefix.
        """
        size = min(BLOCK, 256**self.layout.size - 1)
        blocks: Sequence[bytes] = (
            reply.blocks
            if isinstance(reply, Blocked)
            else [reply[start : start + size] for start in range(0, len(reply), size)]
        )
        return b"".join(prefixed(self.layout, block) for block in (*blocks, b""))


class BlocksDecoder(Decoder):
    """Holds the blocks of one message, joined, with their lengths; and part of a block."""

    __slots__ = ("_content", "_framing", "_held", "_lengths")

    def __init__(self, framing: Blocks) -> None:
        super().__init__()
        self._framing = framing
        self._held = bytearray()
        self._content = bytearray()
        #: The prefixes of the blocks in `_content`, as received.
        self._lengths = bytearray()

    @property
    def pending(self) -> bool:
        return bool(self._held or self._lengths)

    @property
    def buffered(self) -> int:
        return self._held.__alloc__() + self._content.__alloc__() + self._lengths.__alloc__()

    def decode(self, data: bytes) -> Sequence[bytes]:
        if self.error is not None:
            return ()
        layout, limit, held = self._framing.layout, self._framing.limit, self._held
        content, lengths, size = self._content, self._lengths, layout.size
        held += data
        messages: list[bytes] = []
        start, have = 0, len(held)
        while have - start >= size:
            (length,) = layout.unpack_from(held, start)
            begin = start + size
            end = begin + length
            # A block is refused when its prefix is received.  The empty block does not count towards the limit.
            if length and len(content) + len(lengths) + size + length > limit:
                self._forget()
                self.error = Oversize(f"a message of more than {limit} bytes in blocks")
                return messages
            if end > have:
                break
            if length:
                content += held[begin:end]
                lengths += held[start:begin]
            else:
                messages.append(Blocked.received(content, layout, lengths))
                content.clear()
                lengths.clear()
            start = end
        del held[:start]
        return messages

    def decode_one(self, data: bytes, start: int) -> tuple[bytes | None, int]:
        if self.error is not None:
            return None, len(data)
        layout, limit, held = self._framing.layout, self._framing.limit, self._held
        content, lengths, size = self._content, self._lengths, layout.size
        view = memoryview(data)
        while True:
            start = fill(held, size, view, start)
            if len(held) < size:
                return None, len(data)
            (length,) = layout.unpack_from(held)
            if not length:
                message = Blocked.received(content, layout, lengths)
                self._forget()
                return message, start
            if len(content) + len(lengths) + size + length > limit:
                self._forget()
                self.error = Oversize(f"a message of more than {limit} bytes in blocks")
                return None, len(data)
            start = fill(held, size + length, view, start)
            if len(held) < size + length:
                return None, len(data)
            lengths += held[:size]
            content += held[size:]
            held.clear()

    def finish(self) -> Sequence[bytes]:
        if self.error is None and self.pending:
            count = len(self._lengths) // self._framing.layout.size
            self.error = Incomplete(f"socket closed after {count} blocks, before the empty one")
            self._forget()
        return ()

    def _forget(self) -> None:
        self._held.clear()
        self._content.clear()
        self._lengths.clear()
