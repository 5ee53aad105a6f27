"""The handshake: the RFC's example, each rule of section 4, and wsproto at the other end."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection
from wsproto.events import Request as TheirRequest
from wsproto.utilities import RemoteProtocolError

from daemons.framings.http import HTTP, Request, ResponseDecoder
from daemons.framings.websocket import (
    Handshake,
    HandshakeError,
    Text,
    WebSocket,
    accept_handshake,
    check_handshake,
    new_key,
    read_handshake,
    request_handshake,
)

#: The example of RFC 6455, section 1.3.
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

LINE = b"GET /chat HTTP/1.1\r\n"
FIELDS = {
    b"Host": b"server.example.com",
    b"Upgrade": b"websocket",
    b"Connection": b"Upgrade",
    b"Sec-WebSocket-Key": KEY,
    b"Origin": b"http://example.com",
    b"Sec-WebSocket-Protocol": b"chat, superchat",
    b"Sec-WebSocket-Version": b"13",
}


def request(changed: dict[bytes, bytes] | None = None, *, line: bytes = LINE, more: bytes = b"") -> Request:
    """The example, with changed fields; an empty value: without the field."""
    fields = FIELDS | (changed or {})
    data = line + b"".join(b"%b: %b\r\n" % field for field in fields.items() if field[1]) + more
    (message,) = HTTP().decoder().decode(data)
    assert isinstance(message, Request)
    return message


def test_example_of_the_rfc() -> None:
    handshake = read_handshake(request(more=b"\r\n"))
    assert handshake == Handshake(KEY, ("chat", "superchat"), "http://example.com")
    assert handshake.choose(["superchat", "chat"]) == "chat", "the order of the client counts"
    assert handshake.choose(["other"]) == ""
    response = accept_handshake(handshake, "chat", [("Set-Cookie", "a=b")])
    assert response == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: chat\r\nSet-Cookie: a=b\r\n\r\n" % ACCEPT
    )
    with pytest.raises(ValueError, match="subprotocol 'other'; one of"):
        accept_handshake(handshake, "other")


@pytest.mark.parametrize(
    "changed",
    [
        {b"Upgrade": b"WebSocket"},
        {b"Upgrade": b"h2c, websocket"},
        {b"Connection": b"keep-alive, Upgrade"},
        {b"Connection": b"UPGRADE"},
        {b"Origin": b""},
        {b"Sec-WebSocket-Protocol": b""},
        {b"Content-Length": b"0"},
        {b"Sec-WebSocket-Extensions": b"permessage-deflate; client_max_window_bits"},
    ],
)
def test_requests_that_are_accepted(changed: dict[bytes, bytes]) -> None:
    handshake = read_handshake(request(changed, more=b"\r\n"))
    assert b"Extensions" not in accept_handshake(handshake)


REFUSED: dict[str, tuple[Callable[[], Request], int, str]] = {
    "POST": (lambda: request(line=b"POST / HTTP/1.1\r\n", more=b"\r\n"), 405, "the method is not GET"),
    "HTTP/1.0": (
        lambda: request(line=b"GET / HTTP/1.0\r\n", more=b"\r\n"),
        400,
        "the version is HTTP/1.0; HTTP/1.1 is expected",
    ),
    "no Upgrade": (lambda: request({b"Upgrade": b""}, more=b"\r\n"), 426, "Upgrade is not websocket"),
    "Upgrade to another protocol": (
        lambda: request({b"Upgrade": b"h2c"}, more=b"\r\n"),
        426,
        "Upgrade is not websocket",
    ),
    "a version in Upgrade": (
        lambda: request({b"Upgrade": b"websocket/13"}, more=b"\r\n"),
        426,
        "Upgrade is not websocket",
    ),
    "no Connection": (lambda: request({b"Connection": b""}, more=b"\r\n"), 400, "Connection does not name Upgrade"),
    "another Connection": (
        lambda: request({b"Connection": b"keep-alive, Upgrades"}, more=b"\r\n"),
        400,
        "Connection does not name Upgrade",
    ),
    "no version": (
        lambda: request({b"Sec-WebSocket-Version": b""}, more=b"\r\n"),
        426,
        "Sec-WebSocket-Version is not 13",
    ),
    "version 8": (
        lambda: request({b"Sec-WebSocket-Version": b"8"}, more=b"\r\n"),
        426,
        "Sec-WebSocket-Version is not 13",
    ),
    "versions": (
        lambda: request({b"Sec-WebSocket-Version": b"13, 8"}, more=b"\r\n"),
        426,
        "Sec-WebSocket-Version is not 13",
    ),
    "a version twice": (
        lambda: request(more=b"Sec-WebSocket-Version: 13\r\n\r\n"),
        400,
        "more than one Sec-WebSocket-Version",
    ),
    **{
        f"key {key!r}": (
            lambda key=key: request({b"Sec-WebSocket-Key": key}, more=b"\r\n"),  # type: ignore[misc]
            400,
            "Sec-WebSocket-Key is not one value of 16 bytes in base64",
        )
        for key in (b"", b"dGhlIHNhbXBsZQ==", KEY[:-2], KEY + b"AAAA", b"-_" + KEY[2:], KEY[:9] + b" " + KEY[10:])
    },
    "a key twice": (
        lambda: request(more=b"Sec-WebSocket-Key: " + KEY + b"\r\n\r\n"),
        400,
        "Sec-WebSocket-Key is not one value of 16 bytes in base64",
    ),
    "a body": (
        lambda: request({b"Content-Length": b"2"}, more=b"\r\n\x81\x80"),
        400,
        "a request with a body; none is expected",
    ),
    "two Origins": (lambda: request(more=b"Origin: null\r\n\r\n"), 400, "more than one Origin"),
    "a subprotocol twice": (
        lambda: request(more=b"Sec-WebSocket-Protocol: chat\r\n\r\n"),
        400,
        "Sec-WebSocket-Protocol is not a list of different tokens",
    ),
    "a subprotocol with a blank": (
        lambda: request({b"Sec-WebSocket-Protocol": b"a b"}, more=b"\r\n"),
        400,
        "Sec-WebSocket-Protocol is not a list of different tokens",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_request_is_refused_with_the_status_and_fields_of_the_rule(name: str) -> None:
    made, status, text = REFUSED[name]
    with pytest.raises(HandshakeError) as refused:
        read_handshake(made())
    assert (refused.value.status, str(refused.value)) == (status, text)
    expected = {
        400: (),
        405: (("Allow", "GET"),),
        426: (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")),
    }
    assert refused.value.fields == expected[status]


def response(*changed: bytes, status: bytes = b"101 Switching Protocols") -> bytes:
    """A response to the example, with changed or further fields; an empty value: without the field."""
    fields = {b"Upgrade": b"websocket", b"Connection": b"Upgrade", b"Sec-WebSocket-Accept": ACCEPT}
    lines = []
    for line in changed:
        name, _, value = line.partition(b": ")
        fields.pop(name, None)
        if value:
            lines.append(line)
    return b"\r\n".join((b"HTTP/1.1 " + status, *(b"%b: %b" % field for field in fields.items()), *lines, b"", b""))


def check(data: bytes, subprotocols: tuple[str, ...] = ("chat",)) -> str:
    decoder = ResponseDecoder("GET", upgrade=True)
    decoder.decode(data)
    assert decoder.head is not None
    return check_handshake(decoder.head, KEY, subprotocols)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (response(status=b"200 OK"), "the server responded 200; 101 is expected"),
        (response(b"Upgrade: "), "Upgrade is not websocket"),
        (response(b"Upgrade: websocket, h2c"), "Upgrade is not websocket"),
        (response(b"Connection: close"), "Connection does not name Upgrade"),
        (response(b"Sec-WebSocket-Accept: "), "Sec-WebSocket-Accept does not match the key"),
        (response(b"Sec-WebSocket-Accept: " + KEY), "Sec-WebSocket-Accept does not match the key"),
        (
            response(b"Sec-WebSocket-Accept: " + ACCEPT.swapcase()),
            "Sec-WebSocket-Accept does not match the key",
        ),
        (
            response(b"Sec-WebSocket-Extensions: permessage-deflate"),
            "the server accepted an extension; none was offered",
        ),
        (response(b"Sec-WebSocket-Protocol: other"), "the server chose a subprotocol that was not offered"),
        (response(b"Sec-WebSocket-Protocol: CHAT"), "the server chose a subprotocol that was not offered"),
    ],
)
def test_response_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(HandshakeError) as refused:
        check(data)
    assert str(refused.value) == text
    assert refused.value.status == (200 if b"200" in data else 101)


def test_responses_that_are_accepted() -> None:
    assert check(response()) == ""
    assert check(response(b"Sec-WebSocket-Protocol: chat", b"Upgrade: WebSocket", b"Connection: Upgrade, a")) == "chat"


BAD_VALUES: dict[str, Callable[[], bytes]] = {
    "host": lambda: request_handshake("a\r\nX: b", "/", KEY),
    "blank in the target": lambda: request_handshake("a", "/a b", KEY),
    "target without a slash": lambda: request_handshake("a", "a", KEY),
    "key": lambda: request_handshake("a", "/", b"short"),
    "a subprotocol twice": lambda: request_handshake("a", "/", KEY, subprotocols=["a", "a"]),
    "subprotocol": lambda: request_handshake("a", "/", KEY, subprotocols=["a,b"]),
    "origin": lambda: request_handshake("a", "/", KEY, origin="http://\n"),
    "name of a field": lambda: request_handshake("a", "/", KEY, fields=[("X Y", "a")]),
    "field": lambda: request_handshake("a", "/", KEY, fields=[("X", "a\r\nY: b")]),
    "field of a response": lambda: accept_handshake(read_handshake(request(more=b"\r\n")), fields=[("X", "a\nY: b")]),
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_value_that_would_change_the_head_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        BAD_VALUES[name]()


def test_our_client_and_our_server_talk_after_the_handshake() -> None:
    key = new_key()
    assert key != new_key()
    sent = request_handshake(
        "localhost:1", "/chat?a=b", key, subprotocols=["a", "b"], origin="null", fields=[("X-Y", "é")]
    )
    (message,) = HTTP().decoder().decode(sent)
    assert isinstance(message, Request)
    handshake = read_handshake(message)
    assert (message.target, handshake) == ("/chat?a=b", Handshake(key, ("a", "b"), "null"))
    # The first frame follows the response in one piece.
    data = accept_handshake(handshake, "b") + WebSocket(limit=9).encode(Text("hello"))
    for size in (1, 40, len(data)):
        decoder = ResponseDecoder("GET", upgrade=True)
        for at in range(0, len(data), size):
            decoder.decode(data[at : at + size])
        assert decoder.complete
        assert decoder.head is not None
        assert not decoder.reusable
        assert check_handshake(decoder.head, key, ["a", "b"]) == "b"
        assert WebSocket(limit=9, client=True).decoder().decode(decoder.rest) == [Text("hello")]


def test_wsproto_accepts_our_request_and_we_accept_its_response() -> None:
    server = WSConnection(ConnectionType.SERVER)
    key = new_key()
    server.receive_data(request_handshake("localhost", "/", key, subprotocols=["chat"]))
    (event,) = server.events()
    assert isinstance(event, TheirRequest)
    assert event.subprotocols == ["chat"]
    decoder = ResponseDecoder("GET", upgrade=True)
    decoder.decode(server.send(AcceptConnection(subprotocol="chat")))
    assert decoder.head is not None
    assert check_handshake(decoder.head, key, ["chat"]) == "chat"


def test_we_accept_the_request_of_wsproto_and_it_accepts_our_response() -> None:
    client = WSConnection(ConnectionType.CLIENT)
    (message,) = HTTP().decoder().decode(client.send(TheirRequest(host="a", target="/", subprotocols=["chat"])))
    assert isinstance(message, Request)
    client.receive_data(accept_handshake(read_handshake(message), "chat"))
    (event,) = client.events()
    assert isinstance(event, AcceptConnection)
    assert event.subprotocol == "chat"


def test_each_request_that_we_accept_wsproto_accepts() -> None:
    chance = random.Random(6455)
    words = [*FIELDS, *FIELDS.values(), b"websocket", b"Upgrade", b"13", b",", b" ", b"a", b"keep-alive", KEY]
    accepted = 0
    for _ in range(600):
        fields = list(FIELDS.items())
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(fields))
            name, value = fields[at]
            fields[at : at + chance.randrange(2)] = chance.choice(
                [[], [(name, chance.choice(words))], [(name, value + chance.choice(words))], [(name.upper(), value)]]
            )
        data = LINE + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n"
        messages = HTTP().decoder().decode(data)
        try:
            handshake = read_handshake(messages[0]) if messages else None  # type: ignore[arg-type]
        except HandshakeError:
            continue
        if handshake is None:
            continue
        accepted += 1
        server = WSConnection(ConnectionType.SERVER)
        try:
            server.receive_data(data)
            (event,) = server.events()
        except RemoteProtocolError as error:
            raise AssertionError(data) from error
        assert isinstance(event, TheirRequest)
        assert tuple(event.subprotocols) == handshake.subprotocols
    assert accepted > 100, "too few are good"
