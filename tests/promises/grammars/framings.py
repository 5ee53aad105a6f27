"""Every framing, with a service that answers each message with its length; and the PROXY header."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from daemons import Service
from daemons.framings import Blocks, Compressed, Fixed, Framing, LengthPrefixed, Lines, Stream, Until, Whole
from daemons.framings.proxy import LIMIT, SIGNATURE
from daemons.framings.websocket import WebSocket
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.proxy import ProxiedConversation
from daemons.serving.conversation.service_binding import ServiceBinding
from tests.framings.websocket.frames import frame
from tests.promises.grammars.grammar import Feed, Grammar, converse, filled, word

SIZE = 64 * 1024

#: An honest message.
SHORT = b"a message"


class Lengths(Service):
    """Service that replies with the length of each message."""

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        super().__init__()

    def respond(self, message: bytes) -> bytes:
        return b"%d" % len(message)


def serving(framing: Framing, piece: int) -> Callable[[Path], Feed]:
    def serve(folder: Path) -> Feed:
        service = Lengths(framing)
        binding = ServiceBinding(service)
        return lambda data: converse(Conversation(service, binding), data, piece)

    return serve


def shapes(*, whole: bytes = b"", **more: bytes) -> Callable[[int], Mapping[str, bytes]]:
    """Return inputs that repeat one unit, and inputs of random bytes."""

    def made(size: int) -> Mapping[str, bytes]:
        units = {"zeros": b"\0", "letters": b"a", "ones": b"\xff", "line ends": b"\r\n", "quotes": b"\\", **more}
        return {name: filled(b"", unit, b"", size) for name, unit in units.items()} | (
            {"whole": whole} if whole else {}
        )

    return made


def packed(data: bytes) -> bytes:
    return zlib.compress(data)


FRAMINGS: dict[str, tuple[Framing, Callable[[bytes], bytes], dict[str, bytes]]] = {
    # A framing, how a message is sent, and units of adversarial inputs.
    "whole": (Whole(limit=SIZE), lambda message: message, {}),
    "fixed": (Fixed(9), lambda message: message[:9].ljust(9), {}),
    "until": (
        Until(b"\r\n", limit=SIZE, skip=b" "),
        lambda message: message + b"\r\n",
        {"nearly": b"a\r", "skip": b" "},
    ),
    "lines": (Lines(limit=SIZE), lambda message: message + b"\n", {"nearly": b"a\r"}),
    "quoted lines": (
        Lines(limit=SIZE, quoted=True),
        lambda message: message + b"\n",
        {"escapes": b"\\a", "bad": b"\\x", "line ends": b"\\\n"},
    ),
    "length-prefixed": (
        LengthPrefixed(limit=SIZE),
        LengthPrefixed(limit=SIZE).encode,
        {"empty": b"\0\0\0\0", "one": b"\0\0\0\1a", "lies": b"\0\0\xff\xff"},
    ),
    "blocks": (
        Blocks(limit=SIZE, prefix="!H"),
        lambda message: b"\0%c%b\0\0" % (len(message), message) if len(message) < 256 else b"\xff\xff" + message,
        {"one": b"\0\1a", "empty": b"\0\1a\0\0"},
    ),
    "compressed": (
        Compressed(limit=SIZE),
        packed,
        {"empty blocks": b"\0\0\0\xff\xff", "streams": packed(b""), "one": packed(b"a"), "bomb": packed(b"a" * SIZE)},
    ),
    "stream": (Stream(), lambda message: message, {}),
    "websocket": (
        WebSocket(limit=SIZE),
        WebSocket(limit=SIZE, client=True).encode,
        {
            "empty": frame(1),
            "pings": frame(9),
            "long pings": frame(9, bytes(125)),
            "fragments": frame(1, b"a", final=False) + frame(0),
            "empty fragments": frame(1, final=False) + frame(0, final=False) * 1000,
            "closes": frame(8),
        },
    ),
}


def grammar_of(name: str, piece: int) -> Grammar:
    framing, sent, units = FRAMINGS[name]
    whole = packed(b"a" * SIZE * 2) if name == "compressed" else b""
    return Grammar(
        f"{name}, in pieces of {piece}",
        serving(framing, piece),
        lambda number: sent(word(number, number % 16_384 + 1).encode()),
        lambda size: filled(b"", sent(SHORT), b"", size),
        shapes(whole=whole, **units),
        SIZE,
    )


def proxied(folder: Path) -> Feed:
    service = Lengths(Lines(limit=1000))
    binding = ServiceBinding(service)
    return lambda data: converse(ProxiedConversation(Conversation(service, binding), lambda header: None), data)


def block(size: int, notes: bytes = b"", family: int = 0x11) -> bytes:
    addresses = b"\xc0\0\2\7\x7f\0\0\1\x10\x92\x04\x24"
    return SIGNATURE + b"\x21" + bytes([family]) + struct.pack("!H", len(addresses) + size) + addresses + notes


def unlike_header(number: int) -> bytes:
    port, third, fourth = number % 65_536, number >> 8 & 255, number & 255
    line = f"PROXY TCP4 10.1.{third}.{fourth} 127.0.0.1 {port} 80\r\n"
    kinds: list[Any] = [
        line.encode(),
        f"PROXY TCP6 2001:db8::{port:x} ::1 {port} 80\r\n".encode(),
        f"PROXY UNKNOWN {word(number, 80)}\r\n".encode(),
        f"PROXY {word(number, 90)}\r\n".encode(),
        f"{word(number, 100)}\r\n".encode(),
        block(4000, word(number, 4000).encode()),
        block(0, family=number % 256),
    ]
    return bytes(kinds[number % len(kinds)]) + word(number, 50).encode() + b"\n"


def adversarial_headers(size: int) -> Mapping[str, bytes]:
    return {
        "no line end": filled(b"PROXY UNKNOWN ", b"\r", b"", size),
        "digits": filled(b"PROXY TCP4 ", b"1", b"\r\n", 107),
        "colons": filled(b"PROXY TCP6 ", b":", b" ::1 1 1\r\n", 107),
        "notes": block(LIMIT - 28, b"\x04\0\0" * ((LIMIT - 28) // 3)),
        "lies": block(65_000),
    }


PROXY = Grammar(
    "PROXY headers",
    proxied,
    unlike_header,
    lambda size: block(size - 28, word(1, size - 28).encode()),
    adversarial_headers,
    LIMIT,
)

GRAMMARS = (*(grammar_of(name, piece) for name in FRAMINGS for piece in (65_536, 500)), PROXY)
