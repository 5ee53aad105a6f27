"""Compressed messages: each is one zlib stream, which marks its own end."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from daemons.framings.base import Decoder, Framing, Incomplete, Malformed, Oversize

#: Bytes of input per call of zlib.  zlib copies the input that follows the end of a stream, so this bounds the copy
#: that is made for each of many short messages.
SLICE = 4096

#: Bytes of memory that zlib allocates to decompress: a window of 32 KiB and its tables (zlib.h, "The memory
#: requirements for inflate are (in bytes) 1 << windowBits … plus about 7 kilobytes for small objects").
STREAM = 40 * 1024

#: The highest limit: zlib's counters have 32 bits on some systems.
LONGEST = 2**31 - 1


class Compressed(Framing):
    """Messages compressed with zlib, each a stream of its own (RFC 1950).  Replies are compressed too.

    limit
        Maximum message size in bytes, after decompression.  A security limit, so it has no default: a zip bomb is
        decompressed no further.  A compressed message may have `wire_limit` bytes, 2 * limit + 64: enough for
        a sender that flushes often, too few for endless empty blocks.
    level
        Compression level of `encode`, 0 to 9; 6 is zlib's default.

    An incomplete message takes about 40 KiB beside its bytes: zlib's window.  Deflate compresses up to 1,032 bytes into
    one, and all messages completed by one input are returned together: an input of 16 KiB may take 16 MiB, whatever
    `limit` is.  Raises `ValueError` for an invalid limit or level.
    """

    def __init__(self, *, limit: int, level: int = 6) -> None:
        if not 1 <= limit <= LONGEST:
            raise ValueError(f"Compressed: limit={limit}; 1 to {LONGEST} is expected")
        if not 0 <= level <= 9:
            raise ValueError(f"Compressed: level={level}; 0 to 9 is expected")
        self.limit = limit
        self.level = level
        self.wire_limit = 2 * limit + 64

    def __repr__(self) -> str:
        return f"Compressed(limit={self.limit}, level={self.level})"

    def decoder(self) -> CompressedDecoder:
        return CompressedDecoder(self)

    def encode(self, reply: bytes) -> bytes:
        return zlib.compress(reply, self.level)


class CompressedDecoder(Decoder):
    """Holds the decompressed part of one message, and its zlib stream."""

    __slots__ = ("_framing", "_held", "_stream", "_taken")

    def __init__(self, framing: Compressed) -> None:
        super().__init__()
        self._framing = framing
        self._held = bytearray()
        #: Created when a message begins: it is much larger than the rest of an idle connection.
        self._stream: zlib._Decompress | None = None
        #: Compressed bytes of this message so far.
        self._taken = 0

    @property
    def pending(self) -> bool:
        return self._stream is not None

    @property
    def buffered(self) -> int:
        return self._held.__alloc__() + (0 if self._stream is None else STREAM)

    def decode(self, data: bytes) -> Sequence[bytes]:
        messages: list[bytes] = []
        start = 0
        while self.error is None and start < len(data):
            stream = self._stream = self._stream or zlib.decompressobj()
            room = self._framing.wire_limit - self._taken
            if not room:
                self._refuse(Oversize(f"no end of a compressed message within {self._taken} bytes"))
                break
            piece = data[start : start + min(room, SLICE)]
            if len(self._held) == self._framing.limit:
                # zlib reads ahead.  So its input is decompressed in parts without an error, in the end byte by byte:
                # then a message that is both too long and malformed sets the same error for every cut.
                while len(piece) > 1 and not _is_accepted(stream, piece):
                    piece = piece[: len(piece) // 2]
            try:
                self._unpack(stream, piece)
            except zlib.error as error:
                self._refuse(Malformed(f"not a zlib stream: {error}"))
                break
            start += len(piece) - len(stream.unused_data)
            self._taken += len(piece) - len(stream.unused_data)
            if stream.eof and self.error is None:
                messages.append(bytes(self._held))
                self._forget()
        return messages

    def _unpack(self, stream: zlib._Decompress, piece: bytes) -> None:
        """Decompress `piece`, up to the limit.  Raises `zlib.error`."""
        room = self._framing.limit - len(self._held)
        if room:
            self._held += stream.decompress(piece, room)
            if len(self._held) < self._framing.limit or stream.eof:
                return
            # At the limit: more output may be in the unconsumed input, or in zlib's window.
            more = stream.unconsumed_tail
            more = stream.decompress(b"", 1) or more
        else:
            more = stream.decompress(piece, 1)
        if more:
            self._refuse(Oversize(f"a compressed message of more than {self._framing.limit} bytes"))

    def finish(self) -> Sequence[bytes]:
        if self.error is None and self.pending:
            self._refuse(Incomplete(f"socket closed {self._taken} bytes into a compressed message"))
        return ()

    def _refuse(self, error: Incomplete | Malformed | Oversize) -> None:
        self.error = error
        self._forget()

    def _forget(self) -> None:
        self._held = bytearray()
        self._stream = None
        self._taken = 0


def _is_accepted(stream: zlib._Decompress, piece: bytes) -> bool:
    """Return whether a message at its limit continues or ends with `piece`: without more output, and without error."""
    copied = stream.copy()
    try:
        return not copied.decompress(piece, 1)
    except zlib.error:
        return False
