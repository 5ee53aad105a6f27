"""The regular expressions of HTTP, which have no possessive quantifiers, take linear time all the same."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from daemons.framings.http import HTTP, ResponseDecoder, ResponseLimits
from tests.framings.http.test_refused import CHUNKED, GET, HOST, POST

CHUNKS = POST + HOST + CHUNKED + b"\r\n"

#: Inputs of `size` bytes that are refused at their end, or go on without an end, and make a pattern that can match in
#: several ways try all of them.
HOSTILE: dict[str, Callable[[int], bytes]] = {
    "a method without an end": lambda size: b"A" * size,
    "a target without a version": lambda size: b"GET /" + b"a" * size + b"\r\n\r\n",
    "fields and one line without a colon": lambda size: GET + b"a: b\r\n" * (size // 6) + b"x\r\n\r\n",
    "a name without a colon": lambda size: GET + b"a" * size + b"\r\n\r\n",
    "a value of tabs": lambda size: GET + b"X: " + b"\t" * size + b"\0",
    "lengths of tabs": lambda size: GET + HOST + b"Content-Length: " + b"\t \t" * (size // 3) + b"1\r\n\r\n",
    "blanks around a value": lambda size: GET + HOST + b"X:" + b" " * size + b"\x7f\r\n\r\n",
    "a port without an end": lambda size: GET + b"Host: a:" + b"1" * size + b"\r\n\r\n",
    "an address without an end": lambda size: GET + b"Host: [" + b":" * size + b"\r\n\r\n",
    "a URL without an end": lambda size: b"GET http://" + b"a" * size + b"@ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a trailer without a colon": lambda size: CHUNKS + b"0\r\n" + b"a" * size + b"\r\n\r\n",
    "trailers and a line that is none": lambda size: CHUNKS + b"0\r\n" + b"a: b\r\n" * (size // 6) + b"x\r\n\r\n",
    "chunks with extensions": lambda size: CHUNKS + b'1;a;b=c;d="\\"e"\r\nx\r\n' * (size // 21) + b"x",
    "extensions and no line end": lambda size: CHUNKS + (b"1" + b";a" * 127 + b"\r\nx\r\n") * (size // 260) + b'1;a="',
}


OK = b"HTTP/1.1 200 OK\r\n"

#: The same for responses.
HOSTILE_RESPONSES: dict[str, Callable[[int], bytes]] = {
    "a reason without an end": lambda size: b"HTTP/1.1 200 " + b"a" * size + b"\0",
    "blanks and a folded line": lambda size: OK + b"X:" + b" " * size + b"\r\n" + b"\t" * size + b"\0\r\n\r\n",
    "folded lines": lambda size: OK + b"X: a\r\n" + b" \r\n" * (size // 3) + b"x\r\n\r\n",
    "fields of a response and one line without a colon": lambda size: OK + b"a: b\r\n" * (size // 6) + b"x\r\n\r\n",
}


@pytest.mark.parametrize("name", [*HOSTILE, *HOSTILE_RESPONSES])
def test_refusing_takes_time_in_proportion_to_the_length(name: str) -> None:
    """Of eight times as long an input the CPU time is at most 20 times as much; of a quadratic pattern, 64 times."""
    times = []
    for size in (8_000, 64_000):
        data = (HOSTILE.get(name) or HOSTILE_RESPONSES[name])(size)
        best = float("inf")
        for _ in range(5):
            decoder = (
                HTTP(head=200_000, headers=100_000, body=100_000).decoder()
                if name in HOSTILE
                else ResponseDecoder("GET", ResponseLimits(head=200_000, fields=100_000), unfold=True)
            )
            start = time.thread_time()
            decoder.decode(data)
            decoder.finish()
            best = min(best, time.thread_time() - start)
            assert decoder.error is not None
        times.append(best)
    # Below 200 microseconds, fixed costs count.
    assert times[1] < max(20 * times[0], 200e-6)
