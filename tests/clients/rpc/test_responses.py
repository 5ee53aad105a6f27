"""Responses to RPC clients: validation, retries and timeouts."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial

import pytest

from daemons.clients.net.dial import NetworkError
from daemons.clients.rpc.json_rpc import JSONCaller
from daemons.clients.rpc.rpc import Caller, Endpoint, ProtocolError, RemoteFault
from daemons.clients.rpc.xml_rpc import XMLCaller
from tests.clients.rpc.canned import BODY, CHUNKED, OK, SEVEN, http_response, serving, url

__all__ = ["url"]


@pytest.mark.parametrize(
    ("response", "kind", "reason"),
    [
        (http_response(b"", "500 Internal Server Error"), ProtocolError, "responded 500 Internal Server Error$"),
        (http_response(b"", "404 "), ProtocolError, "responded 404$"),
        (http_response(b"<html>"), ProtocolError, "sent malformed XML-RPC: <html> is not allowed in a document"),
        (
            http_response(b"<!DOCTYPE a>"),
            ProtocolError,
            "sent malformed XML-RPC: document type declarations are not allowed",
        ),
        (http_response(b"<?xml version='1.0' encoding='hz'?><a/>"), ProtocolError, "the encoding 'hz' is not accepted"),
        (
            http_response("<!DOCTYPE a>".encode("utf-16")),
            ProtocolError,
            "sent malformed XML-RPC: document type declarations are not allowed",
        ),
        (
            http_response(b"<methodResponse><params/></methodResponse>"),
            ProtocolError,
            "expected one <param> in a response",
        ),
        (b"SSH-2.0-x\r\n", ProtocolError, "does not speak HTTP: it does not begin with HTTP/1"),
        (b"HTTP/1.1 101 \r\n\r\n", ProtocolError, "does not speak HTTP: 101 Switching Protocols"),
        (
            SEVEN.replace(b"\r\n", b"\r\nno colon\r\n", 1),
            ProtocolError,
            "does not speak HTTP: header line 1 has no colon",
        ),
        (SEVEN.replace(b"Length: ", b"Length: +"), ProtocolError, "does not speak HTTP: Content-Length is not"),
        (
            SEVEN.replace(b"Length: ", b"Length: 9999999999"),
            ProtocolError,
            "too large a response: a body of 99999",
        ),
        (
            SEVEN.replace(b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1),
            ProtocolError,
            "unrequested content coding: gzip",
        ),
        (OK + CHUNKED + b"1_0\r\n", ProtocolError, "does not speak HTTP: a chunk's size"),
        (OK + b"A" * 70_000, ProtocolError, "too large a response: no end of the head within 65536 bytes"),
        (b"", NetworkError, "closed the connection without a response"),
        (OK + b"A: b\r\n", NetworkError, "closed the connection in the middle of the head"),
        (SEVEN[:-5], NetworkError, "closed the connection 5 bytes before the end of the body"),
        (OK + CHUNKED + b"5\r\nabc", NetworkError, "closed the connection in the middle of a chunked body"),
    ],
)
def test_invalid_response_raises_the_matching_error(response: bytes, kind: type[Exception], reason: str) -> None:
    with serving(response) as (where, _), pytest.raises(kind, match=reason):
        XMLCaller(Endpoint.of(where)).call("same", [7])


@pytest.mark.parametrize(
    "sent",
    [
        SEVEN,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + SEVEN,
        SEVEN.replace(b"\r\n", b"\r\nX: folded\r\n line\r\n", 1),
        b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
        OK + CHUNKED + b"%x\r\n%b\r\n0\r\nX-Trailer: a\r\n\r\n" % (len(BODY), BODY),
        OK + b"Set-Cookie: a=b\r\n" * 200 + b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
    ],
    ids=["a length", "1xx before it", "folded", "HTTP/1.0", "chunks", "200 fields"],
)
def test_valid_responses_are_accepted(sent: bytes) -> None:
    with serving(sent) as (where, _):
        assert XMLCaller(Endpoint.of(where)).call("same", [7]) == 7


@pytest.mark.parametrize(
    "response",
    [
        b'{"jsonrpc":"2.0","result":1,"id":false}',
        b'{"jsonrpc":"2.0","error":{"code":1,"message":"m"},"id":5}',
        b'{"jsonrpc":"2.0","error":{"code":1,"message":"m"},"id":false}',
        b'{"jsonrpc":"2.0","error":{"code":true,"message":"m"},"id":0}',
    ],
)
def test_invalid_json_rpc_response_is_refused(response: bytes) -> None:
    with serving(http_response(response)) as (where, _), pytest.raises(ProtocolError, match="not JSON-RPC"):
        JSONCaller(Endpoint.of(where)).call("same", [])


def test_two_responses_to_one_call_of_a_batch_are_refused() -> None:
    response = b'[{"jsonrpc":"2.0","result":1,"id":0},{"jsonrpc":"2.0","result":2,"id":0}]'
    with serving(http_response(response)) as (where, _), pytest.raises(ProtocolError, match="did not return 1 results"):
        JSONCaller(Endpoint.of(where)).batch([("same", [])])


def test_only_idempotent_calls_are_retried_after_sending(no_pause: list[float]) -> None:
    with serving(b"", b"", SEVEN) as (where, requests):
        assert XMLCaller(Endpoint.of(where), retries=2, idempotent=["same"]).call("same", [7]) == 7
        assert len(requests) == 3
    assert 0.05 <= no_pause[0] <= 0.1 <= no_pause[1] <= 0.2
    for methods in (["same"], ["same", "count"]):
        with serving(b"") as (where, requests), pytest.raises(NetworkError):
            XMLCaller(Endpoint.of(where), retries=2, idempotent=["count"]).batch([(name, ()) for name in methods])
        assert len(requests) == 1
    with serving(SEVEN) as (where, _):
        pass_on = XMLCaller(Endpoint.of(where), retries=2, all_idempotent=True)
        with pytest.raises(ProtocolError, match="did not return 1 results"):
            pass_on.batch([("same", ())])


def test_any_call_is_retried_after_a_failed_connection(no_pause: list[float]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NetworkError, match="connection refused"):
        XMLCaller(Endpoint.of(f"http://127.0.0.1:{port}/"), retries=3).call("count", [])
    assert len(no_pause) == 3


def test_fault_is_not_retried(url: str, no_pause: list[float]) -> None:
    with pytest.raises(RemoteFault) as caught:
        XMLCaller(Endpoint.of(url), retries=3, all_idempotent=True).call("say", ["no"])
    assert (caught.value.code, no_pause) == (1, [])


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which are recorded instead of made."""
    pauses: list[float] = []
    sleep: Callable[[float], None] = pauses.append
    monkeypatch.setattr("daemons.clients.rpc.rpc.sleep", sleep)
    return pauses


@pytest.mark.parametrize(
    ("start", "caller"),
    [
        (OK + b"X: ", XMLCaller),
        (OK + b"Content-Length: 100000\r\n\r\n", XMLCaller),
        (OK + b"\r\n", JSONCaller),
        (b"", partial(JSONCaller, lines=True)),
    ],
    ids=["head", "body", "body without a length", "line"],
)
def test_slowly_sent_response_times_out(start: bytes, caller: Callable[[Endpoint], Caller]) -> None:
    ended = threading.Event()

    def serve() -> None:
        client, _ = listener.accept()
        with client, suppress(ConnectionError):
            client.sendall(start)
            while not ended.wait(0.01):
                client.sendall(b"x")

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(20)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            endpoint = Endpoint.of(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=0.3)
            with pytest.raises(NetworkError, match="timed out"):
                caller(endpoint).call("same", [7])
        finally:
            ended.set()
            thread.join()
