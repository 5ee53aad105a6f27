"""Honest clients of HTTP servers and RPC services."""

from __future__ import annotations

import http.client
import json
import random
import socket
import xmlrpc.client
from collections.abc import Callable
from typing import Any

from daemons.rpc.rpyc.frames import Frames
from daemons.rpc.rpyc.netrefs import GuardedConnection
from daemons.rpcmath import SYMBOLS
from soak.place import TOP, Place
from soak.talking import PATIENCE, SECURE, Parted, Visit, Wrong, expect, plain, trusting

FILES = {name: (TOP / "conf" / "www" / name).read_bytes() for name in ("index.html", "style.css", "castle.svg")}

#: Status codes of a front whose upstream server is unavailable.
AWAY = (502, 503, 504)


class Away(Exception):
    """The upstream server of a front does not respond."""


class Browser:
    """One persistent connection for several requests."""

    def __init__(self, place: Place, name: str) -> None:
        port = place.ports[name]
        if name in SECURE:
            context = trusting(place)
            self._web: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", port, timeout=PATIENCE, context=context
            )
        else:
            self._web = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._asked = 0

    def ask(self, method: str, path: str, body: bytes | None = None, **fields: str) -> tuple[int, Any, bytes]:
        """Return status, fields and body.  Raises `Parted` if a kept connection has been closed, and `Away`."""
        self._asked += 1
        try:
            self._web.request(method, path, body, {name.replace("_", "-"): text for name, text in fields.items()})
            answer = self._web.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError) as error:
            if self._asked > 1:
                raise Parted from error
            raise
        received = answer.read()
        if answer.status in AWAY:
            raise Away(f"{answer.status} for {path}")
        return answer.status, answer.headers, received

    def close(self) -> None:
        self._web.close()


def _browsing(name: str, what: str, look: Callable[[Browser, random.Random], None]) -> Visit:
    def hold(place: Place, rng: random.Random) -> None:
        browser = Browser(place, name)
        try:
            for _ in range(rng.randint(1, 4)):
                look(browser, rng)
        finally:
            browser.close()

    return Visit(name, what, hold)


def _file(browser: Browser, rng: random.Random) -> None:
    """Request a file, then its head, a range, a conditional response, or a missing file."""
    name = rng.choice(list(FILES))
    content = FILES[name]
    status, fields, body = browser.ask("GET", f"/{name}")
    expect((status, body), (200, content), f"/{name}")
    way = rng.randrange(4)
    if way == 0:
        expect(browser.ask("HEAD", f"/{name}")[::2], (200, b""), f"the head of /{name}")
    elif way == 1:
        first = rng.randrange(len(content))
        expect(
            browser.ask("GET", f"/{name}", Range=f"bytes={first}-")[::2], (206, content[first:]), f"a part of /{name}"
        )
    elif way == 2:
        expect(browser.ask("GET", f"/{name}", If_None_Match=fields["ETag"])[::2], (304, b""), f"/{name} again")
    else:
        expect(browser.ask("GET", "/no-such-page")[0], 404, "a missing file")


def _application(browser: Browser, rng: random.Random) -> None:
    """Request pages of webapp, directly or through the front."""
    way = rng.randrange(3)
    if way == 0:
        status, _, body = browser.ask("GET", "/time/")
        expect((status, len(body)), (200, len("Sat Nov 21 18:46:15 2026\n")), "the time")
    elif way == 1:
        status, _, body = browser.ask("GET", "/environ/?quest=grail")
        if status != 200 or b"quest=grail" not in body:
            raise Wrong(f"the environ: {status}, {body[:60]!r}")
    else:
        status, _, body = browser.ask("GET", "/bank/login")
        if status != 200 or b'name="token"' not in body:
            raise Wrong(f"the login page: {status}, {body[:60]!r}")


def _xml(name: str, make: Callable[[random.Random], tuple[str, tuple[Any, ...], Any]], path: str = "/RPC2") -> Visit:
    """Return a visit with XML-RPC calls: `make` returns the method, its arguments and the result."""

    def look(browser: Browser, rng: random.Random) -> None:
        method, params, expected = make(rng)
        call = xmlrpc.client.dumps(params, method).encode()
        status, _, body = browser.ask("POST", path, call, Content_Type="text/xml")
        expect(status, 200, f"the status of {method}")
        try:
            result: Any = xmlrpc.client.loads(body)[0][0]
        except xmlrpc.client.Fault as fault:
            result = type(fault)
        expect(result, expected, method)

    return _browsing(name, "calls by XML-RPC", look)


def _calc(rng: random.Random) -> tuple[str, tuple[Any, ...], Any]:
    x, y = rng.randint(-9999, 9999), rng.randint(1, 9999)
    return rng.choice(
        [
            ("add", (x, y), x + y),
            ("multiply", (x, y), x * y),
            ("divide", (x, y), x // y),
            ("divide", (x, 0), xmlrpc.client.Fault),
            ("no_such_method", (), xmlrpc.client.Fault),
        ]
    )


def _rpcmath(rng: random.Random) -> tuple[str, tuple[Any, ...], Any]:
    return rng.choice(
        [
            ("addtogether", ("x", "ÿ", "z"), "xÿz"),
            ("quadratic", (2, -4, 0), [0.0, 2.0]),
            ("quadratic", (1, 0, 1), xmlrpc.client.Fault),
            ("elements", (), [{"number": number, "symbol": symbol} for number, symbol in SYMBOLS.items()]),
        ]
    )


def _json(browser: Browser, rng: random.Random) -> None:
    """Send a call or a batch."""
    calls, results = [], []
    for number in range(rng.randint(1, 5)):
        params = ["x" * rng.randrange(50), rng.randrange(100), [1] * rng.randrange(9)]
        calls.append({"jsonrpc": "2.0", "method": "lengths", "params": params, "id": number})
        result = [[len(params[0]), params[0]], [None, params[1]], [len(params[2]), params[2]]]  # type: ignore[arg-type]
        results.append({"jsonrpc": "2.0", "result": result, "id": number})
    alone = len(calls) == 1
    body_sent = json.dumps(calls[0] if alone else calls).encode()
    status, _, body = browser.ask("POST", "/", body_sent, Content_Type="application/json")
    expect((status, json.loads(body)), (200, results[0] if alone else results), "a call")


class _Poem:
    """An iterable of lines, passed by reference to the line counter."""

    def __init__(self, count: int) -> None:
        self._lines = iter([f"line {number}\n" for number in range(count)])

    def exposed___iter__(self) -> _Poem:
        return self

    def exposed___next__(self) -> str:
        return next(self._lines)

    __iter__, __next__ = exposed___iter__, exposed___next__


class _Nothing:
    def on_disconnect(self, conn: object) -> None:
        """Called by RPyC when the connection ends."""


def _linecount(place: Place, rng: random.Random) -> None:
    count = rng.randint(0, 20)
    received: list[str] = []
    with plain(place, "linecount") as peer:
        assert isinstance(peer, socket.socket)
        frames = Frames(peer, limit=64 * 1024, idle=PATIENCE, message=PATIENCE, write=PATIENCE)
        conn = GuardedConnection(_Nothing(), frames, "the daemon")
        try:
            expect(conn.root.line_counter(_Poem(count), lambda line: received.append(line)), count, "the count")
        finally:
            conn.close()
    expect(len(received), count, "the lines called back")


HONEST = (
    *(_browsing(name, "files", _file) for name in ("httpd", "httpsd", "front")),
    *(_browsing(name, "pages", _application) for name in ("webapp", "front")),
    _xml("calc", _calc),
    _xml("adder", lambda rng: ("add", (3, 5), 8)),
    _xml("rpcmath", _rpcmath),
    _browsing("jsonrpc", "calls by JSON-RPC", _json),
    Visit("linecount", "counting", _linecount),
)
