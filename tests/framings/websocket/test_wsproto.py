"""Mutated streams of frames: our decoder and wsproto's find the same messages and refuse the same frames."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
from wsproto.frame_protocol import CloseReason, FrameProtocol, Opcode, ParseFailed

from daemons.framings import Oversize
from daemons.framings.websocket import Close, Ping, Pong, Text, WebSocket
from tests.framings.websocket.frames import MASK, Found, cut, found, frame

NAMES = {Opcode.TEXT: "text", Opcode.BINARY: "binary", Opcode.PING: "ping", Opcode.PONG: "pong", Opcode.CLOSE: "close"}

CLOSES = [b"\x03\xe8", b"\x03\xe8bye", b"\x0b\xb8", b""]
TEXTS = [b"", b"a", "naïve € 😀".encode(), b"*" * 125, b"\0" * 300]
WRONG = [
    "€".encode()[:2],
    b"\xed\xa0\x80",
    b"\xff",
    b"\x03\xed",
    b"\x03\xf6",
    b"\x03\xf7",
    b"\x13\x88",
    b"\x03",
    b"\0\0",
]


class Parsed(NamedTuple):
    """Messages, and the code of the error; None: there is none."""

    messages: list[Found]
    code: int | None


def theirs(data: bytes, client: bool) -> Parsed:
    protocol = FrameProtocol(client, [])
    protocol.receive_bytes(data)
    messages: list[Found] = []
    content = b""
    try:
        for piece in protocol.received_frames():
            if piece.opcode is Opcode.CLOSE:
                assert isinstance(piece.payload, tuple)
                code, reason = piece.payload
                octets = (
                    b"" if code == CloseReason.NO_STATUS_RCVD else code.to_bytes(2, "big") + (reason or "").encode()
                )
                messages.append(("close", octets))
                break  # the rest is ignored
            assert isinstance(piece.payload, (str, bytes, bytearray))
            octets = piece.payload.encode() if isinstance(piece.payload, str) else bytes(piece.payload)
            if piece.opcode in (Opcode.PING, Opcode.PONG):
                messages.append((NAMES[piece.opcode], octets))
                continue
            content += octets
            if piece.message_finished:
                messages.append((NAMES[piece.opcode], content))
                content = b""
    except ParseFailed as error:
        return Parsed(messages, error.code)
    return Parsed(messages, None)


def ours(data: bytes, client: bool, pieces: list[bytes] | None = None) -> tuple[Parsed, bool]:
    """The messages, and whether a limit, which wsproto has not, was exceeded."""
    framing = WebSocket(limit=1 << 20, client=client, new_mask=lambda: MASK)
    messages, error, _ = found(framing, pieces or [data])
    if error is None:
        return Parsed(messages, None), False
    (_, payload), *_ = found(WebSocket(limit=1, client=not client), [error.apology])[0]
    return Parsed(messages, int.from_bytes(payload, "big")), isinstance(error, Oversize)


def mutated(chance: random.Random, mask: bytes | None) -> bytes:
    """Up to five frames.  In two streams of three, frames may have mistakes, bytes may be changed, or the end cut."""
    bad = chance.random() < 0.67
    data = bytearray()
    within = False
    for _ in range(chance.randrange(1, 6)):
        opcode = chance.choice([0, 0, 9] if within else [1, 1, 2, 8, 9, 10])
        final = chance.random() < 0.6 or opcode >= 8
        within = within if opcode >= 8 else not final
        payload = chance.choice(CLOSES if opcode == 8 else TEXTS[:4] if opcode > 8 else TEXTS)
        if bad and chance.random() < 0.2:
            opcode = chance.choice([chance.randrange(16), 0, 1, 2, 8])
        data += frame(
            opcode,
            chance.choice(WRONG + TEXTS) if bad and chance.random() < 0.2 else payload,
            final=final is not (bad and chance.random() < 0.05),
            reserved=chance.choice([0] * 20 + [1, 2, 4]) if bad else 0,
            mask=mask if not bad or chance.random() < 0.97 else (MASK if mask is None else None),
        )
    if bad:
        for _ in range(chance.choice([0, 0, 0, 1, 2])):
            data[chance.randrange(len(data))] = chance.choice([0, 0x7E, 0x7F, 0xFE, 0xFF, chance.randrange(256)])
        del data[len(data) - chance.choice([0, 0, 0, chance.randrange(20)]) :]
    return bytes(data)


@pytest.mark.parametrize("client", [False, True])
def test_wsproto_finds_the_same_messages_and_the_same_errors(client: bool) -> None:
    chance = random.Random(6455 + client)
    good = bad = 0
    for _ in range(1000):
        data = mutated(chance, None if client else MASK)
        (messages, code), large = ours(data, client)
        if any(kind == "close" and payload.startswith(b"\x03\xf6") for kind, payload in messages):
            continue  # wsproto does not know code 1014, Bad Gateway, of IANA's registry
        at = [chance.randrange(len(data) + 1) for _ in range(6)]
        assert ours(data, client, cut(data, at))[0] == (messages, code)
        expected = theirs(data, client)
        if large:
            # wsproto waits for the rest of the message.
            assert messages == expected.messages[: len(messages)]
        elif expected.code is None and code is not None:
            # Ours refuses a frame before it is complete; wsproto refuses it when the next bytes arrive.
            assert theirs(data + bytes(300), client) == (messages, code), data[:200]
        else:
            assert (messages, code) == expected, data[:200]
        good += code is None and bool(messages)
        bad += code is not None
    assert good > 200, "too few are good"
    assert bad > 200, "too few are bad"


@pytest.mark.parametrize("client", [False, True])
def test_each_side_reads_the_frames_of_the_other(client: bool) -> None:
    peer = FrameProtocol(client, [])
    sent = b"".join(
        (
            peer.send_data("one €", fin=True),
            peer.ping(b"p"),
            peer.send_data(b"two", fin=False),
            peer.pong(b"q"),
            peer.send_data(bytes(70_000), fin=True),
            peer.close(CloseReason.GOING_AWAY, "away"),
        )
    )
    mine = WebSocket(limit=1 << 20, client=not client)
    messages, error, ended = found(mine, cut(sent, range(0, len(sent), 1009)))
    assert (error, ended) == (None, True)
    assert messages == [
        *(("text", "one €".encode()), ("ping", b"p"), ("pong", b"q"), ("binary", b"two" + bytes(70_000))),
        ("close", b"\x03\xe9away"),
    ]
    replies = [Text("one €"), b"\xff" * 300, b"", Ping(b"p"), Pong(), Text("a" * 70_000), Close(3000, "é")]
    encoded = b"".join(map(mine.encode, replies))
    assert theirs(encoded, client) == (
        [
            *(("text", "one €".encode()), ("binary", b"\xff" * 300), ("binary", b""), ("ping", b"p"), ("pong", b"")),
            *(("text", b"a" * 70_000), ("close", b"\x0b\xb8" + "é".encode())),
        ],
        None,
    )
