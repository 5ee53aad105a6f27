"""An upstream server that sends scripted bytes."""

from __future__ import annotations

import re
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.serving.running import Within

OK = b"HTTP/1.1 200 OK\r\n"

#: The bytes sent for the last name of a path, and whether the connection is closed after them.
SCRIPT: dict[str, tuple[bytes, bool]] = {
    "plain": (
        OK + b"Content-Length: 5\r\nContent-Type: text/plain\r\n\r\nplain",
        False,
    ),
    "cookies": (OK + b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n", False),
    "hops": (
        OK + b"Content-Length: 0\r\nConnection: x-one, keep-alive\r\nX-One: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\n"
        b"Date: then\r\nCache-Control: public, max-age=9\r\n\r\n",
        False,
    ),
    "caches": (
        OK + b"Content-Length: 0\r\nCache-Control: public\r\nCDN-Cache-Control: max-age=9\r\n"
        b"cdn-cache-control: public\r\nSurrogate-Control: max-age=9\r\nExpires: never\r\n\r\n",
        False,
    ),
    "hop-date": (OK + b"Content-Length: 0\r\nConnection: date\r\nDate: then\r\n\r\n", False),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3;x=y\r\ntwo\r\n0\r\nX-Trailer: x\r\n\r\n", False),
    "end": (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", True),
    "long": (OK + b"Content-Length: 200000\r\n\r\n" + bytes(200000), False),
    "endless": (OK + b"Content-Length: 900000000\r\n\r\n" + bytes(3000000), False),
    "close": (OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nok", True),
    "stale": (OK + b"Content-Length: 2\r\n\r\nok", True),
    "head": (OK + b"Content-Length: 7\r\n\r\n", False),
    "twice": (OK + b"Content-Length: 7\r\ncontent-length: 7\r\n\r\n", False),
    "latin": (OK + b"Content-Length: \xb2\r\n\r\n", True),
    "304": (b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 7\r\n\r\n', False),
    "204": (b"HTTP/1.1 204 \r\n\r\n", False),
    "teapot": (b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n", False),
    "odd": (b"HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n", False),
    "nothing": (b"", True),
    "garbage": (b"\x16\x03\x01 what?\r\n\r\n", True),
    "folded": (OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n", True),
    "coded": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", True),
    "lengths": (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", True),
    "upgrade": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", True),
    "short": (OK + b"Content-Length: 9\r\n\r\nshort", True),
    "short-chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\nshort", True),
    "short-until-close": (OK + b"Content-Length: 300000\r\n\r\n" + bytes(100000), True),
    "hints": (
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        + OK
        + b"Content-Length: 5\r\n\r\nhints",
        False,
    ),
    "many-hints": (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17 + OK + b"Content-Length: 0\r\n\r\n", False),
    "many-fields": (OK + b"Set-Cookie: a=b\r\n" * 150 + b"Content-Length: 0\r\n\r\n", False),
    "no-colon": (
        OK + b"no colon\r\nSet-Cookie: a=b\r\nCache-Control: private\r\nX-Frame-Options: DENY\r\n"
        b"Content-Length: 0\r\n\r\n",
        False,
    ),
    "blank-name": (OK + b"Name : a\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n", False),
    "hexadecimal": (OK + b"Content-Length: 0x2\r\n\r\nok", False),
    "plus": (OK + b"Content-Length: +2\r\n\r\nok", False),
    "underscore": (OK + b"Transfer-Encoding: chunked\r\n\r\n1_0\r\n0123456789abcdef\r\n0\r\n\r\n", False),
    "both": (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n", False),
    "split": (OK + b"Location: /a\rSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n", False),
    "reason": (b"HTTP/1.1 200 \x1b[2J\r\nContent-Length: 0\r\n\r\n", False),
    "empty-chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False),
    "head-only": (OK + b"Transfer-Encoding: chunked\r\n\r\n", True),
    "head-of-much": (OK + b"Content-Length: 300000\r\n\r\n", True),
    "mute": (b"", False),
    "surplus": (OK + b"Content-Length: 2\r\n\r\nok" + OK + b"Content-Length: 6\r\n\r\nothers", False),
    "first": (OK + b"Content-Length: 5\r\n\r\nplain", False),
}


class Scripted(socketserver.BaseRequestHandler):
    """Sends the bytes of `SCRIPT`."""

    #: Received requests with their bodies, each with the number of its connection.
    requests: list[tuple[int, bytes]]
    connections: int

    def handle(self) -> None:
        kind: Any = type(self)
        kind.connections += 1
        number = kind.connections
        with self.request.makefile("rb") as stream:
            while head := b"".join(iter(stream.readline, b"\r\n")) if stream.peek(1) else b"":
                match = re.search(rb"Content-Length: (\d+)", head)
                kind.requests.append((number, head + (stream.read(int(match[1])) if match else b"")))
                name = head.split(b" ")[1].partition(b"?")[0].rpartition(b"/")[2].decode()
                # `first` closes a reused connection.
                said, closes = (b"", True) if name == "first" and number == 1 else SCRIPT[name]
                self.request.sendall(said)
                if closes:
                    return


@contextmanager
def scripted() -> Iterator[tuple[Within, Any]]:
    """Run such a server; yield it and its handler, which records requests."""
    handler: Any = type("Fresh", (Scripted,), {"requests": [], "connections": 0})
    running = Within("threads", handler)
    try:
        yield running, handler
    finally:
        running.close()
