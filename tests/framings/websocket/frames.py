"""Frames made by hand, and the messages that a decoder finds, for the tests of WebSocket."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from daemons.framings import FramingError
from daemons.framings.websocket import Close, Ping, Pong, Text, WebSocket

#: Of `client` frames; one that shows an error in the place of each byte.
MASK = b"\x37\xfa\x21\x3d"

#: A message: its type, and its payload.
Found = tuple[str, bytes]


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    reserved: int = 0,
    mask: bytes | None = MASK,
    length: int | None = None,
    size: int | None = None,
) -> bytes:
    """One frame; `mask` None: of a server.  `length` is the announced length, and `size` the bytes that it takes."""
    length = len(payload) if length is None else length
    if size is None:
        size = 0 if length < 126 else 2 if length < 65536 else 8
    short = {0: length, 2: 126, 8: 127}[size]
    header = bytes((final << 7 | reserved << 4 | opcode, (mask is not None) << 7 | short)) + (
        length.to_bytes(size, "big") if size else b""
    )
    if mask is None:
        return header + payload
    return header + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def kind(message: bytes) -> str:
    return {Text: "text", bytes: "binary", Ping: "ping", Pong: "pong", Close: "close"}[type(message)]


def found(framing: WebSocket, pieces: Sequence[bytes]) -> tuple[list[Found], FramingError | None, bool]:
    """The messages in `pieces`, the error, and whether a Close ended the input."""
    decoder = framing.decoder()
    messages: list[Found] = []
    for piece in pieces:
        messages += [(kind(message), bytes(message)) for message in decoder.decode(piece)]
        if decoder.error is not None or decoder.ended:
            assert not decoder.pending
            assert decoder.buffered == 0
    return messages, decoder.error, decoder.ended


def cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    at = sorted({0, *(place % (len(data) + 1) for place in cuts), len(data)})
    return [data[start:end] for start, end in pairwise(at)]


def octets_of(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def code_of(error: FramingError | None) -> int | None:
    """The status code of the Close that is sent for `error`, by a server."""
    if error is None:
        return None
    assert error.apology[:2] == b"\x88\x02"
    return int.from_bytes(error.apology[2:], "big")
