"""Commands of memcached's text protocol: lines, some of which are followed by a block of data.

The protocol is described in ``doc/protocol.txt`` of memcached 1.6.  A block of data has the length that its command
line announces, and ends with CR LF, which the length does not include:

    set greeting 0 60 5\r\n
    hello\r\n
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from daemons.framings.base import Decoder, Framing, Incomplete, Malformed, Oversize, cut_out

#: Bytes of the longest command line, with its line end, as in memcached ...
LINE = 2048

#: ... unless it is a get or gets, which may have many keys: about 4,000 of the longest.
MULTIGET = 1024**2

#: First bytes of command names without a block: get, gets, gat, gats, incr, decr, delete, touch.
WITHOUT_BLOCK = b"gidt"

#: First bytes of lines that may announce a block: a command name, or spaces before it.
STORAGE = b"sarpcm "

UPPER_CASE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"

#: A command line that announces a block, and the number of bytes in the block.  The other words may be invalid; the
#: block is then skipped as well, so that its bytes are never taken for commands.
ANNOUNCEMENT = re.compile(
    rb" *(?:(?:set|add|replace|append|prepend|cas)(?: +[^ \n]+){3}|ms +[^ \n]+) +\+?(\d{1,20})(?: [^\n]*|\r?)\n"
)

#: The usual set; other commands with a block are found by `ANNOUNCEMENT`.
PLAIN_SET = re.compile(rb"set \S+ \d+ \d+ (\d{1,9})\r\n")

#: A request line of HTTP, which a web page might make a browser send to a cache on the user's machine.
HTTP_REQUEST = re.compile(rb"[^\n]* HTTP/\d[^ \n]*\n")

#: First byte of a request of memcached's binary protocol, which is not supported.
BINARY = 0x80


class Memcached(Framing):
    """Commands of memcached's text protocol; a message is a command line with its block of data, as received.

    item
        Maximum number of bytes in a block of data.  A longer block is skipped without being held, and the message is
        the command line alone.

    Command lines are limited to `LINE` bytes, or `MULTIGET` for get and gets.  After ``quit`` the input is ignored.
    """

    def __init__(self, *, item: int) -> None:
        if item < 1:
            raise ValueError(f"Memcached: item={item}; 1 or more is expected")
        self.item = item

    def __repr__(self) -> str:
        return f"Memcached(item={self.item})"

    def decoder(self) -> MemcachedDecoder:
        return MemcachedDecoder(self.item)


class MemcachedDecoder(Decoder):
    """Holds part of a command line or of its block."""

    __slots__ = ("_between", "_held", "_item", "_needed", "_seen", "_shortest", "_skip", "ended", "surplus")

    def __init__(self, item: int) -> None:
        super().__init__()
        self.ended = self.surplus = False
        self._item = item
        #: Bytes of the shortest message that may have a block that is too long.
        self._shortest = item + len(b"set k 0 0 1\r\n\r\n")
        self._held = bytearray()
        #: Bytes of the message in `_held`, once its line has been received; before, 0.
        self._needed = 0
        #: Bytes of `_held` that contain no line end.
        self._seen = 0
        #: Bytes to come of a block that is too long.
        self._skip = 0
        #: Whether the next byte begins a command.
        self._between = True

    @property
    def pending(self) -> bool:
        return bool(self._held or self._skip)

    @property
    def buffered(self) -> int:
        return self._held.__alloc__()

    def decode(self, data: bytes) -> Sequence[bytes]:
        if self._between and data:
            # The usual case: one read returns exactly one command.
            end = data.find(b"\n") + 1
            if end == len(data):
                if data[0] in WITHOUT_BLOCK and end <= LINE:
                    return (data,)
            elif (
                end <= LINE
                and (plain := PLAIN_SET.match(data)) is not None
                and end + int(plain[1]) + 2 == len(data) <= self._shortest
            ):
                return (data,)
        messages = self._decode(data)
        self._between = not self._held and not self._skip and self.error is None and not self.ended
        return messages

    def _decode(self, data: bytes) -> Sequence[bytes]:
        if self.error is not None:
            return ()
        if self.ended:
            self.surplus = self.surplus or bool(data)
            return ()
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        held = self._held
        if not held:
            return self._take_all(data)
        held += data
        if len(held) < self._needed:
            return ()
        return self._take_all(held)

    def _take_all(self, source: bytes | bytearray) -> list[bytes]:
        """Return the complete messages in `source`, and hold the rest."""
        messages: list[bytes] = []
        start, have = 0, len(source)
        while start < have:
            end = start + self._needed if self._needed else self._end_of_message(source, start)
            if not start < end <= have:
                break
            message = source if type(source) is bytes and end - start == have else cut_out(source, start, end)
            messages.append(message)
            self._needed = self._seen = 0
            start = end
            if self._skip:
                skipped = min(self._skip, have - start)
                self._skip -= skipped
                start += skipped
            elif self.ended:
                messages.pop()  # quit has no reply
                self.surplus = start < have
                self._held.clear()
                return messages
        if self.error is not None:
            self._held.clear()
            self._needed = self._seen = 0
        elif source is self._held:
            del self._held[:start]
        else:
            self._held += source[start:]
        return messages

    def _end_of_message(self, source: bytes | bytearray, start: int) -> int:
        """Return the end of the message at `start`; 0 if its line is incomplete, or `error` was set.

        Set `_needed` if the block is incomplete, `_skip` if it is too long, and `ended` at quit."""
        end = source.find(b"\n", start + self._seen) + 1
        length = (end or len(source)) - start
        first = source[start]
        if first == BINARY:
            self.error = Malformed("a request of memcached's binary protocol; only the text protocol is supported")
            return 0
        if length > LINE and (length > MULTIGET or not source.startswith((b"get ", b"gets "), start)):
            self.error = Oversize(f"a command line of more than {LINE if length <= MULTIGET else MULTIGET} bytes")
            self.error.apology = b"CLIENT_ERROR line too long\r\n"
            return 0
        if not end:
            self._seen = length
            return 0
        if first in WITHOUT_BLOCK:
            return end
        if first in STORAGE and (announced := ANNOUNCEMENT.match(source, start, end)) is not None:
            block = int(announced[1])
            if block > self._item:
                self._skip = block + 2
                return end
            self._needed = end - start + block + 2
            return start + self._needed
        if first in UPPER_CASE and HTTP_REQUEST.match(source, start, end) is not None:
            self.error = Malformed("a request of HTTP; a command of memcached is expected")
            return 0
        if first in b"q " and source[start:end].split()[:1] == [b"quit"]:
            self.ended = True
        return end

    def finish(self) -> Sequence[bytes]:
        if self.error is None and self.pending:
            if self._skip:
                self.error = Incomplete(f"socket closed {self._skip} bytes before the end of a block")
            elif self._needed:
                self.error = Incomplete(
                    f"socket closed {self._needed - len(self._held)} bytes before the end of a block"
                )
            else:
                self.error = Incomplete("socket closed within a command line")
        return ()
