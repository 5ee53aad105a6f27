"""HTTP requests to the site on WSGI: forms, cookies, and the parsers of its frameworks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

from daemons.serving.connection import Connection
from daemons.web.handlers.server import WebServer
from daemons.webapp import Webapp
from tests.promises.grammars.grammar import Feed, Grammar, converse, filled, word
from tests.rpc.calling import request
from tests.web.wsgi_talking import carried

SIZE = 64 * 1024

PATHS = (
    "/",
    "/bank/",
    "/bank/login",
    "/base64/encode",
    "/bottle/encode",
    "/time/",
    "/environ/",
    "/rpc/",
    "/api/",
    "/x",
)
FORM = "Content-Type: application/x-www-form-urlencoded"
PARTS = "Content-Type: multipart/form-data; boundary=b"


def serve(folder: Path) -> Feed:
    key, database, users = (str(folder / f"webapp.{suffix}") for suffix in ("key", "db", "users"))
    application = Webapp(Webapp.Options(key=key, database=database, users=users))
    server = WebServer(("127.0.0.1", 8001), carried(application), bind_and_activate=False)
    server.server_close()  # conversations here need no socket
    return lambda data: converse(server.make_conversation(Connection(server.socket, ("192.0.2.7", 4242), 1.0)), data)


def get(path: str, *fields: str, method: str = "GET") -> bytes:
    return request(b"", *fields, path=path, method=method)


def part(name: str, *fields: str) -> bytes:
    return "\r\n".join(["--b", f'Content-Disposition: form-data; name="{name}"', *fields, "", "text", ""]).encode()


def unlike(number: int) -> bytes:
    text, long, path = word(number, 40), word(number, 7000), PATHS[number % len(PATHS)]
    kinds = [
        get(f"{path}{text}"),
        get(f"{path}?{text}={text}&mystring={long}"),
        get(path, f"Cookie: {text}={text}; session={long}"),
        get(path, f"Accept: text/{text};q=0.{number % 1000}, {long}/*"),
        get(path, f"Accept-Language: {text[:8]}, {long}", f"Accept-Charset: {text}", f"Accept-Encoding: {text}"),
        get(path, f"Host: {text}.example"),
        get(path, f"Authorization: {text} {long}"),
        get(path, f"{text}: {text}", f"X-{long}: 1"),
        get(path, method=word(number, 12).upper()),
        get("/static/style.css", f'If-None-Match: "{text}"', f"Range: {text}=0-{number}"),
        get(f"/static/{text}.{text}"),
        get(f"/api/weather/{text}"),
        request(f"{text}={long}".encode(), FORM, path=path),
        request(f"{text}={text}".encode(), f"{FORM}; charset={text}", path=path),
        request(f"{text}={text}".encode(), f"Content-Type: {text}/{text}", path=path),
        request(part(text, f"Content-Type: text/plain; charset={text}") + b"--b--\r\n", PARTS, path=path),
        request(part(long, f"{text}: {text}") + b"--b--\r\n", PARTS, path=path),
        request(part("a").replace(b"--b", f"--{text}".encode()), f"{PARTS[:-1]}{text}", path=path),
        request(f'{{"{text}":"{long}"}}'.encode(), "Content-Type: application/json", path="/api/base64"),
    ]
    return kinds[number % len(kinds)]


def adversarial(size: int) -> Mapping[str, bytes]:
    made = {}
    for unit in ("a=b&", "a&", "%", "%61", "&", "=", ";", "+", "\x80"):
        made[f"form of {unit!r}"] = request(filled(b"", unit.encode(), b"", size), FORM, path="/bank/login")
        made[f"query of {unit!r}"] = get("/base64/encode?" + unit.strip("\x80") * (7000 // len(unit)))
    for name, piece in (
        ("header", b"a: b\r\n"),
        ("line end", b"\r\n"),
        ("boundary", b"--b\r\n"),
        ("dash", b"-"),
        ("part", part("a")),
    ):
        body = filled(b"--b\r\n", piece, b"\r\n--b--\r\n", size)
        made[f"parts of one {name}"] = request(body, PARTS, path="/bank/login")
    head = get("/environ/").removesuffix(b"\r\n\r\n")
    for name, units in {
        "Accept": ("*/*,", "a/b;c=d,", ";", '"', "a", "text/html;q=0.1,"),
        "Accept-Language": ("a,", "a-b;q=0.1,", "-"),
        "Cookie": ("a=b;", "=", '"\\', "a", ";"),
        "Authorization": ("Basic ", "a=b,", "Digest "),
        "Range": ("1-2,", "-"),
        "If-None-Match": ('"a",', "W/", '"'),
        "If-Modified-Since": ("Sun, ", "9", "(", " "),
        "Content-Type": ("; a=b", "multipart/form-data; boundary=", '"', "; a*0=b"),
        "Forwarded": ("for=a;",),
    }.items():
        for path in (b"/environ/", b"/static/style.css", b"/bank/"):
            for unit in units:
                field = filled(
                    head.replace(b"/environ/", path) + f"\r\n{name}: ".encode(), unit.encode(), b"\r\n\r\n", 15_000
                )
                made[f"{name}: {unit!r} {path.decode()}"] = field
    made["deep JSON"] = request(b"[" * size, "Content-Type: application/json", path="/api/base64")
    made["long numbers"] = request(
        filled(b"[", b"9" * 4000, b"]", size, b","), "Content-Type: application/json", path="/api/base64"
    )
    return made


_numbers = itertools.count()


def honest(size: int) -> bytes:
    """Return requests of a browser, one after the other."""
    requests = b""
    while size - len(requests) > 1000:
        requests += get(
            f"/base64/encode?mystring=text{next(_numbers)}",
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "Accept-Language: de,en-US;q=0.7,en;q=0.3",
            f"Cookie: session={'a' * 100}",
        )
    return requests


GRAMMARS = (Grammar("HTTP to a site on WSGI", serve, unlike, honest, adversarial, SIZE),)
