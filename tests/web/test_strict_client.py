"""h11, a strict HTTP implementation, accepts every response.  Without sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h11
import pytest

from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.states import OVER
from tests.web import example_site, wsgi_talking
from tests.web.example_handlers import LARGE, Hello
from tests.web.example_site import LONG, TEXT, make, service
from tests.web.talking import said, visit


@contextmanager
def _httpd(folder: Path) -> Iterator[Conversation]:
    with example_site.talking(service(make(folder))) as talk:
        yield talk


@contextmanager
def _handler(folder: Path) -> Iterator[Conversation]:
    with visit(Hello) as talk:
        yield talk


@contextmanager
def _application(folder: Path) -> Iterator[Conversation]:
    with wsgi_talking.visit() as talk:
        yield talk


def exchange(
    client: h11.Connection, talk: Conversation, method: str, path: str, *fields: tuple[str, str], body: bytes = b""
) -> tuple[h11.Response, bytes]:
    """Send a request written by h11, and parse the response with h11, which raises for invalid ones."""
    request = h11.Request(method=method, target=path, headers=[("Host", "localhost"), *fields])
    octets = b"".join(client.send(part) or b"" for part in (request, h11.Data(body), h11.EndOfMessage()))
    client.receive_data(said(talk, octets))
    response, content = None, b""
    while True:
        event = client.next_event()
        if isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            content += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert response is not None
            if client.our_state is client.their_state is h11.DONE:
                client.start_next_cycle()
            return response, content
        else:
            assert isinstance(event, h11.InformationalResponse), event


#: Requests over one connection: method, target, body, and expected status.
SELECTING_FIELDS: dict[Callable[[Path], Any], list[tuple[str, str, bytes, int, bytes | None]]] = {
    _httpd: [
        ("GET", "/text.txt", b"", 200, TEXT),
        ("HEAD", "/long.bin", b"", 200, b""),
        ("GET", "/long.bin", b"", 200, LONG),
        ("POST", "/text.txt", b"abc", 405, None),
        ("OPTIONS", "/", b"", 204, b""),
        ("GET", "/none", b"", 404, None),
    ],
    _handler: [
        ("GET", "/", b"", 200, b"hello"),
        ("HEAD", "/large", b"", 200, b""),
        ("GET", "/large", b"", 200, b"x" * LARGE),
        ("POST", "/", b"abc", 200, b"ABC"),
        ("GET", "/chunks", b"", 200, b"ab"),
        ("GET", "/unchanged", b"", 304, b""),
        ("GET", "/nothing", b"", 204, b""),
        ("HEAD", "/nothing", b"", 204, b""),
        ("GET", "/hints", b"", 200, b"hello"),
    ],
    _application: [
        ("GET", "/", b"", 200, b"hello"),
        ("GET", "/pieces", b"", 200, b"abc"),
        ("HEAD", "/pieces", b"", 200, b""),
        ("GET", "/measured", b"", 200, b"abc"),
    ],
}


@pytest.mark.parametrize("kind", SELECTING_FIELDS)
def test_h11_accepts_every_response(kind: Callable[[Path], Any], tmp_path: Path) -> None:
    client = h11.Connection(h11.CLIENT)
    with kind(tmp_path) as talk:
        for method, path, body, status, expected in SELECTING_FIELDS[kind]:
            how = [("Transfer-Encoding", "chunked")] if body else []
            response, content = exchange(client, talk, method, path, *how, body=body)
            assert (response.status_code, content) == (status, content if expected is None else expected), path
            assert client.our_state is h11.IDLE, path
            assert client.trailing_data == (b"", False)
        response, _ = exchange(client, talk, "GET", "/", ("Connection", "close"))
        assert (response.status_code, client.their_state) == (200, h11.MUST_CLOSE)
        assert talk.state == OVER


@pytest.mark.parametrize("kind", SELECTING_FIELDS)
def test_request_without_host_gets_a_response_that_h11_accepts(kind: Callable[[Path], Any], tmp_path: Path) -> None:
    with kind(tmp_path) as talk:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "localhost")]))
        client.send(h11.EndOfMessage())
        client.receive_data(said(talk, b"GET / HTTP/1.1\r\n\r\n"))
        response = client.next_event()
        assert isinstance(response, h11.Response)
        assert (response.status_code, talk.state) == (400, OVER)
        assert isinstance(client.next_event(), h11.Data)
        assert isinstance(client.next_event(), h11.EndOfMessage)
        assert client.their_state is h11.MUST_CLOSE
