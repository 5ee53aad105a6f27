"""A server on the loopback with random hostile responses."""

from __future__ import annotations

import gzip
import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def fields(name: str, *values: bytes) -> list[bytes]:
    return [name.encode() + b": " + value for value in values]


STATUS_LINES = [
    *[b"HTTP/1.1 200 OK"] * 12,
    *[b"HTTP/1.1 %d X" % code for code in (201, 203, 204, 205, 206, 226, 299, 300, 301, 302, 303, 304, 305, 307, 308)],
    *[b"HTTP/1.1 %d X" % code for code in (400, 401, 404, 405, 407, 416, 426, 429, 500, 501, 503, 599, 600, 999)],
    *[b"HTTP/1.1 302 Found"] * 6,
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 200",
    b"HTTP/1.1 200 \xff\xfe\x1b[31m",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
    b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 200 OK",
    b"HTTP/1.1 101 Switching Protocols",
    b"HTTP/1.1 102 Processing\r\n\r\n" * 500 + b"HTTP/1.1 200 OK",
    b"HTTP/1.1 000 X",
    b"HTTP/1.1 20 X",
    b"HTTP/1.1 2000 X",
    b"HTTP/1.1 -200 X",
    b"HTTP/2 200",
    b"HTTP/9.9 200 OK",
    b"ICY 200 OK",
    b"\0" * 20,
    b"",
    b"\r\n\r\nHTTP/1.1 200 OK",
    b"x" * 200_000,
]

URLS = [
    "/",
    "/next",
    "?q",
    "#here",
    "",
    "http://xn--a.invalid/",
    "http://xn--/",
    "http://[::1",
    "http://[::g]/",
    "http://[fe80::1%25nowhere]:1/",
    "http://[::ffff:127.0.0.1]:1/",
    "http://127.0.0.1:1/",
    "http://127.0.0.1:0/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:-1/",
    "http://127.0.0.1:\u0663/",
    "http://user:pass@127.0.0.1:1/",
    "http://@127.0.0.1:1/",
    "http://127.0.0.1:1@/",
    "http://a..b/",
    "http://.../",
    "http://" + "a" * 64 + ".invalid/",
    "http://" + "a." * 150 + "invalid/",
    "http://\u202e/",
    "http://\xad/",
    "http://\u2488/",
    "http://%00/",
    "http://%zz/",
    "http:///x",
    "http:x",
    "http://",
    "//",
    "///x",
    "\\\\127.0.0.1\\x",
    "https://127.0.0.1:1/",
    "data:text/html,<a href=x>",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "gopher://127.0.0.1:1/",
    "mailto:x@y",
    "/%",
    "/%00",
    "/\x7f",
    "/\xff",
    "/\u202e",
    "/" + "x" * 3000,
    "/" + "x" * 70_000,
    "/../../..",
    "/;;;",
    "http://127.0.0.1:1\t/",
    " /next ",
]

SHORT_URLS = [url for url in URLS if len(url) < 5000]

CHARSETS = [b"zlib", b"idna", b"rot13", b"utf-16", b"utf-32", b"utf-7", b'"', b'"utf-8', b"\xff", b"x" * 5000, b"*="]

FIELDS = [
    *fields("Location", *(url.encode("utf-8", "surrogatepass") for url in SHORT_URLS)),
    *fields("Location", *(url.encode("latin-1", "replace") for url in SHORT_URLS)),
    *fields("Content-Type", b"text/html", b"text/html; charset=utf-8", b"application/xhtml+xml") * 6,
    *fields("Content-Type", *(b"text/html; charset=" + name for name in CHARSETS)),
    *fields("Content-Type", b"", b";;;", b"text/html;=;=", b"multipart/x", b"text/html; charset*=x''%ff"),
    *fields("Content-Encoding", b"gzip", b"deflate", b"br", b"gzip, gzip", b"identity", b"\xff", b",,,"),
    *fields("Content-Length", b"0", b"5", b"-1", b"+5", b"5, 5", b"5, 6", b"0x5", b"1_0", b"9" * 30, b"", b"\xb2"),
    *fields("Content-Length", b"9999999999"),
    *fields("Transfer-Encoding", b"chunked", b"gzip", b"gzip, chunked", b"identity", b"x", b"chunked, chunked"),
    *fields("Set-Cookie", b"a=b", b"a=b; Expires=Thu, 32 Foo 2030 00:00:00 GMT", b"=", b"\xff=\xff", b";" * 999),
    *fields("Cache-Control", b"max-age=1000", b"max-age=x", b'max-age="1', b"max-age=" + b"9" * 5000, b"=,;="),
    *fields("Date", b"x", b"Thu, 01 Jan 1970 00:00:00 GMT", b"Thu, 01 Jan 99999 00:00:00 GMT", b"0"),
    *fields("Expires", b"0", b"-1", b"Thu, 99 Jan 2030 00:00:00 +9999"),
    *fields("Age", b"0", b"-1", b"9" * 5000, b"x"),
    *fields("Vary", b"*", b"Accept", b"\xff", b",,,", b"a" * 5000),
    *fields("ETag", b'"x"', b'W/"x"', b"x", b'"', b"\xff"),
    *fields("Last-Modified", b"x", b"Thu, 01 Jan 1970 00:00:00 GMT"),
    *fields("Content-Range", b"bytes 0-4/5", b"bytes 5-9/10", b"bytes */5", b"x", b"bytes 9-0/1"),
    b"Connection: keep-alive",
    b"Connection: upgrade\r\nUpgrade: websocket",
    b"WWW-Authenticate: Basic",
    b"Proxy-Authenticate: x",
    b"Refresh: 0; url=x",
    b"X: " + b"x" * 90_000,
    b"X: " + b"x" * 200_000,
    b"\r\n".join([b"X: y"] * 2000),
    b"no colon",
    b": no name",
    b"Name : space",
    b" folded",
    b"X\0: y",
    b"X: \0",
    b"X: \x1b[2J\xe2\x80\xae",
    b"\xff: \xff",
]

PAGES = [
    "".join(f"<a href='{url}'>x</a>" for url in SHORT_URLS).encode("utf-8", "surrogatepass"),
    *[f"<base href='{url}'><a href=x>x</a><form action='{url}'><input name=q></form>".encode() for url in SHORT_URLS],
    b"<form method=post enctype=multipart/form-data action='/next'><input name=q><input name='\xff'></form>",
    b"<form method=post action='http://[::1'><input name=q value='\x00\xed\xa0\x80'></form>",
    b"<meta charset=zlib><meta charset=utf-16><table><tr><th>a<td>b\x1b[31m\xe2\x80\xae</table>",
    b"<?xml version='1.0' encoding='rot13'?><html/>",
    b"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>",
    b"<div>" * 20_000,
    b"<table><tr><td>" * 3000,
    b"<dl><dt>a<dd>b</dl>",
    b"<a href=&#0;>&#xD800;&#x110000;&#99999999999;</a>",
    b"\0" * 1000,
    b"\xff\xfe<\0a\0>",
    b"\xef\xbb\xbf<a href=/>x</a>",
    gzip.compress(b"<a href=/>x</a>"),
    gzip.compress(b"<a href=/>x</a>")[:-4],
    gzip.compress(bytes(10_000_000)),
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;x=y\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
    b"ffffffffffffffffff\r\n",
    b"-5\r\nhello",
    b"hello",
    b"",
    b"<a href='/'>" + b"x" * 1_000_000,
]

ROBOTS = [
    *[b""] * 4,
    b"User-agent: *\nDisallow: /private\nCrawl-delay: %b\n" % b"nan",
    b"User-agent: *\nCrawl-delay: 1e309\nDisallow: /\n",
    b"User-agent: *\nCrawl-delay: -1\nRequest-rate: 0/0s\nVisit-time: x-y\n",
    b"User-agent: *\nRequest-rate: 1/0s\nAllow: /\n",
    b"User-agent: *\nRequest-rate: 1/5s 2500-9999\nVisit-time: 9999-0000\nAllow: /\n",
    b"User-agent: *\nDisallow: " + b"*a" * 30 + b"$\n",
    b"User-agent: *\nDisallow: /%zz%\xff\xed\xa0\x80\n",
    b"\xef\xbb\xbfUser-agent: *\nDisallow: /\n",
    b"Sitemap: http://[::1\nSitemap: http://xn--a.invalid/\nUser-agent: *\nAllow: /\n",
    b"User-agent: *\nDisallow: http://[::1\nAllow: //\nAllow: /\n",
    b"\0" * 1000,
    b"a" * 600_000,
    b":\n" * 10_000,
]


def response(chance: random.Random) -> bytes:
    given = chance.choices(FIELDS, k=chance.randrange(5))
    body = chance.choice(PAGES)
    if chance.random() < 0.6:  # so that some responses are accepted
        given = [field for field in given if not field.startswith((b"Content-Length", b"Transfer-Encoding"))]
        given.append(b"Content-Length: %d" % len(body))
    if chance.random() < 0.5:
        given.append(b"Content-Type: text/html")
    response_bytes = b"\r\n".join([chance.choice(STATUS_LINES), *given, b"", b""]) + body
    return response_bytes if chance.random() < 0.9 else response_bytes[: chance.randrange(len(response_bytes) + 1)]


def robots(chance: random.Random) -> bytes:
    if chance.random() < 0.1:
        return response(chance)
    body = chance.choice(ROBOTS)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@contextmanager
def hostile(seed: int) -> Iterator[str]:
    """Yield the URL of a server with random responses that are determined by `seed`."""
    chance = random.Random(seed)
    leaving = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    threads: list[threading.Thread] = []

    def serve_client(peer: socket.socket, response_bytes: bytes, robots_bytes: bytes, abort: bool) -> None:
        with peer, suppress(OSError):
            peer.settimeout(10)
            received = b""
            while b"\r\n\r\n" not in received:
                if not (piece := peer.recv(65_536)):
                    return
                received += piece
            peer.sendall(robots_bytes if b" /robots.txt " in received[:100] else response_bytes)
            if abort:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def serve() -> None:
        while True:
            peer, _ = listener.accept()
            if leaving.is_set():
                peer.close()
                return
            arguments = (peer, response(chance), robots(chance), chance.random() < 0.1)
            threads.append(threading.Thread(target=serve_client, args=arguments))
            threads[-1].start()

    server = threading.Thread(target=serve)
    server.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        leaving.set()
        socket.create_connection(listener.getsockname()).close()
        for thread in (server, *threads):
            thread.join(20)
        listener.close()
