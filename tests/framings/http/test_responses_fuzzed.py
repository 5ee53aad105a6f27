"""Mutated pipelines of responses: no response that ours takes is read otherwise by h11, and no cut changes any."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import h11
import pytest

from daemons.framings import FramingError, Incomplete
from daemons.framings.http import ResponseDecoder


class Found(NamedTuple):
    """One response, as it is compared."""

    status: int
    #: Names in small letters.
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    complete: bool
    #: The bytes behind it, if it is complete.
    rest: bytes


OK = b"HTTP/1.1 200 OK\r\n"

#: Responses, and the method of each request.
SEEDS: list[tuple[bytes, str]] = [
    (OK + b"Content-Length: 5\r\nContent-Type: text/plain\r\nX-A: b\r\n\r\nplain", "GET"),
    (OK + b"Set-Cookie: a=1\r\nSet-Cookie: b=2; Path=/\r\nContent-Length: 0\r\n\r\n", "POST"),
    (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3;x=y\r\ntwo\r\n0\r\n\r\n", "GET"),
    (OK + b'Transfer-Encoding: chunked\r\n\r\n0a;q="\\""\r\n0123456789\r\n0\r\nX-T: x\r\n\r\n', "GET"),
    (b"HTTP/1.1 204 No Content\r\nDate: then\r\n\r\n", "DELETE"),
    (b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 7\r\n\r\n', "GET"),
    (OK + b"Content-Length: 7\r\n\r\n", "HEAD"),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", "PUT"),
    (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", "GET"),
    (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nVary: *\r\n\r\nno", "GET"),
    (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "GET"),
    (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", "GET"),
    (OK + b"Connection: close\r\n\r\nuntil the close", "GET"),
    (b"HTTP/1.0 200 OK\r\n\r\nuntil the close", "GET"),
]

#: Pieces that mean something to one reader or another, inserted or put in the place of others.
PIECES: list[bytes] = [
    *(
        b"\r",
        b"\n",
        b"\r\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b";",
        b",",
        b"_",
        b"+",
        b"-",
        b"0x",
        b"\x0b",
        b"\x7f",
        b"\x85",
        b"\xa0",
    ),
    *(
        b"0\r\n\r\n",
        b"1;",
        b"1;a=",
        b'"',
        b"=",
        b"ffffffffffffffff",
        b"10",
        b"\r\n ",
        b"\r\n\t",
        b" :",
        b"HTTP/1.0",
        b"HTTP/2.0",
    ),
    *(b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"content-length:\t5\r\n", b"Content-Length: 5, 5\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: gzip, chunked\r\n"),
    *(
        b"Connection: close\r\n",
        b"Connection: keep-alive\r\n",
        b"no colon\r\n",
        b"Name : a\r\n",
        b" folded\r\n",
        b"X-H: y\r\n",
    ),
    *(
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 204 No\r\n\r\n",
        b"HTTP/1.1 ",
        b"599",
        b"099",
    ),
]


def mutated(chance: random.Random) -> tuple[bytes, list[str]]:
    """A pipeline of one to three responses with up to four mistakes, and the methods."""
    seeds = [chance.choice(SEEDS) for _ in range(chance.randrange(1, 4))]
    data = bytearray(b"".join(octets for octets, _ in seeds))
    for _ in range(chance.randrange(5)):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(5)
        if kind == 0:
            data[at:at] = chance.choice(PIECES)
        elif kind == 1:
            data[at : at + chance.randrange(1, 4)] = chance.choice(PIECES)
        elif kind == 2:
            del data[at : at + chance.randrange(1, 6)]
        elif kind == 3:
            data[at : at + 1] = bytes([chance.randrange(256)])
        else:
            # A field, where a field belongs.
            at = data.find(b"\r\n", at) + 2
            data[at:at] = chance.choice(PIECES[-24:])
    return bytes(data), [method for _, method in seeds]


def ours(
    data: bytes, methods: Sequence[str], sizes: Sequence[int], *, unfold: bool = False
) -> tuple[list[Found], FramingError | None]:
    """The responses that we find in `data`, which comes in pieces of these sizes and ends, and the error."""
    found: list[Found] = []
    for method in methods:
        decoder = ResponseDecoder(method, unfold=unfold)
        body, at, number = bytearray(), 0, 0
        while at < len(data):
            size = sizes[number % len(sizes)]
            body += b"".join(event for event in decoder.decode(data[at : at + size]) if type(event) is bytes)
            at += size
            number += 1
        decoder.finish()
        assert len(body) == decoder.received
        assert not (decoder.complete and decoder.error)
        if decoder.head is not None:
            names = tuple((name.lower(), value) for name, value in decoder.head.fields)
            found.append(Found(decoder.head.status, names, bytes(body), decoder.complete, decoder.rest))
        if not decoder.complete or not decoder.head or not decoder.head.keep_alive:
            return found, decoder.error
        data = decoder.rest
    return found, None


def theirs(data: bytes, method: str) -> Found | None:
    """The response that h11 finds at the beginning of `data`, which ends; None: it finds none."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    client.receive_data(b"")
    response, body = None, bytearray()
    try:
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
    except h11.RemoteProtocolError:
        return (
            None if response is None else Found(response.status_code, tuple(response.headers), bytes(body), False, b"")
        )
    assert response is not None
    rest = client.trailing_data[0]
    return Found(response.status_code, tuple(response.headers), bytes(body), True, rest)


@pytest.mark.parametrize("unfold", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_a_response_that_ours_takes_h11_reads_in_the_same_way(seed: int, unfold: bool) -> None:
    chance = random.Random(seed)
    taken = 0
    for _ in range(400):
        data, methods = mutated(chance)
        for method, response in zip(methods, ours(data, methods, [len(data) or 1], unfold=unfold)[0], strict=False):
            if response.complete:
                assert theirs(data, method) == response, data
                taken += 1
            data = response.rest
    assert taken > 100, "too few are good"


@pytest.mark.parametrize("seed", range(20))
def test_no_cut_changes_a_response_or_the_kind_of_error(seed: int) -> None:
    chance = random.Random(1000 + seed)
    for _ in range(200):
        data, methods = mutated(chance)
        whole, error = ours(data, methods, [len(data) or 1])
        for sizes in ([1], [chance.randrange(1, 40) for _ in range(9)]):
            found, other = ours(data, methods, sizes)
            assert found == whole, data
            assert (type(other), str(other)) == (type(error), str(error)), data


@pytest.mark.parametrize(("data", "method"), SEEDS)
def test_no_prefix_of_a_response_is_complete_unless_it_lasts_until_the_close(data: bytes, method: str) -> None:
    head = data.rindex(b"\r\n\r\n") + 4
    for end in range(head if b"until the close" in data else len(data)):
        decoder = ResponseDecoder(method)
        decoder.decode(data[:end])
        decoder.finish()
        assert not decoder.complete
        assert isinstance(decoder.error, Incomplete)
