"""The cases of the Autobahn test suite that concern framing, in our own words: its sections 1 to 7 and 9.

The suite plays a client against a server that echoes messages and answers control frames.  A case is the frames it
sends, the messages that the server must find in them, and the end: None (the connection stays open), ``CLOSED`` (a
valid Close was received), or the code of the Close with which the server fails the connection.  Messages before an
error are required here, although the suite also accepts a server that fails at once.

Long messages are shorter here than in section 9: their form, not their size, is of interest for a decoder.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.framings.websocket.frames import Found, frame

CLOSED = 0


class Case(NamedTuple):
    sent: bytes
    messages: list[Found]
    end: int | None = None


TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
NAMES = {TEXT: "text", BINARY: "binary", CLOSE: "close", PING: "ping", PONG: "pong"}


def whole(*frames: tuple[int, bytes]) -> Case:
    """Frames that are each a message."""
    return Case(
        b"".join(frame(opcode, payload) for opcode, payload in frames),
        [(NAMES[opcode], payload) for opcode, payload in frames],
    )


def failed(before: Case, wrong: bytes, code: int = 1002) -> Case:
    """Good frames, a wrong one, and a Ping that is not answered."""
    return Case(before.sent + wrong + frame(PING, b"late"), before.messages, code)


def closed(payload: bytes, before: Case | None = None, after: bytes = b"") -> Case:
    sent, messages = (before.sent, before.messages) if before else (b"", [])
    return Case(sent + frame(CLOSE, payload) + after, [*messages, ("close", payload)], CLOSED)


def fragments(opcode: int, *parts: bytes) -> bytes:
    last = len(parts) - 1
    return b"".join(frame(0 if number else opcode, part, final=number == last) for number, part in enumerate(parts))


NONE = Case(b"", [])

#: A Greek word, one letter of which has three bytes, the others two.
KOSME = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"
HELLO = whole((TEXT, b"Hello, world!"))
SIZES = (0, 125, 126, 127, 128, 65535, 65536)

CASES: dict[str, Case] = {
    **{f"1.1.{number}": whole((TEXT, b"*" * size)) for number, size in enumerate(SIZES, 1)},
    **{f"1.2.{number}": whole((BINARY, b"\xfe" * size)) for number, size in enumerate(SIZES, 1)},
    "2.1 Ping without a payload": whole((PING, b"")),
    "2.2 Ping with text": whole((PING, b"Hello, world!")),
    "2.3 Ping with bytes that are not text": whole((PING, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")),
    "2.4 Ping of 125 bytes": whole((PING, b"\xfe" * 125)),
    "2.5 Ping of 126 bytes": failed(NONE, frame(PING, b"\xfe" * 126)),
    "2.7 Pong without a Ping": whole((PONG, b"")),
    "2.8 Pong without a Ping, with a payload": whole((PONG, b"unsolicited")),
    "2.9 Pong without a Ping, then a Ping": whole((PONG, b"unsolicited"), (PING, b"ping")),
    "2.10 ten Pings": whole(*((PING, b"payload-%d" % number) for number in range(10))),
    "3.1 text with RSV 1": failed(NONE, frame(TEXT, b"Hello, world!", reserved=1)),
    "3.2 text with RSV 2 after text": failed(HELLO, frame(TEXT, b"Hello, world!", reserved=2)),
    "3.4 text with RSV 4 after text": failed(HELLO, frame(TEXT, b"Hello, world!", reserved=4)),
    "3.5 binary with RSV 5": failed(NONE, frame(BINARY, b"\x00\xff\xfe", reserved=5)),
    "3.6 Ping with RSV 6": failed(NONE, frame(PING, b"Hello, world!", reserved=6)),
    "3.7 Close with RSV 7": failed(NONE, frame(CLOSE, b"\x03\xe8", reserved=7)),
    **{f"4.1 opcode {opcode}": failed(HELLO, frame(opcode, b"Hello, world!")) for opcode in range(3, 8)},
    **{f"4.2 opcode {opcode}": failed(HELLO, frame(opcode, b"Hello, world!")) for opcode in range(11, 16)},
    "5.1 Ping in two fragments": failed(NONE, fragments(PING, b"fragment1", b"fragment2")),
    "5.2 Pong in two fragments": failed(NONE, fragments(PONG, b"fragment1", b"fragment2")),
    "5.3 text in two fragments": Case(fragments(TEXT, b"fragment1", b"fragment2"), [("text", b"fragment1fragment2")]),
    "5.6 text in two fragments, a Ping between": Case(
        frame(TEXT, b"fragment1", final=False) + frame(PING, b"ping") + frame(0, b"fragment2"),
        [("ping", b"ping"), ("text", b"fragment1fragment2")],
    ),
    "5.9 last fragment of no message": failed(NONE, frame(0, b"continues") + HELLO.sent),
    "5.12 fragment of no message": failed(NONE, frame(0, b"continues", final=False) + HELLO.sent),
    "5.15 fragment after a complete message": failed(
        Case(fragments(TEXT, b"fragment1", b"fragment2"), [("text", b"fragment1fragment2")]),
        frame(0, b"fragment3", final=False) + frame(TEXT, b"fragment4"),
    ),
    "5.18 second fragment has the opcode of the first": failed(
        NONE, frame(TEXT, b"fragment1", final=False) + frame(TEXT, b"fragment2")
    ),
    "5.19 five fragments and two Pings": Case(
        frame(TEXT, b"fragment1", final=False)
        + frame(0, b"fragment2", final=False)
        + frame(PING, b"pongme 1")
        + frame(0, b"fragment3", final=False)
        + frame(0, b"fragment4", final=False)
        + frame(PING, b"pongme 2")
        + frame(0, b"fragment5"),
        [
            ("ping", b"pongme 1"),
            ("ping", b"pongme 2"),
            ("text", b"fragment1fragment2fragment3fragment4fragment5"),
        ],
    ),
    "6.1.1 empty text": whole((TEXT, b"")),
    "6.1.2 three empty fragments": Case(fragments(TEXT, b"", b"", b""), [("text", b"")]),
    "6.1.3 empty, some, empty": Case(fragments(TEXT, b"", b"middle", b""), [("text", b"middle")]),
    "7.1.1 text, then Close": closed(b"\x03\xe8", HELLO),
    "7.1.2 two Closes": closed(b"\x03\xe8", None, frame(CLOSE, b"\x03\xe8")),
    "7.1.3 Ping after Close": closed(b"\x03\xe8", None, frame(PING)),
    "7.1.4 text after Close": closed(b"\x03\xe8", None, HELLO.sent),
    "7.1.5 Close between fragments": Case(
        frame(TEXT, b"fragment1", final=False) + frame(CLOSE, b"\x03\xe8") + frame(0, b"fragment2"),
        [("close", b"\x03\xe8")],
        CLOSED,
    ),
    "7.1.6 long text, Close, Ping": closed(b"\x03\xe8", whole((TEXT, b"BAsd7&jh23" * 6554)), frame(PING)),
    "7.3.1 Close without a payload": closed(b""),
    "7.3.2 Close of one byte": failed(NONE, frame(CLOSE, b"a")),
    "7.3.3 Close with a code": closed(b"\x03\xe8"),
    "7.3.4 Close with a reason": closed(b"\x03\xe8Hello World!"),
    "7.3.5 Close of 125 bytes": closed(b"\x03\xe8" + b"*" * 123),
    "7.3.6 Close of 126 bytes": failed(NONE, frame(CLOSE, b"\x03\xe8" + b"*" * 124)),
    "7.5.1 reason that is not UTF-8": failed(NONE, frame(CLOSE, b"\x03\xe8" + KOSME + b"\xed\xa0\x80edited"), 1007),
    **{
        f"7.7 Close with code {code}": closed(code.to_bytes(2, "big"))
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
    },
    **{
        f"7.9 Close with code {code}": failed(NONE, frame(CLOSE, code.to_bytes(2, "big")))
        for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999)
    },
    # The suite has no required outcome for these.
    **{f"7.13 Close with code {code}": failed(NONE, frame(CLOSE, code.to_bytes(2, "big"))) for code in (5000, 65535)},
    "9.1 long text": whole((TEXT, KOSME * 20_000)),
    "9.2 long binary message": whole((BINARY, bytes(range(256)) * 900)),
    "9.3 long text in short fragments": Case(fragments(TEXT, *[b"*" * 64] * 2000), [("text", b"*" * 128_000)]),
    "9.4 long binary message in long fragments": Case(
        fragments(BINARY, *[b"\xfe" * 4096] * 40), [("binary", b"\xfe" * 163_840)]
    ),
    **{f"9.7 many texts of {size} bytes": whole(*[(TEXT, b"*" * size)] * 200) for size in (0, 16, 64, 256)},
    **{f"9.8 many binary messages of {size} bytes": whole(*[(BINARY, b"\xfe" * size)] * 200) for size in (0, 16, 256)},
}

#: Sections 6.2 to 6.23: payloads of text messages, and whether they are UTF-8 (after Markus Kuhn's stress test).
VALID_TEXTS = [
    *("Hello-µ@ßöäüàá-UTF-8!!".encode(), KOSME),
    # The first and the last character of each length, and those beside the surrogates.
    *(b"\0", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80", b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf"),
    *(b"\xf4\x8f\xbf\xbf", b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd"),
    # Noncharacters are valid.
    *(b"\xef\xbf\xbe", b"\xf0\x9f\xbf\xbe", b"\xf0\x9f\xbf\xbf", b"\xf4\x8f\xbf\xbe", b"\xef\xbf\xb9\xef\xbf\xba"),
]
INVALID_TEXTS = [
    # A surrogate in the middle of text: the tests 6.3 and 6.4.
    *(KOSME + b"\xed\xa0\x80edited", KOSME + b"\xf4\x90\x80\x80edited"),
    # Characters that are cut: 6.6.
    *(KOSME[:size] for size in (1, 3, 4, 6, 8, 10)),
    # Sequences of five and six bytes, and beyond the last character.
    *(b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf"),
    *(b"\xfd\xbf\xbf\xbf\xbf\xbf", b"\xf4\x90\x80\x80"),
    # Continuation bytes without a beginning.
    *(b"\x80", b"\xbf", b"\x80\xbf", b"\x80\xbf\x80", b"\x80\xbf\x80\xbf\x80\xbf", bytes(range(0x80, 0xC0))),
    # Beginnings without a continuation.
    *(b"".join(bytes([first, 0x20]) for first in range(start, end)) for start, end in ((0xC0, 0xE0), (0xE0, 0xF0))),
    *(b"".join(bytes([first, 0x20]) for first in range(start, end)) for start, end in ((0xF0, 0xF8), (0xF8, 0xFE))),
    # The last byte is missing.
    *(b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80"),
    *(b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf"),
    # Impossible bytes.
    *(b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"),
    # Overlong forms of a slash, of the last character of each length, and of NUL.
    *(b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf"),
    *(b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"),
    *(b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80", b"\xfc\x80\x80\x80\x80\x80"),
    # Surrogates, single and in pairs.
    *(b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf", b"\xed\xb0\x80", b"\xed\xbe\x80"),
    *(b"\xed\xbf\xbf", b"\xed\xa0\x80\xed\xb0\x80", b"\xed\xad\xbf\xed\xbf\xbf", b"\xed\xaf\xbf\xed\xbf\xbf"),
]
