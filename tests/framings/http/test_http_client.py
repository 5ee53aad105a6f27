"""Responses that `http.client` forgives or misreads, and `ResponseDecoder` does not."""

from __future__ import annotations

import http.client
import socket
import sys

import pytest

from tests.framings.http.test_responses import INTERIM, OK, REFUSED, fields, good, refused

#: Responses that `http.client` of Python 3.11 to 3.13 accepts, and the number of fields and the body that it finds.  A
#: gateway that passed them on would lose fields, or disagree with other readers about the end of the body.
FORGIVEN = {
    "fields after a line without a colon are lost": (REFUSED["a line without a colon in its middle"], 1, b""),
    "fields after a blank before a colon are lost": (fields(b"A: b\r\nName : a\r\nSet-Cookie: a=b"), 1, b""),
    "a hexadecimal length is ignored": (fields(b"Content-Length: 0x2") + b"abc", 1, b"abc"),
    "a plus in a length": (fields(b"Content-Length: +2") + b"abc", 1, b"ab"),
    "an underscore in a length": (fields(b"Content-Length: 0_2") + b"abc", 1, b"ab"),
    "an underscore in the size of a chunk": (REFUSED["a size with an underscore"], 1, b"0123456789abcdef"),
    "a plus in the size of a chunk": (REFUSED["a size with a plus"], 1, b"a"),
    "the first of two lengths": (fields(b"Content-Length: 2\r\nContent-Length: 3") + b"abc", 2, b"ab"),
    "a length beside chunks": (REFUSED["CL.TE"], 2, b""),
    "LF alone": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nabc", 1, b"ab"),
}


@pytest.mark.parametrize("name", FORGIVEN)
def test_response_that_http_client_forgives_is_refused(name: str) -> None:
    data, count, body = FORGIVEN[name]
    refused(data)
    if sys.version_info >= (3, 14):
        return  # later versions may refuse more
    client, server = socket.socketpair()
    with client, server:
        server.sendall(data)
        server.shutdown(socket.SHUT_WR)
        with http.client.HTTPResponse(client) as lenient:
            lenient.begin()
            assert (len(lenient.headers), lenient.read()) == (count, body)


def test_interim_response_that_http_client_takes_for_the_final_one_is_skipped() -> None:
    many = INTERIM + OK + b"Set-Cookie: a=b\r\n" * 101 + b"Content-Length: 2\r\n\r\nok"
    client, server = socket.socketpair()
    with client, server:
        server.sendall(many)
        with http.client.HTTPResponse(client) as lenient:
            lenient.begin()
            assert lenient.status == 103
    head, body, _ = good(many)
    assert (head.status, len(head.fields), body) == (200, 102, b"ok")
