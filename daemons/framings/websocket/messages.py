"""Messages of a WebSocket.  A binary message is plain `bytes`; the other types are subclasses of it.

A subclass, rather than `str` for text, keeps messages `bytes` like those of other framings.  Two messages of different
types with the same bytes are equal, so a cache with messages as keys must add the type to the key.
"""

from __future__ import annotations

from typing import ClassVar

#: Opcodes (RFC 6455, section 5.2).
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

#: Maximum payload of a control frame in bytes (RFC 6455, section 5.5).
MAX_CONTROL = 125

#: Status codes of Close (RFC 6455, section 7.4.1).
NORMAL, PROTOCOL_ERROR, INVALID_DATA, TOO_BIG = 1000, 1002, 1007, 1009


def is_sendable(code: int) -> bool:
    """Return whether a Close may have this code: one of RFC 6455, section 7.4.1, or 1012 to 1014 of IANA's registry,
    or 3000 to 4999, for libraries and applications.  1004, 1005, 1006 and 1015 are never sent."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


class Text(bytes):
    """A text message; its bytes are valid UTF-8.  ``Text("naïve")`` is a reply.

    Raises `UnicodeEncodeError`, a `ValueError`, for text with a lone surrogate.
    """

    __slots__ = ()
    opcode: ClassVar[int] = TEXT

    def __new__(cls, text: str = "") -> Text:
        return super().__new__(cls, text.encode("utf-8"))

    def __repr__(self) -> str:
        return f"Text({self.text!r})"

    @classmethod
    def received(cls, octets: bytes | bytearray) -> Text:
        """Create a message from bytes that are known to be UTF-8."""
        return super().__new__(cls, octets)

    @property
    def text(self) -> str:
        """The text.  Each access decodes it."""
        return str(self, "utf-8")


class Encoded(bytes):
    """Frames that `WebSocket.encode` sends unchanged: one message encoded once for many peers, fragments of a message,
    or, if empty, no reply."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Encoded({super().__repr__()})"


class Control(bytes):
    """Payload of a control frame: base class of `Ping`, `Pong` and `Close`.  Control frames may arrive between the
    fragments of a message, and are delivered at once."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({super().__repr__()})"

    def reply(self) -> bytes:
        """Return the reply that the protocol requires; an empty `Encoded` if it requires none."""
        return Encoded()


class Ping(Control):
    """A Ping with a payload of at most 125 bytes.  Raises `ValueError` for a longer one."""

    __slots__ = ()
    opcode: ClassVar[int] = PING

    def __new__(cls, payload: bytes | bytearray = b"") -> Ping:
        return super().__new__(cls, _checked("Ping", payload))

    def reply(self) -> bytes:
        """Return the Pong with the same payload (RFC 6455, section 5.5.3)."""
        return Pong(self)


class Pong(Control):
    """A Pong with a payload of at most 125 bytes.  Raises `ValueError` for a longer one."""

    __slots__ = ()
    opcode: ClassVar[int] = PONG

    def __new__(cls, payload: bytes | bytearray = b"") -> Pong:
        return super().__new__(cls, _checked("Pong", payload))


class Close(Control):
    """A Close with a status code and a reason; ``Close(None)`` has neither.

    Raises `ValueError` for a code that must not be sent, a reason without a code, and a reason of more than 123 bytes.
    """

    __slots__ = ()
    opcode: ClassVar[int] = CLOSE

    def __new__(cls, code: int | None = NORMAL, reason: str = "") -> Close:
        if code is None:
            if reason:
                raise ValueError("Close: a reason without a code; a code is expected before it")
            return super().__new__(cls)
        if not is_sendable(code):
            raise ValueError(f"Close: code {code}; 1000 to 1003, 1007 to 1014 or 3000 to 4999 is expected")
        return super().__new__(cls, _checked("Close", code.to_bytes(2, "big") + reason.encode("utf-8")))

    def __repr__(self) -> str:
        return f"Close({self.code}, {self.reason!r})" if self.reason else f"Close({self.code})"

    @classmethod
    def received(cls, payload: bytes) -> Close:
        """Create a Close from a payload that is known to be valid."""
        return super().__new__(cls, payload)

    @property
    def code(self) -> int | None:
        """The status code; None if there is none, which some APIs report as 1005."""
        return int.from_bytes(self[:2], "big") if self else None

    @property
    def reason(self) -> str:
        return str(self[2:], "utf-8")

    def reply(self) -> bytes:
        """Return the Close that ends the closing handshake, with the same code (RFC 6455, section 5.5.1)."""
        return Close(self.code)


def _checked(name: str, payload: bytes | bytearray) -> bytes | bytearray:
    if len(payload) > MAX_CONTROL:
        raise ValueError(f"{name}: a payload of {len(payload)} bytes; at most {MAX_CONTROL} are expected")
    return payload
