"""Response bodies of WSGI applications: their pieces, checked, grouped and framed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator

from daemons.serving.conversation.service import PeerLeft
from daemons.web.handlers.response_buffer import CHECK_INTERVAL
from daemons.web.handlers.response_parts import PIECE

LAST_CHUNK = b"0\r\n\r\n"

#: Consecutive empty pieces that `first_piece` skips.
MOST_EMPTY = 1000


class LengthError(Exception):
    """The length of a body differs from the application's Content-Length."""


def regrouped(parts: list[bytes]) -> Iterator[bytes]:
    """Yield the bytes of `parts` in pieces of about `PIECE` bytes.

    This avoids a second copy of a long body, and sending many small parts one by one."""
    group: list[bytes] = []
    size = 0
    for part in parts:
        for start in range(0, len(part), PIECE):
            piece = part if len(part) <= PIECE else part[start : start + PIECE]
            group.append(piece)
            size += len(piece)
            if size >= PIECE:
                yield b"".join(group)
                group.clear()
                size = 0
    if group:
        yield b"".join(group)


def first_piece(pieces: Iterator[bytes]) -> tuple[bytes, bool]:
    """Return the first non-empty piece, and whether the iterator is exhausted.

    An application that is not ready may yield empty pieces (PEP 3333, "Middleware Handling of Block Boundaries"); after
    `MOST_EMPTY` of them, the next piece is returned even if it is empty."""
    for count, piece in enumerate(pieces):
        if checked(piece) or count == MOST_EMPTY:
            return piece, False
    return b"", True


def framed(
    head: bytes,
    pieces: Iterator[bytes],
    announced: int | None,
    chunked: bool,
    is_gone: Callable[[], bool] = bool,
) -> Generator[bytes, None, None]:
    """Yield the bytes of a response, and an empty piece after each piece.

    The empty piece ends a batch, so that the piece is sent before the next one is requested: a server "must not delay
    the transmission of any block" (PEP 3333, "Buffering and Streaming").  `is_gone` is called at intervals while the
    application yields empty pieces: without a send, no error shows that the connection is closed.  Raises `LengthError`
    after the last byte that may be sent, and `PeerLeft` if `is_gone` returns True."""
    left = announced
    next_check = 0.0
    for piece in pieces:
        if not checked(piece):
            if (now := time.monotonic()) >= next_check:
                if next_check and is_gone():
                    raise PeerLeft("the peer has closed the connection, and the application yields empty pieces")
                next_check = now + CHECK_INTERVAL
            yield b""
            continue
        if left is not None and len(piece) > left:
            yield head + piece[:left]
            raise LengthError(f"the body is longer than its Content-Length, {announced} bytes, and was truncated")
        if left is not None:
            left -= len(piece)
        yield b"%b%x\r\n%b\r\n" % (head, len(piece), piece) if chunked else head + piece
        yield b""
        head = b""
    if left:
        raise LengthError(f"the body is {left} bytes shorter than its Content-Length, {announced} bytes")
    if chunked:
        yield LAST_CHUNK


def checked(piece: bytes) -> bytes:
    if not isinstance(piece, bytes):
        raise TypeError(f"the application yielded {type(piece).__name__}; bytes are expected")
    return piece
