"""Headers of frames (RFC 6455, section 5.2)."""

from __future__ import annotations

from daemons.framings.websocket.messages import BINARY, CLOSE, CONTINUATION, MAX_CONTROL, PING, PONG, TEXT
from daemons.framings.websocket.refusals import malformed

#: Bits of the first byte: FIN, the three reserved bits, the opcode, and the bit of an opcode that marks control frames.
FINAL, RESERVED, OPCODE, CONTROL = 0x80, 0x70, 0x0F, 0x08

#: The bit of the second byte that marks a masked frame; the others are a length.
MASKED = 0x80

#: Bytes of a mask.
MASK = 4

_OPCODES = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))

#: Lengths below `SHORT` are part of the second byte; `_MEDIUM` is the first length that does not fit into two bytes.
SHORT, _MEDIUM = 126, 1 << 16


def write_header(opcode: int, length: int, *, masked: bool) -> bytes:
    """Return the header of a frame that is a whole message, up to its mask."""
    first, bit = FINAL | opcode, MASKED if masked else 0
    if length < SHORT:
        return bytes((first, bit | length))
    if length < _MEDIUM:
        return bytes((first, bit | 126)) + length.to_bytes(2, "big")
    return bytes((first, bit | 127)) + length.to_bytes(8, "big")


def read_header(source: bytes | bytearray, start: int, client: bool, continues: bool) -> tuple[int, int] | None:
    """Return where the header at `start` ends, without its mask, and the length of the payload; None if it is
    incomplete.

    `client`: whether the reader is a client; `continues`: whether a message is in progress.  Raises `FramingError` at
    the first byte with which no valid header begins.
    """
    first = source[start]
    opcode = first & OPCODE
    if first & RESERVED:
        raise malformed("a reserved bit is set; no extension was accepted")
    if opcode not in _OPCODES:
        raise malformed(f"the opcode {opcode:#x} is reserved; no extension was accepted")
    if opcode & CONTROL:
        if not first & FINAL:
            raise malformed("a control frame in fragments; one frame is expected")
    elif continues is (opcode != CONTINUATION):
        found, expected = ("begins", "continues") if continues else ("continues", "begins")
        raise malformed(f"a frame {found} a message where one that {expected} a message is expected")
    have = len(source) - start
    if have < 2:
        return None
    second = source[start + 1]
    if (second < MASKED) is not client:
        raise malformed("a masked frame from a server" if client else "a frame without a mask from a client")
    length = second & ~MASKED
    if length < SHORT:
        return start + 2, length
    if opcode & CONTROL:
        raise malformed(f"a control frame of more than {MAX_CONTROL} bytes")
    size = 2 if length == SHORT else 8
    end = start + 2 + size
    if have < 2 + size:
        return None
    length = int.from_bytes(source[start + 2 : end], "big")
    if length < (SHORT if size == 2 else _MEDIUM):
        raise malformed(f"the length {length} in {size} bytes; fewer are expected")
    if length >> 63:
        raise malformed("a length of 64 bits; at most 63 are expected")
    return end, length
