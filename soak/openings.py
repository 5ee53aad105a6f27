"""A complete valid message for each daemon that serves connections."""

from __future__ import annotations

HTTP = b"GET /index.html HTTP/1.1\r\nHost: localhost\r\n\r\n"


def _post(path: str, media: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _xml(method: str) -> bytes:
    return _post("/RPC2", "text/xml", b"<methodCall><methodName>%b</methodName></methodCall>" % method.encode())


#: Input for daemons that ignore it.
IGNORED = b"Beautiful is better than ugly."

OPENINGS = {
    "launcelot": b"What is your quest?",
    "zen": b"Simple is better than?",
    "echo": b"hello",
    "upper": b"capitalize this!",
    "prefix": b"\x00\x00\x00\x13Readability counts.",
    "lines": b"Sparse is better than dense.\n",
    "chat": b"Arthur\nhello\n",
    "guess": b"50\n",
    "slow": b"time\n",
    "twoway": b"Flat is better than nested.",
    "blocks": b"\x00\x00\x00\x03one\x00\x00\x00\x03two\x00\x00\x00\x00",
    "cached": b"set greeting 0 0 5\r\nhello\r\n",
    "streamer": b"Explicit is better than implicit.\n",
    "sixteen": b"Hi there, server",
    "welcome": IGNORED,
    "daytime": IGNORED,
    "tlsd": IGNORED,
    "dns": b"\x00\x1e\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07camelot\x04test\x00\x00\x01\x00\x01",
    "httpd": HTTP,
    "httpsd": HTTP,
    "front": b"GET /time/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "webapp": b"GET /bank/login HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "calc": _xml("system.listMethods"),
    "adder": _xml("system.listMethods"),
    "rpcmath": _xml("elements"),
    "jsonrpc": _post("/", "application/json", b'{"jsonrpc": "2.0", "method": "lengths", "params": ["a"], "id": 1}'),
    # An RPyC message: its length, the flag for no compression, then data that brine cannot decode.
    "linecount": b"\x00\x00\x00\x05\x00hello\n",
}

_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"

#: RFC 9112: sections 5.1, 5.2, 6.1, 6.3 and 7.1.
AMBIGUOUS = (
    _HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    _HEAD + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
    _HEAD + b"Content-Length: +0\r\n\r\n",
    _HEAD + b"Content-Length: 0, 5\r\n\r\n",
    _HEAD + b"Content-Length : 0\r\n\r\n",
    _HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    _HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    _HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    _HEAD + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    _HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    _HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    _HEAD + b"X: a\r\n Content-Length: 44\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\rContent-Length: 44\r\n\r\n",
)
