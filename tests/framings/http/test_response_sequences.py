"""Several responses on a connection: interim ones, a change of protocol, and whether another request can follow."""

from __future__ import annotations

import random

import h11
import pytest

from daemons.framings import Malformed
from daemons.framings.http import ResponseDecoder, ResponseHead, ResponseLimits
from tests.framings.http.test_responses import EMPTY, INTERIM, OK, chunks
from tests.framings.http.test_responses_fuzzed import PIECES


def events(decoder: ResponseDecoder, data: bytes, size: int) -> list[ResponseHead | bytes]:
    """What `decode` returns for pieces of `size` bytes, with the pieces of the body joined."""
    found: list[ResponseHead | bytes] = []
    for at in range(0, len(data), size):
        for event in decoder.decode(data[at : at + size]):
            if isinstance(event, bytes) and found and isinstance(found[-1], bytes):
                event = found.pop() + event  # type: ignore[operator]
            found.append(event)
    return found


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_interim_responses_are_returned_to_a_proxy_before_the_final_one(size: int) -> None:
    data = INTERIM + b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok"
    decoder = ResponseDecoder("GET", interim=True)
    hints, proceed, head, body = events(decoder, data, size)
    assert isinstance(hints, ResponseHead)
    assert (hints.status, hints.fields) == (103, ((b"Link", b"</a>"),))
    assert isinstance(proceed, ResponseHead)
    assert proceed.status == 100
    assert (head, body, decoder.complete) == (decoder.head, b"ok", True)
    decoder = ResponseDecoder("GET", ResponseLimits(interim=2), interim=True)
    assert len(events(decoder, INTERIM * 3 + OK, size)) == 2
    assert str(decoder.error) == "more than 2 responses of 1xx"


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_after_101_to_an_upgrade_the_other_protocol_follows(size: int) -> None:
    decoder = ResponseDecoder("GET", upgrade=True)
    (head,) = events(decoder, INTERIM + SWITCH + b"\x81\x05Hello", size)
    assert isinstance(head, ResponseHead)
    assert (head.status, head.length, head.keep_alive) == (101, 0, False)
    assert (decoder.complete, decoder.reusable, decoder.rest, decoder.error) == (True, False, b"\x81\x05Hello", None)
    # A server may decline, and 101 may not have a body.
    declined = ResponseDecoder("GET", upgrade=True)
    assert events(declined, OK + b"Content-Length: 2\r\n\r\nno", size)[1:] == [b"no"]
    assert declined.reusable
    wrong = ResponseDecoder("GET", upgrade=True)
    events(wrong, SWITCH[:-2] + b"Content-Length: 0\r\n\r\n", size)
    assert isinstance(wrong.error, Malformed)


@pytest.mark.parametrize(
    ("data", "reusable"),
    [
        (OK + b"Content-Length: 2\r\n\r\nok", True),
        (chunks(b"2\r\nok\r\n" + EMPTY), True),
        (OK + b"Content-Length: 2\r\n\r\no", False),
        (OK + b"Content-Length: 2\r\n\r\nokH", False),
        (chunks(b"2\r\nok\r\n" + EMPTY + b"\r\n"), False),
        (OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nok", False),
        (OK + b"\r\nok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", False),
        (OK + b"Content-Length: 0x2\r\n\r\nok", False),
        (b"", False),
    ],
)
def test_connection_is_reusable_if_it_is_kept_and_nothing_follows_the_response(data: bytes, reusable: bool) -> None:
    for size in (1, 7, 1000):
        decoder = ResponseDecoder("GET")
        events(decoder, data, size)
        assert decoder.reusable is reusable
        decoder.decode(b"HTTP/1.1 200 OK\r\n")
        assert not decoder.reusable, "surplus that arrives later counts as well"


def switched_for_h11(data: bytes) -> tuple[tuple[tuple[bytes, bytes], ...], bytes] | None:
    """The fields of the 101 that h11 finds in `data`, in small letters, and the bytes after it; None: there is none."""
    client = h11.Connection(h11.CLIENT)
    client.send(
        h11.Request(method="GET", target="/", headers=[("Host", "a"), ("Connection", "upgrade"), ("Upgrade", "x")])
    )
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    try:
        while isinstance(event := client.next_event(), h11.InformationalResponse):
            if event.status_code == 101:
                return tuple(event.headers), client.trailing_data[0]
    except h11.RemoteProtocolError:
        pass
    return None


def test_each_101_that_ours_takes_h11_takes() -> None:
    chance = random.Random(101)
    taken = 0
    for _ in range(600):
        data = bytearray(chance.choice([b"", INTERIM]) + SWITCH + b"\x81\x05Hello")
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(data))
            data[at : at + chance.randrange(3)] = chance.choice(PIECES)
        found = []
        for size in (1, 9, len(data)):
            decoder = ResponseDecoder("GET", upgrade=True)
            events(decoder, bytes(data), size)
            found.append((decoder.head, decoder.rest, str(decoder.error)))
        assert found[0] == found[1] == found[2]
        head, rest, _ = found[0]
        if head is not None and head.status == 101:
            names = tuple((name.lower(), value) for name, value in head.fields)
            assert switched_for_h11(bytes(data)) == (names, rest), bytes(data)
            taken += 1
    assert taken > 100, "too few are good"
