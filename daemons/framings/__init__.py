"""Framings: bytes ↔ messages, without I/O.

A framing answers one question: *when may the receiver stop calling recv()?*  Each pattern of
network programming is one file here; none of them has ever heard of a socket.

    whole.py              at the end of the input: a stream one way, or each way, and then the end
    fixed.py              after so many octets
    until.py  lines.py    at a delimiter, which must be quoted where it is part of a message
    length_prefixed.py    after as many octets as were announced
    blocks.py             after an empty block
    compressed.py         where a zlib stream ends
    stream.py             never: there are no messages
    http/                 at a delimiter, and then after as many octets, or blocks, as were announced

`daemons.framings.http` is imported from there, by those who need it.  remembered.py is no framing, but what keeps them,
and others, from finding out again what they have found out before.
"""

from daemons.framings.base import Decoder, Framing, FramingError, Incomplete, Malformed, Oversize
from daemons.framings.blocks import Blocked, Blocks
from daemons.framings.compressed import Compressed
from daemons.framings.fixed import Fixed
from daemons.framings.length_prefixed import LengthPrefixed
from daemons.framings.lines import Lines
from daemons.framings.stream import Stream
from daemons.framings.until import Until
from daemons.framings.whole import Whole

__all__ = [
    "Blocked",
    "Blocks",
    "Compressed",
    "Decoder",
    "Fixed",
    "Framing",
    "FramingError",
    "Incomplete",
    "LengthPrefixed",
    "Lines",
    "Malformed",
    "Oversize",
    "Stream",
    "Until",
    "Whole",
]
