"""The cases of autobahn.py, whole, cut, and in single bytes."""

from __future__ import annotations

import itertools

import pytest

from daemons.framings.websocket import WebSocket
from tests.framings.websocket.autobahn import CASES, CLOSED, INVALID_TEXTS, VALID_TEXTS
from tests.framings.websocket.frames import code_of, cut, found, frame, octets_of

SERVER = WebSocket(limit=1 << 20)


@pytest.mark.parametrize("name", CASES)
def test_case_of_the_suite(name: str) -> None:
    sent, messages, end = CASES[name]
    ways = [[sent], cut(sent, range(0, len(sent), 997))]
    if len(sent) < 2000:
        ways.append(octets_of(sent))
    for pieces in ways:
        decoded, error, ended = found(SERVER, pieces)
        assert decoded == messages
        assert ended is (end == CLOSED)
        assert code_of(error) == (end or None)


@pytest.mark.parametrize("text", VALID_TEXTS)
def test_valid_text_is_delivered_however_it_is_fragmented(text: bytes) -> None:
    for at in range(len(text) + 1):
        parts = frame(1, text[:at], final=False) + frame(0, text[at:])
        assert found(SERVER, [parts]) == ([("text", text)], None, False)
    single = b"".join(frame(0 if at else 1, text[at : at + 1], final=False) for at in range(len(text))) + frame(0)
    assert found(SERVER, [single]) == found(SERVER, octets_of(single)) == ([("text", text)], None, False)


#: Continuation bytes at the bounds of their ranges: with up to three of them, every beginning of a character can be
#: completed.
COMPLETIONS = [
    bytes(rest) for count in range(4) for rest in itertools.product((0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF), repeat=count)
]


def can_be_completed(text: bytes) -> bool:
    """Whether some bytes after `text` make it UTF-8."""
    for rest in COMPLETIONS:
        try:
            (text + rest).decode()
        except UnicodeDecodeError:
            continue
        return True
    return False


@pytest.mark.parametrize("text", INVALID_TEXTS)
def test_invalid_text_is_refused_at_its_first_wrong_byte(text: bytes) -> None:
    good = next((size for size in range(len(text)) if not can_be_completed(text[: size + 1])), len(text))
    # In a long frame that is not complete, the first wrong byte is an error.  After the bytes before it, there is none.
    sent = frame(1, text.ljust(100))
    at = len(sent) - 100 + good
    for pieces in ([sent[:at]], octets_of(sent[:at])):
        assert found(SERVER, pieces) == ([], None, False)
    for pieces in ([sent[: at + 1]], octets_of(sent[: at + 1])):
        assert code_of(found(SERVER, pieces)[1]) == 1007
    # In fragments of a byte, and at the end of the message.
    single = [frame(0 if at else 1, text[at : at + 1], final=at == len(text) - 1) for at in range(len(text))]
    assert found(SERVER, single[: min(good, len(text) - 1)]) == ([], None, False)
    assert code_of(found(SERVER, single)[1]) == 1007
    assert code_of(found(SERVER, [frame(1, text)])[1]) == 1007
