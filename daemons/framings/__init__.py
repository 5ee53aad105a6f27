"""Framings: bytes ↔ messages, without I/O.

A framing decides where a message ends: *when may the receiver stop calling recv()?*  Each module implements one pattern
(the numbers are those of ``docs/framings.md``); none of them uses a socket.

    whole.py              at the end of the input: one message per direction
    fixed.py              after a fixed number of bytes
    until.py  lines.py    at a delimiter; lines.py can escape delimiters inside a message
    length_prefixed.py    after the number of bytes in a length prefix
    blocks.py             after an empty block
    compressed.py         at the end of a zlib stream
    stream.py             nowhere: a stream without messages
    http/                 head: at a delimiter; body: after its Content-Length, or after an empty chunk

`daemons.framings.http` and `daemons.framings.proxy` are not imported here.  cache.py has bounded caches.
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
