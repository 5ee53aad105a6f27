"""Framings: bytes ↔ messages, without I/O.

A framing answers one question: *when may the receiver stop calling recv()?*  Each pattern of
network programming is one file here; none of them has ever heard of a socket.
"""

from daemons.framings.base import Decoder, Framing, FramingError, Incomplete, Malformed, Oversize
from daemons.framings.until import Until

__all__ = ["Decoder", "Framing", "FramingError", "Incomplete", "Malformed", "Oversize", "Until"]
