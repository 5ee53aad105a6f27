"""A message comes in blocks, each behind its length, and ends with an empty one: pattern 6."""

from __future__ import annotations

from collections.abc import Sequence

from daemons.framings.base import Decoder, Framing, Incomplete, Oversize
from daemons.framings.length_prefixed import prefix_of, prefixed

#: Octets of a block that `encode` makes: few enough for a receiver that has little room.
BLOCK = 16 * 1024


class Blocked(bytes):
    """A message that came in blocks: their bytes, one after the other; `blocks` are they one by one."""

    blocks: tuple[bytes, ...] = ()

    def __new__(cls, blocks: Sequence[bytes]) -> Blocked:
        message = super().__new__(cls, b"".join(blocks))
        message.blocks = tuple(blocks)
        return message


class Blocks(Framing):
    """Messages in blocks, for a sender that does not know at the beginning how long a message will be; HTTP's chunked
    coding is the same idea (RFC 9112, section 7.1).  Messages are `Blocked`.

    limit
        The longest message in bytes, the prefixes of its blocks included, for each block costs memory too.  A
        security limit, so it has no default.
    prefix
        The layout of a block's length, as in `LengthPrefixed`.

    Raises `ValueError` for a prefix that is none, and for a limit that it cannot express.
    """

    def __init__(self, *, limit: int, prefix: str = "!I") -> None:
        self.layout = prefix_of(type(self).__name__, prefix, limit)
        self.limit = limit
        self.prefix = prefix

    def __repr__(self) -> str:
        return f"Blocks(limit={self.limit}, prefix={self.prefix!r})"

    def decoder(self) -> BlocksDecoder:
        return BlocksDecoder(self)

    def encode(self, reply: bytes) -> bytes:
        """`reply` in as many blocks as it came in, or else of `BLOCK` octets, and the empty one."""
        size = min(BLOCK, 256**self.layout.size - 1)
        blocks: Sequence[bytes] = (
            reply.blocks
            if isinstance(reply, Blocked)
            else [reply[start : start + size] for start in range(0, len(reply), size)]
        )
        return b"".join(prefixed(self.layout, block) for block in (*blocks, b""))


class BlocksDecoder(Decoder):
    """Holds the blocks of one message, and less than one block."""

    __slots__ = ("_blocks", "_framing", "_held", "_size")

    def __init__(self, framing: Blocks) -> None:
        super().__init__()
        self._framing = framing
        self._held = bytearray()
        self._blocks: list[bytes] = []
        #: Octets of this message so far, those of a block that has only been announced included.
        self._size = 0

    @property
    def pending(self) -> bool:
        return bool(self._held or self._blocks)

    def decode(self, data: bytes) -> Sequence[bytes]:
        if self.error is not None:
            return ()
        layout, limit, held = self._framing.layout, self._framing.limit, self._held
        held += data
        messages: list[bytes] = []
        start, have = 0, len(held)
        while have - start >= layout.size:
            (length,) = layout.unpack_from(held, start)
            # The empty block, which ends a message, is not counted.
            if length and self._size + layout.size + length > limit:
                self._refuse()
                return messages
            end = start + layout.size + length
            if end > have:
                break
            if length:
                self._blocks.append(bytes(held[start + layout.size : end]))
                self._size += layout.size + length
            else:
                messages.append(Blocked(self._blocks))
                self._blocks, self._size = [], 0
            start = end
        del held[:start]
        return messages

    def finish(self) -> Sequence[bytes]:
        if self.error is None and self.pending:
            self.error = Incomplete(f"socket closed after {len(self._blocks)} blocks, before the empty one")
        return ()

    def _refuse(self) -> None:
        self._held.clear()
        self._blocks = []
        self.error = Oversize(f"a message in blocks of more than {self._framing.limit} bytes")
