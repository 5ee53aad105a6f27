"""Messages that are lines (pattern 4): a delimiter, and an escape for delimiters inside a message."""

from __future__ import annotations

from collections.abc import Sequence

from daemons.framings.base import Decoder, Framing, Malformed
from daemons.framings.until import Until


class Lines(Framing):
    """Messages that are lines, without their line ends.

    limit
        Maximum line length in bytes as received, including the newline.  A security limit, so it has no default.
    quoted
        False: a line is text, and ends with a newline or CR LF; a reply with a newline in it, or a CR at its end, is a
        `ValueError`, since the peer would decode it to another message.
        True: a line may carry any bytes.  A newline in a message is sent as ``\\n``, a backslash as ``\\\\``, and a
        backslash before any other byte is malformed.

    Raises `ValueError` for a limit below 1.
    """

    def __init__(self, *, limit: int, quoted: bool = False) -> None:
        if limit < 1:
            raise ValueError(f"Lines: limit={limit}; 1 or more is expected")
        self.until = Until(b"\n", limit=limit)
        self.limit = limit
        self.quoted = quoted

    def __repr__(self) -> str:
        return f"Lines(limit={self.limit}, quoted={self.quoted})"

    def decoder(self) -> LinesDecoder:
        return LinesDecoder(self)

    def encode(self, reply: bytes) -> bytes:
        if self.quoted:
            return reply.replace(b"\\", b"\\\\").replace(b"\n", b"\\n") + b"\n"
        if b"\n" in reply:
            raise ValueError(
                f"the reply {reply[:40]!r} contains a newline; Lines ends each reply with one, and only "
                "Lines(quoted=True) can carry others"
            )
        if reply.endswith(b"\r"):
            raise ValueError(
                f"the reply {reply[-40:]!r} ends with a CR, which a peer takes for a part of the line's end; only "
                "Lines(quoted=True) can carry it"
            )
        return reply + b"\n"


class LinesDecoder(Decoder):
    """Splits lines with an `Until`, then removes line ends or escapes."""

    __slots__ = ("_framing", "_until")

    def __init__(self, framing: Lines) -> None:
        super().__init__()
        self._framing = framing
        self._until = framing.until.decoder()

    @property
    def pending(self) -> bool:
        return self._until.pending

    @property
    def buffered(self) -> int:
        return self._until.buffered

    def decode(self, data: bytes) -> Sequence[bytes]:
        if self.error is not None:
            return ()
        messages: list[bytes] = []
        for line in self._until.decode(data):
            try:
                messages.append(_unquoted(line[:-1]) if self._framing.quoted else _bare(line))
            except Malformed as error:
                self.error = error
                self._until = self._framing.until.decoder()  # further input is not held
                return messages
        self.error = self._until.error
        return messages

    def decode_one(self, data: bytes, start: int) -> tuple[bytes | None, int]:
        if self.error is not None:
            return None, len(data)
        line, end = self._until.decode_one(data, start)
        if line is None:
            self.error = self._until.error
            return None, end
        try:
            return _unquoted(line[:-1]) if self._framing.quoted else _bare(line), end
        except Malformed as error:
            self.error = error
            return None, len(data)

    def finish(self) -> Sequence[bytes]:
        if self.error is None:
            self._until.finish()
            self.error = self._until.error
        return ()


def _bare(line: bytes) -> bytes:
    return line[:-2] if line.endswith(b"\r\n") else line[:-1]


def _unquoted(line: bytes) -> bytes:
    if b"\\" not in line:
        return line
    # Split at pairs of backslashes, from left to right, so that the parts contain single backslashes only.
    parts = line.split(b"\\\\")
    for part in parts:
        if part.count(b"\\") != part.count(b"\\n"):
            raise Malformed(f"{_wrong(part)!r}: after a backslash, n or another one is expected")
    return b"\\".join(part.replace(b"\\n", b"\n") for part in parts)


def _wrong(part: bytes) -> bytes:
    """Return the first backslash in `part` that is not followed by n, and the byte after it."""
    start = part.replace(b"\\n", b"  ").index(b"\\")
    return part[start : start + 2]
